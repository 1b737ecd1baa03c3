"""Videos that a training makes along the way: MP4s, and one strip of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.denoiser import About
from training.diffusion.guidance import Guidance
from training.encoders import Encoders
from training.files import write_text
from training.generate import Generator
from training.models.dit import Dit
from training.pictures import Frame, spread, strip, strip_png, write_mp4
from training.request import Request
from training.settings import SampleSettings

FOLDER = "samples"


@dataclass(frozen=True)
class Made:
    """What was made.

    Attributes:
        files: MP4s, one for each prompt.
        strip: Frames over time, uint8 (H, W, 3), a row for each prompt; beside the files as PNG.
    """

    files: list[Path]
    strip: Frame


class SampleMaker:
    """Makes videos of the settings' prompts.

    Args:
        settings: Which.
        encoders: Of the training.
        autocast: Of the training.
    """

    def __init__(self, settings: SampleSettings, encoders: Encoders, autocast: str) -> None:
        self._settings, self._encoders, self._autocast = settings, encoders, autocast

    def make(self, network: Dit, about: About, out: Path) -> Made:
        """Write ``samples/step-000100-00.mp4`` and so on, with their prompts, and a strip.

        Args:
            network: With the weights that are to be used.
            about: Of it; the steps name the files.
            out: Folder of the run.
        """
        encoders, settings = self._encoders, self._settings
        generator = Generator(
            network,
            about,
            encoders.autoencoder,
            encoders.text_encoder,
            device=encoders.device,
            autocast=self._autocast,
        )
        shape = generator.shape()
        request = Request(
            prompts=settings.prompts,
            **shape.model_dump(),
            num_steps=settings.num_steps,
            guidance=Guidance(scale=settings.guidance),
        )
        (out / FOLDER).mkdir(exist_ok=True)
        stem, files, rows = f"step-{about.steps:06d}", [], []
        for number, frames in enumerate(generator.generate(request)):
            path = out / FOLDER / f"{stem}-{number:02d}.mp4"
            write_mp4(path, frames, shape.fps)
            files.append(path)
            rows.append([frames[n] for n in spread(len(frames))])
        write_text(out / FOLDER / "prompts.txt", "\n".join(settings.prompts) + "\n")
        strip_png(out / FOLDER / f"{stem}.png", rows, settings.prompts)
        return Made(files, strip(rows, settings.prompts))
