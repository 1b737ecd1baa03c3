"""Autoencoders side by side: what they keep of held-out footage, how fast, in how much memory.

    python -m tests.bench.vae VIDEO... [--frames 17] [--lines 256] [--pictures FOLDER]

The same frames for all: the middle of each video at 12 frames per second and 256 lines. Speed and
memory are measured in a process of its own for each autoencoder, on the first clip. Wan's is of
full size with random weights: nobody can tell its quality here. ``taef2`` is looked for in the
folder that ``CLIPMILL_MODELS`` names. With ``--pictures``, each clip at the size it has on file:
the original, its reconstruction by the shipped VAE, and what differs, eight times as strong, as
WebP; original and reconstruction side by side (or one above the other) as MP4.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from training.models.autoencoder import Autoencoder
from training.models.open_autoencoder import open_autoencoder
from training.models.vae import SHIPPED, open_vae
from training.models.vae_network import TEMPORAL
from training.models.vae_stream import DecoderStream, EncoderStream
from training.vae.measure import Quality, quality_of

FPS = 12.0
SIDE = 16
WAN = "wan-random"
KINDS = (SHIPPED, "taef2", WAN)
ERROR_GAIN = 8
STREAMED = (40, 400)
"""Frames of the streams whose memory is compared."""


def read_clip(path: Path, frames: int, lines: int | None) -> Tensor:
    """Frames from the middle of a video, (1, 3, T, H, W) in [-1, 1]; None: at its own size."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        height, width = stream.height, stream.width
        factor = 1.0 if lines is None else lines / height
        height, width = (round(side * factor) // SIDE * SIDE for side in (height, width))
        length_s = float((stream.duration or 0) * (stream.time_base or 0)) or 5.0
        next_s = max(0.0, length_s / 2 - frames / FPS / 2)
        pictures = []
        for frame in file.decode(stream):
            if frame.time is None or frame.time < next_s - 1e-6:
                continue
            picture = frame.to_ndarray(width=width, height=height, format="rgb24", interpolation=4)
            pictures.append(torch.from_numpy(picture))
            next_s += 1 / FPS
            if len(pictures) == frames:
                break
    if len(pictures) < frames:
        raise SystemExit(f"{path} has {len(pictures)} frames from its middle on, not {frames}")
    return torch.stack(pictures).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def open_kind(kind: str) -> Autoencoder:
    """One of ``KINDS``."""
    if kind != WAN:
        return open_autoencoder(kind)
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    from training.models.autoencoder_diffusers import diffusers_autoencoder

    torch.manual_seed(0)
    return diffusers_autoencoder(AutoencoderKLWan(), WAN)


def quality(kind: str, clips: list[Path], frames: int, lines: int) -> list[Quality]:
    """Of the reconstruction of each clip from the posterior's mean."""
    autoencoder, found = open_kind(kind), []
    for path in clips:
        video = read_clip(path, frames, lines)
        made = autoencoder.decode(autoencoder.encode(video).mean)
        found.append(quality_of(video, made, autoencoder.spec.temporal_stride))
    return found


def speed(kind: str, clip: Path, frames: int, lines: int, repeats: int) -> dict[str, Any]:
    """Frames per second, best of some; memory that encoding and decoding add, MB."""
    video = read_clip(clip, frames, lines)
    autoencoder = open_kind(kind)
    before = _peak_mb(reset=True)
    encode_s, decode_s, latents = [], [], torch.empty(0)
    for _ in range(repeats):
        began = time.perf_counter()
        latents = autoencoder.encode(video).mean
        middle = time.perf_counter()
        autoencoder.decode(latents)
        encode_s.append(middle - began)
        decode_s.append(time.perf_counter() - middle)
    networks = [n for n in vars(autoencoder).values() if isinstance(n, torch.nn.Module)]
    return {
        "weights": sum(p.numel() for network in networks for p in network.parameters()),
        "encode_frames_per_s": frames / min(encode_s),
        "decode_frames_per_s": frames / min(decode_s),
        "memory_mb": _peak_mb() - before,
        "latent_numbers": latents.numel(),
        "pixel_numbers": video.numel(),
    }


def stream_memory_mb(num_frames: int, lines: int) -> float:
    """Memory that a stream of so many frames adds: encoded and decoded as they come, none kept."""
    vae = open_vae()
    network, width = vae.network, lines * 16 // 9 // SIDE * SIDE
    encoder, decoder = EncoderStream(network), DecoderStream(network)
    before = _peak_mb(reset=True)
    for number in range(num_frames // TEMPORAL):
        frames = torch.rand(1, 3, TEMPORAL if number else TEMPORAL + 1, lines, width) * 2 - 1
        decoder.push(encoder.push(frames)[0])
    return _peak_mb() - before


def _peak_mb(*, reset: bool = False) -> float:
    """The most memory this process has held, MB (Linux); ``reset`` forgets what was before."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All autoencoders; quality of those with trained weights."""
    found: dict[str, Any] = {}
    for kind in KINDS:
        few, repeats = (5, 1) if kind == WAN else (args.frames, args.repeats)
        row = _apart("--speed", kind, "--frames", few, "--repeats", repeats, args)
        if row is None:
            continue
        if kind != WAN:
            clips = quality(kind, args.videos, args.frames, args.lines)
            row["clips"] = {
                path.name: vars(one) for path, one in zip(args.videos, clips, strict=True)
            }
        found[kind] = row
    return found


def _apart(*given: Any) -> Any:  # noqa: ANN401 - numbers, and what was printed as JSON
    """A measurement in a process of its own; None, and why, when it fails."""
    *flags, args = given
    command = [sys.executable, "-m", "tests.bench.vae", "--lines", args.lines, *flags]
    done = subprocess.run(
        [str(part) for part in [*command, args.videos[0]]], capture_output=True, text=True
    )
    if done.returncode:
        print(
            f"{flags[1]}: left out: {(done.stderr.strip() or 'killed').splitlines()[-1]}",
            file=sys.stderr,
        )
        return None
    return json.loads(done.stdout)


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    print(
        "autoencoder | M weights | numbers: pixels to latent | PSNR dB | SSIM | change ratio | "
        "seam ratio | encode frames/s | decode frames/s | memory MB"
    )
    for kind, row in found.items():
        clips = list(row.get("clips", {}).values())
        cells = [kind, f"{row['weights'] / 1e6:.1f}" if row["weights"] else "-"]
        cells.append(f"{row['pixel_numbers'] / row['latent_numbers']:.1f}")
        for name, digits in (("psnr_db", 2), ("ssim", 3), ("change_ratio", 3), ("seam_ratio", 2)):
            values = [clip[name] for clip in clips if clip[name] is not None]
            cells.append(f"{mean(values):.{digits}f}" if values else "-")
        cells += [f"{row[f'{way}_frames_per_s']:.2f}" for way in ("encode", "decode")]
        print(" | ".join([*cells, f"{row['memory_mb']:.0f}"]))
    for kind, row in found.items():
        for name, clip in row.get("clips", {}).items():
            said = (
                f"{what} {'-' if value is None else f'{value:.3f}'}" for what, value in clip.items()
            )
            print(f"{kind} {name}: {', '.join(said)}")


def draw(videos: list[Path], folder: Path) -> None:
    """Original, reconstruction and difference of a frame of each clip, at full size."""
    autoencoder = open_autoencoder(SHIPPED)
    folder.mkdir(parents=True, exist_ok=True)
    for path in videos:
        video = read_clip(path, 9, None)
        made = autoencoder.decode(autoencoder.encode(video).mean)
        number = 6  # in the middle of a latent frame
        one, other = (_picture(v[0, :, number]) for v in (video, made))
        error = np.clip(np.abs(one.astype(int) - other) * ERROR_GAIN, 0, 255).astype(np.uint8)
        stacked = np.concatenate([one, other, error], 0 if one.shape[1] > 720 else 1)
        target = folder / f"{path.stem}.webp"
        cv2.imwrite(str(target), stacked[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 92])
        _write_video(
            folder / f"{path.stem}.mp4", torch.cat([video, made], 4 - (one.shape[1] > 720))
        )
        found = quality_of(video, made, autoencoder.spec.temporal_stride)
        height, width = one.shape[:2]
        print(f"{target}: {width}x{height}, {found.psnr_db:.2f} dB, SSIM {found.ssim:.3f}")


def _write_video(path: Path, video: Tensor) -> None:
    """Write a video (1, 3, T, H, W) nearly without loss."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=round(FPS), options={"crf": "12"})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = *video.shape[-2:], "yuv420p"
        for number in range(video.shape[2]):
            frame = av.VideoFrame.from_ndarray(_picture(video[0, :, number]), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def _picture(frame: Tensor) -> np.ndarray:
    return ((frame.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--lines", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--speed", choices=KINDS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.stream:
        print(json.dumps(stream_memory_mb(args.stream, args.lines)))
        return
    if args.speed:
        print(json.dumps(speed(args.speed, args.videos[0], args.frames, args.lines, args.repeats)))
        return
    found = measure(args)
    memory = {str(n): _apart("--stream", n, args) for n in STREAMED}
    if args.json:
        print(json.dumps({"autoencoders": found, "stream_memory_mb": memory}))
    else:
        show(found)
        told = ", ".join(f"{n} frames {mb:.0f} MB" for n, mb in memory.items() if mb is not None)
        print(f"memory of a stream through {SHIPPED}: {told}")
    if args.pictures:
        draw(args.videos, args.pictures)


if __name__ == "__main__":
    main()
