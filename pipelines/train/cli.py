"""``clipmill train``: train what a YAML file says, in a folder that can be gone on with."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

NOT_FINISHED = 1


def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="YAML of a training, or preset: vae-small.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings, e.g. data.sources.0.root=OUT steps=200"
        ),
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="Folder of the run; one that stands is gone on with.")
    ] = "runs/vae",
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop after so many steps of this run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a video VAE on shards; run the same command again to go on after a kill.

    SIGTERM and Ctrl-C end it after the step under way, with a checkpoint. The exit code is 0 when
    the training is complete, 1 when it was stopped before.
    """
    from pipelines.train.curves import draw_curves
    from pipelines.train.show import print_report, train_progress
    from training.vae.settings_file import read_training
    from training.vae.trainer import VaeTrainer

    wanted = read_training(config, settings or [])
    folder = Path(out)
    with (
        train_progress(wanted.steps, quiet=quiet or as_json) as told,
        _stopped_by_signals() as stopped,
    ):
        report = VaeTrainer(wanted, folder, told, stopped.is_set).run(steps=max_steps)
    curves = draw_curves(folder)
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"curves": str(curves) if curves else None}))
    else:
        print_report(report, folder, curves, Console(highlight=False, soft_wrap=True))
    raise typer.Exit(0 if report.finished else NOT_FINISHED)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second one of a kind does what it always does."""
    event, before = threading.Event(), {}

    def stop(kind: int, _: object) -> None:
        signal.signal(kind, before[kind])
        event.set()

    for kind in (signal.SIGTERM, signal.SIGINT):
        before[kind] = signal.signal(kind, stop)
    try:
        yield event
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill train vae-small data.sources.0.root=data --out runs/vae[/]"
        "; [bold]clipmill train mine.yaml steps=200 optimizer.lr=5e-4 --json[/]"
    )(train)
