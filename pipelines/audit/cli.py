"""``clipmill audit`` and ``clipmill why``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines.audit.why import Story

Root = Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def audit(
    out: Root,
    html: Annotated[
        str | None, typer.Option("--html", help="Local file instead of OUT/report/audit.html.")
    ] = None,
    max_clips: Annotated[
        int, typer.Option(min=0, max=5000, help="Most clips that can be looked up on the page.")
    ] = 500,
    seed: Annotated[int, typer.Option(help="Of the sample of a larger dataset.")] = 0,
    as_json: Json = False,
) -> None:
    """Write one HTML page that tells why clips were dropped and what would bring them back."""
    from pipelines.audit.page import make_audit
    from pipelines.report.words import plural, size

    with _telling(quiet=as_json) as tell:
        report = make_audit(out, html, max_clips=max_clips, seed=seed, tell=tell)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        console = Console(highlight=False)
        console.print(
            f"{plural(report.num_clips, 'clip')}, {report.num_listed:,} to look up, "
            f"{size(report.num_bytes)}, {sum(report.seconds.values()):.1f} s"
        )
        for text in report.imbalances:
            console.print(f"not balanced: {text}", style="red", markup=False)
        console.print(report.page, markup=False, soft_wrap=True)
    raise typer.Exit(0 if report.balanced else 1)


def why(
    out: Root,
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="Beginning of a clip's id.")],
    as_json: Json = False,
) -> None:
    """Tell why a clip is kept or not, against which thresholds, and what would bring it back."""
    from pipelines.audit.why import why as tell

    story = tell(out, clip)
    if as_json:
        typer.echo(json.dumps(story.as_dict(), default=str, ensure_ascii=False))
        return
    _print_story(story, out, Console(highlight=False))


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill audit data[/]; [bold]clipmill audit data --html a.html[/]"
    )(audit)
    app.command(
        epilog="Examples: [bold]clipmill why data 3f9a[/]; [bold]clipmill why data 3f9a --json[/]"
    )(why)


@contextmanager
def _telling(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with Console(stderr=True).status("audit") as status:
        yield lambda name: status.update(f"audit: {name}")


def _print_story(story: Story, out: str, console: Console) -> None:
    colours = {"kept": "green", "rejected": "yellow", "failed": "red"}
    console.print(f"{story.name}  {story.span}", markup=False, style="bold")
    console.print(f"clip {story.clip_id}", markup=False, style="dim")
    split = f", split {story.split}" if story.split else ""
    colour = colours.get(story.verdict, "")
    console.print(f"{story.verdict}{split}", markup=False, style=colour)
    console.print(story.answer, markup=False, soft_wrap=True)
    if story.likeness is not None:
        where = f" in {story.likeness.reference}" if story.likeness.reference else ""
        text = f"beside it: clip {story.likeness.clip_id}{where}: {story.likeness.words}"
        console.print(text, markup=False, soft_wrap=True)
    if story.settings:
        command = f"clipmill judge {out} {' '.join(story.settings)}"
        console.print(f"\n  {command}", markup=False, soft_wrap=True)
    console.print()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("score", "value", "wanted", ""):
        table.add_column(name, justify="right" if name == "value" else "left")
    for m in story.measured:
        value = "not measured" if m.value is None else _number(m.value)
        mark = {True: Text("passes"), False: Text("fails", "yellow"), None: Text("")}[m.passes]
        table.add_row(Text(m.column), Text(value), Text(m.wanted), mark)
    if story.measured:
        console.print(table)


def _number(value: float | bool | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower()
