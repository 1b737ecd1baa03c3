"""The loop closed, offline: footage, shards, latents, a denoiser trained for minutes, new videos.

    python -m pipelines.closed_loop --out closed-loop-out

Every part is the one that large runs use; only the sizes are small. Run again, it goes on where it
was: what is curated, encoded or trained is not done twice. The last lines tell what the videos show:
the given first frame against the one that came out, and how far two texts move one noise.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from pipelines.demo import OVERRIDES, write_manifest

CONFIG = "closed-loop"
DATA, RUN, VIDEOS, REPORT = "data", "run", "videos", "closed-loop.json"
WINDOWS = 4
STEPS, GUIDANCE = 40, 3.0
SEEDS = (0, 1)


def closed_loop(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")] = Path("closed-loop-out"),
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Of the training.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="ray or inline.")] = "inline",
) -> None:
    """Curate the demo's footage, encode it, train a small denoiser, and make videos."""
    console = Console(highlight=False, soft_wrap=True)
    curated(out / DATA, engine, console)
    fingerprint = encoded(out / DATA, engine, console)
    trained(out, fingerprint, settings or [], console)
    report = sampled(out, fingerprint, console)
    (out / REPORT).write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")


def curated(data: Path, engine: str, console: Console) -> None:
    """Shards of the footage that an installed package carries."""
    from pipelines import summary
    from pipelines.config import load_config
    from pipelines.curate import curate

    manifest = write_manifest(data / "manifest.jsonl")
    config = load_config("full", [*OVERRIDES, f"run.engine={engine}"])
    console.rule("curate")
    report = curate([str(manifest)], str(data), config, quiet=False)
    summary.print_run(report, console)
    if not report.balanced:
        raise typer.Exit(1)


def encoded(data: Path, engine: str, console: Console) -> str:
    """Latents and texts of the clips; the fingerprint of the set."""
    from pipelines.encode.job import encode
    from pipelines.encode.settings import read_encode_settings
    from pipelines.encode.show import print_report

    console.rule("encode")
    options: dict[str, Any] = {"windows": WINDOWS}
    chosen, read = read_encode_settings(CONFIG, [], options)
    report = encode(str(data), chosen, read, engine="inline" if engine == "inline" else "ray")
    print_report(report, console)
    if not report.ok:
        raise typer.Exit(1)
    return report.fingerprint


def trained(out: Path, fingerprint: str, settings: list[str], console: Console) -> None:
    """A denoiser, or the rest of one."""
    from pipelines.train.curves import draw_curves
    from pipelines.train.show import print_report, train_progress
    from training.settings_file import read_training
    from training.trainer import DenoiserTrainer

    console.rule("train")
    overrides = [f"data.sources.0.root={out / DATA}", f"data.latents={fingerprint}"]
    wanted = read_training(CONFIG, [*overrides, *settings])
    assert wanted.kind == "denoiser"
    with train_progress(wanted.steps, quiet=False) as told:
        report = DenoiserTrainer(wanted, out / RUN, told).run()
    print_report(report, out / RUN, draw_curves(out / RUN), console)
