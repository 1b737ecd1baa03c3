"""``clipmill captions``: read them, look at them, and what they cost before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    no_args_is_help=True,
    help="Captions of a dataset: show, sheet, estimate, stats.",
    epilog="Who writes them is set in the configuration: see `clipmill curate --print-config`.",
)
Root = Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. caption.backend.kind=openai"),
]
Flagged = Annotated[bool, typer.Option("--flagged", help="Only clips with a fault found.")]


@app.command(
    epilog="Examples: [bold]clipmill captions show data --limit 5[/]; "
    "[bold]clipmill captions show data --clip 3fa9 --json[/]"
)
def show(
    out: Root,
    clip: Annotated[str | None, typer.Option(help="A clip's id, or how it begins.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most clips shown.")] = 10,
    flagged: Flagged = False,
    as_json: Json = False,
) -> None:
    """Print the texts of clips, what was measured, what is wrong, and who wrote them."""
    from curation.catalog.catalog import Catalog
    from curation.catalog.views import Views
    from pipelines.captions_rows import clip_texts

    catalog = Catalog.open(out)
    clips = clip_texts(catalog, Views(catalog), clip=clip, limit=limit, flagged=flagged)
    if as_json:
        typer.echo(json.dumps(clips, ensure_ascii=False, default=str))
        return
    console = Console()
    for one in clips:
        _print_clip(one, console)
    if not clips:
        console.print("no clip to show")


@app.command(
    epilog="Examples: [bold]clipmill captions sheet data captions.html[/]; "
    "[bold]clipmill captions sheet data faults.png --flagged --limit 40[/]"
)
def sheet(
    out: Root,
    target: Annotated[Path, typer.Argument(metavar="PNG_OR_HTML", help="File to write.")],
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most clips shown.")] = 24,
    flagged: Flagged = False,
    as_json: Json = False,
) -> None:
    """Draw frames of clips beside their captions: look before a captioner is trusted."""
    from pipelines.captions_sheet import make_captions_sheet

    clips = make_captions_sheet(out, target, limit=limit, flagged=flagged)
    if as_json:
        told = {"file": str(target), "clip_ids": [c["clip_id"] for c in clips]}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        Console().print(f"{len(clips)} clips: {escape(str(target))}", soft_wrap=True)


@app.command(
    epilog="Examples: [bold]clipmill captions estimate data[/]; [bold]clipmill captions estimate "
    "data caption.backend.kind=openai caption.backend.model=gpt-4.1-mini "
    "'caption.backend.price={input_per_mtok: 0.4, output_per_mtok: 1.6}'[/]"
)
def estimate(out: Root, settings: Keys = None, as_json: Json = False) -> None:
    """Count what a run would caption, and its requests, tokens and money, before it is paid."""
    from curation.catalog.catalog import Catalog
    from pipelines.captions_estimate import estimate_captions
    from pipelines.config import load_config
    from pipelines.redo import stored_config

    base = stored_config(Catalog.open(out))
    found = estimate_captions(out, load_config(None, settings, base=base))
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        _print_estimate(found, Console())


@app.command(epilog="Example: [bold]clipmill captions stats data --json[/]")
def stats(out: Root, as_json: Json = False) -> None:
    """Count what captions took and what is wrong with them: tokens, money, faults, repetitions."""
    from curation.catalog.catalog import Catalog
    from curation.catalog.views import Views
    from pipelines.captions_rows import require_captions
    from pipelines.redo import stored_config
    from pipelines.report.captions import caption_stats

    catalog = Catalog.open(out)
    require_captions(catalog)
    found = caption_stats(catalog, Views(catalog), stored_config(catalog)) or {}
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, default=str))
    else:
        _print_stats(found, Console())


def _print_clip(clip: dict[str, Any], console: Console) -> None:
    from pipelines.captions_rows import writer_label
    from pipelines.captions_sheet import faults_of
    from pipelines.report.words import timecode

    span = f"{timecode(clip['start_s'])} to {timecode(clip['end_s'])}"
    console.rule(escape(f"{clip['file']}  {span}  {clip['verdict']}"), align="left")
    console.print(clip["clip_id"], style="dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for c in clip["captions"]:
        mark = "* " if c["kind"] == clip["default"] else ""
        scope = " (of the whole video)" if c["scope"] == "video" else ""
        table.add_row(escape(f"{mark}{c['kind']}"), escape(c["text"] + scope))
    for name, value in clip["about"].items():
        if name != "events":
            told = ", ".join(value) if isinstance(value, list) else str(value)
            table.add_row(name, escape(told))
    for fault in faults_of(clip):
        table.add_row("fault", f"[red]{escape(fault)}[/]")
    if clip["checks"] and clip["checks"]["alignment"] is not None:
        told = f"{clip['checks']['alignment']:.3f} ({clip['checks']['model']})"
        table.add_row("alignment", escape(told))
    table.add_row("measured", escape(" ".join(clip["told"])))
    table.add_row("by", escape(writer_label(clip["writer"])))
    console.print(table)


def _print_estimate(found: dict[str, Any], console: Console) -> None:
    def line(text: str) -> None:
        console.print(escape(text), highlight=False, soft_wrap=True)

    asks = f", prompt {found['prompt']}" if found["prompt"] else ""
    line(f"{found['backend']}: {found['model']}{asks}")
    line(
        f"{found['num_clips']} clips to caption ({found['clip_s']:.1f} s), "
        f"{found['num_done']} of {found['num_kept']} kept clips are done"
    )
    made = found["estimate"]
    if made is None:
        line("no vision-language model: no tokens, no money; milliseconds per clip")
    else:
        for name in ("requests", "input_tokens", "output_tokens"):
            low, high = made[name]
            line(f"{name.replace('_', ' ')}: {low:,} to {high:,}")
        line("money: " + _money(made["money"], made["currency"]))
    if found["measured"]:
        mean, then = found["measured"], found["expected"]
        line(
            f"measured on {mean['num_clips']} captions of this model, per clip: "
            f"{_mean(mean['input_tokens'])} tokens read, {_mean(mean['output_tokens'])} written, "
            f"{mean['busy_s']:.2f} s of work"
        )
        line(f"at that rate: {then['busy_s']:,.1f} s of work")
        if "input_tokens" in then:
            cost = _money(None if then["money"] is None else [then["money"]], then["currency"])
            line(
                f"  {then['input_tokens']:,} tokens read, {then['output_tokens']:,} written; {cost}"
            )
    for note in found["notes"]:
        line(f"note: {note}")


def _print_stats(found: dict[str, Any], console: Console) -> None:
    console.print(f"{found['num_captioned']} of {found['num_kept']} kept clips have a caption")
    for w in found["writers"]:
        _print_writer(w, console)
    _print_counts("not written", found["failed"], console)
    for row in found["lengths"]:
        told = "/".join(f"{row[q]:.0f}" for q in ("words_p5", "words_p50", "words_p95"))
        console.print(f"{row['kind']}: {told} words (5 %, median, 95 %)", highlight=False)
    if checks := found["checks"]:
        for kind, key in (("flagged", "flags"), ("contradicted", "contradictions")):
            counts = {g["name"]: g["num_clips"] for g in checks[key]}
            _print_counts(f"{kind} {checks[f'num_{kind}']}", counts, console)
        _print_counts("languages", checks["languages"], console)
        if aligned := checks["alignment"]:
            told = ", ".join(f"{q} {aligned[q]:.3f}" for q in ("p5", "p25", "p50", "p75", "p95"))
            console.print(escape(f"alignment ({aligned['model']}): {told}"), highlight=False)
    if (same := found["duplicates"]) and same["num_texts"]:
        console.print(
            f"{same['num_clips']} clips share {same['num_texts']} medium captions with others"
        )
    for row in found["speech"]:
        told = f"speech from {row['source']}: {row['num_clips']} clips, {row['num_cues']} cues"
        console.print(escape(told + f", {row['num_warned']} with a warning"), highlight=False)
    for row in found["styles"]:
        told = f"style {row['style']}: {row['num_kept']} kept, {row['num_refused']} refused"
        console.print(escape(told), highlight=False)


def _print_writer(writer: dict[str, Any], console: Console) -> None:
    from pipelines.report.captions import who_wrote

    told = who_wrote(writer) + ("" if writer["current"] else " (of an earlier configuration)")
    tokens = "tokens not counted"
    if writer["num_counted"]:
        tokens = f"{writer['input_tokens']:,} tokens read, {writer['output_tokens']:,} written"
    facts = [
        f"{writer['busy_s']:,.1f} s of work",
        tokens,
        f"{writer['num_asked_again']} asked again",
        f"{writer['num_repaired']} mended",
    ]
    if writer["money"] is not None:
        facts.append(_money([writer["money"]], writer["currency"]))
    console.print(escape(told), highlight=False, soft_wrap=True)
    console.print(escape(f"  {', '.join(facts)}"), highlight=False, soft_wrap=True)


def _print_counts(title: str, counts: dict[str, int], console: Console) -> None:
    if counts:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        console.print(escape(f"{title}: {told}"), highlight=False, soft_wrap=True)


def _money(ends: list[float] | None, currency: str) -> str:
    if ends is None:
        return "no price is set (caption.backend.price)"
    return " to ".join(f"{end:,.4g}" for end in ends) + f" {currency}"


def _mean(value: float | None) -> str:
    return "uncounted" if value is None else f"{value:,.0f}"
