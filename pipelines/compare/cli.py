"""``clipmill compare``: parse, compare, print; exit code 1 when a ``--fail-if`` holds."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.errors import ClipmillError

OK, FAILED, CRASHED = 0, 1, 2
SIDE_HELP = "OUT, OUT@TAG (a release), OUT@RUN_ID, OUT@latest or OUT@latest~1 (the run before)."


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help=f"Before: {SIDE_HELP}")],
    b: Annotated[str, typer.Argument(metavar="B", help="After: the same.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="EXPR",
            help="End with exit code 1 when this holds; may be repeated. kept.hours is B as a "
            "multiple of A; a.kept.hours and b.kept.hours are the values, delta.kept.clips is "
            "B less A; lost.clips, lost.share, gained.clips; shift.COLUMN is the "
            "Kolmogorov-Smirnov statistic, effect.COLUMN Cohen's d. + - * /, and or not.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with pictures of what changed.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Say what changed between two datasets, runs or releases.

    Exit codes: 0 compared; 1 compared, and a --fail-if holds; 2 could not be compared.
    """
    from pipelines.compare.comparison import compare as run
    from pipelines.compare.page import write_page
    from pipelines.compare.scratch import Scratch
    from pipelines.compare.terminal import print_comparison

    try:
        with _steps(quiet or as_json) as on_step, Scratch() as scratch:
            found = run(a, b, fail_if or [], scratch=scratch, on_step=on_step)
            if html is not None:
                on_step("drawing the page")
                write_page(found, scratch, html)
    except ClipmillError:
        raise
    except Exception:
        # Exit code 1 means that a gate failed: a crash must not look like that to a machine.
        traceback.print_exc()
        raise typer.Exit(CRASHED) from None
    if as_json:
        data = found.as_dict() | {"html": str(html) if html else None}
        typer.echo(json.dumps(data, default=str, ensure_ascii=False, allow_nan=False))
    else:
        console = Console()
        print_comparison(found, console)
        if html is not None:
            console.print("page:", str(html), markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(FAILED if found.failed else OK)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill compare data@latest~1 data[/]; "
        "[bold]clipmill compare data@v1 data@v2 --html changes.html[/]; "
        '[bold]clipmill compare old new --fail-if "kept.hours < 0.9 or lost.share > 0.05"[/]'
    )(compare)


@contextmanager
def _steps(quiet: bool) -> Iterator[Callable[[str], None]]:
    """What is being done, while it is: a spinner in a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    console = Console(stderr=True)
    with console.status("comparing") as status:
        yield lambda text: status.update(text)
