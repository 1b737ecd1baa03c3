"""``clipmill sample``: videos from a trained denoiser, and what made them."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.errors import ConfigError


class Sampler(StrEnum):
    """How to get from noise to a video."""

    EULER = "euler"
    HEUN = "heun"


class Kind(StrEnum):
    """Which weights of a training."""

    EMA = "ema"
    MODEL = "model"


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def sample(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of a run, of one of its checkpoints, or an export."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="FILE.mp4; of several prompts FILE-000.mp4, ...")
    ],
    prompt: Annotated[
        list[str] | None, typer.Option("--prompt", "-p", help="A text; may be given again.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="File with a prompt on each line.")
    ] = None,
    first_frame: Annotated[Path | None, typer.Option(help="Picture that it begins with.")] = None,
    last_frame: Annotated[Path | None, typer.Option(help="Picture that it ends with.")] = None,
    frame: Annotated[
        list[str] | None,
        typer.Option("--frame", metavar="N=FILE", help="Picture of frame N, from 0; repeatable."),
    ] = None,
    extend: Annotated[
        Path | None, typer.Option(help="Video to go on with: its end comes first.")
    ] = None,
    extend_frames: Annotated[
        int | None, typer.Option(help="Frames taken of it; about half of all.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames; as the next three, those of its largest shape.")
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of the sampler.")] = 30,
    sampler: Annotated[
        Sampler, typer.Option(help="heun takes twice as long a step.")
    ] = Sampler.EULER,
    guidance: Annotated[float, typer.Option(help="Weight of the text; 1: no guidance.")] = 4.0,
    guidance_from: Annotated[
        float, typer.Option(help="Lowest share of noise with guidance, 0 to 1.")
    ] = 0.0,
    guidance_to: Annotated[float, typer.Option(help="Highest, likewise.")] = 1.0,
    rescale: Annotated[
        float, typer.Option(help="Against too much contrast of strong guidance, 0 to 1.")
    ] = 0.0,
    shift: Annotated[
        float | None, typer.Option(help="Steps towards more noise; as in training.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts at once.")] = 1,
    weights: Annotated[
        Kind | None, typer.Option(help="The average (as a rule), or the last step's.")
    ] = None,
    vae: Annotated[str | None, typer.Option(help="Where the autoencoder is by now.")] = None,
    text_encoder: Annotated[str | None, typer.Option(help="Likewise the text encoder.")] = None,
    device: Annotated[Device, typer.Option(help="auto takes a GPU if there is one.")] = Device.AUTO,
    strip: Annotated[Path | None, typer.Option(help="PNG: frames of all videos.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Make videos of texts, and of frames that are given.

    Given frames are told to the denoiser as in its training. The same command gives the same video
    on the same machine; a JSON file beside each says what made it.
    """
    from pipelines.sample.given import place_frames, read_pictures
    from pipelines.sample.job import make_samples, target_files
    from pipelines.sample.show import print_sampled, sample_progress

    texts = _prompts(prompt, prompts)
    files = target_files(out, len(texts))
    pictures = read_pictures(first_frame, last_frame, frame)
    _check_files(extend, strip)
    from training.diffusion.guidance import Guidance
    from training.generate import open_generator
    from training.request import Request

    try:
        guide = Guidance(scale=guidance, low=guidance_from, high=guidance_to, rescale=rescale)
    except ValueError as exc:
        raise ConfigError(str(exc), where="--guidance") from exc
    generator = open_generator(
        checkpoint,
        device=device.value,
        weights=weights.value if weights else None,
        vae=vae,
        text_encoder=text_encoder,
    )
    shape = generator.shape(frames=frames, height_px=height, width_px=width, fps=fps)
    given = place_frames(
        pictures,
        shape,
        generator.about.temporal_stride,
        extend=extend,
        extend_frames=extend_frames,
    )
    request = Request(
        prompts=texts,
        **shape.model_dump(),
        given=given.frames,
        seed=seed,
        sampler=sampler.value,
        num_steps=steps,
        guidance=guide,
        shift=shift,
        batch_size=batch_size,
    )
    if not quiet and shape not in generator.about.shapes:
        known = ", ".join(map(_words, generator.about.shapes))
        typer.echo(f"note: {_words(shape)} is no shape of its training: {known}", err=True)
    with sample_progress(steps * -(-len(texts) // batch_size), quiet=quiet or as_json) as told:
        found = make_samples(
            generator,
            request,
            files,
            given=given,
            denoiser={"path": checkpoint, "weights": generator.about.weights},
            strip=strip,
            told=told,
        )
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        print_sampled(found, Console(highlight=False, soft_wrap=True))


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog='Examples: [bold]clipmill sample runs/mine --prompt "a dog runs" --out dog.mp4[/]; '
        "[bold]clipmill sample runs/mine -p waves --first-frame sea.jpg -o sea.mp4[/]; "
        "[bold]clipmill sample model --prompts list.txt --strip all.png -o all.mp4 --seed 7[/]"
    )(sample)


def _prompts(given: list[str] | None, file: Path | None) -> list[str]:
    """Those of the options, then those of the file; blank lines do not count."""
    texts = list(given or [])
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError(f"cannot be read: {exc}", where=f"--prompts {file}") from exc
        texts += [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ConfigError(
            "there is no prompt", mend='--prompt "a dog runs", or --prompts FILE; "" is one too'
        )
    return texts


def _check_files(extend: Path | None, strip: Path | None) -> None:
    """What can be seen to be wrong before a network is loaded."""
    if extend is not None and not extend.is_file():
        raise ConfigError("there is no such file", where=f"--extend {extend}")
    if strip is not None and strip.suffix.lower() != ".png":
        raise ConfigError("is no name of a PNG file", where=f"--strip {strip}")


def _words(shape: object) -> str:
    from training.denoiser import Shape

    assert isinstance(shape, Shape)
    return f"{shape.frames}x{shape.height_px}x{shape.width_px}@{shape.fps:g}"
