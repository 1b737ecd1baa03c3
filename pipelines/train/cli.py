"""``clipmill train``: train what a YAML file says, in a folder that can be gone on with."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from training.log import Told
    from training.settings import DenoiserTraining
    from training.trainer import DenoiserTrainer
    from training.vae.settings import VaeTraining
    from training.vae.trainer import VaeTrainer

NOT_FINISHED = 1


def train(
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="YAML, or a preset: vae-small, dit-debug, ..."),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Settings, e.g. data.sources.0.root=OUT steps=200"
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="Folder of the run; one that stands is gone on with. runs/KIND."
        ),
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", min=1, help="Stop after so many steps of this run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train a denoiser or a video VAE on shards; run it again to go on after a kill.

    SIGTERM and Ctrl-C end it after the step under way, with a checkpoint. The exit code is 0 when
    the training is complete, 1 when it was stopped before.
    """
    from pipelines.train.curves import draw_curves
    from pipelines.train.show import print_report, train_progress
    from training.settings_file import read_training

    wanted = read_training(config, settings or [])
    folder = Path(out or f"runs/{wanted.kind}")
    with (
        train_progress(wanted.steps, quiet=quiet or as_json) as told,
        _stopped_by_signals() as stopped,
    ):
        report = _trainer(wanted, folder, told, stopped).run(steps=max_steps)
    curves = draw_curves(folder)
    if as_json:
        typer.echo(json.dumps(asdict(report) | {"curves": str(curves) if curves else None}))
    else:
        print_report(report, folder, curves, Console(highlight=False, soft_wrap=True))
    raise typer.Exit(0 if report.finished else NOT_FINISHED)


def _trainer(
    wanted: VaeTraining | DenoiserTraining, folder: Path, told: Told, stopped: threading.Event
) -> VaeTrainer | DenoiserTrainer:
    """The trainer of a kind; only its own modules are loaded."""
    if wanted.kind == "vae":
        from training.vae.trainer import VaeTrainer

        return VaeTrainer(wanted, folder, told, stopped.is_set)
    from training.trainer import DenoiserTrainer

    return DenoiserTrainer(wanted, folder, told, stopped.is_set)


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
        "; [bold]clipmill train dit-debug data.sources.0.root=data data.latents=FP[/]"
        "; [bold]clipmill train mine.yaml steps=200 optimizer.lr=5e-4 --json[/]"
    )(train)
