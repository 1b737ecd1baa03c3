"""Test videos, drawn with numpy and written with PyAV: every property is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, cast

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

Turn = Literal[0, 90, 180, 270]
"""Degrees clockwise."""
BASE_PX = 1536
"""Side of the square texture that pictures are windows of."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """How a test video is written.

    Attributes:
        fps: Frames per second; with ``times_ms`` only the header's rate.
        times_ms: Presentation times in milliseconds, for variable frame rates.
        first_pts: Added to every pts, in units of the time base.
        codec: FFmpeg's encoder.
        pix_fmt: Stored pixel format.
        gop_frames: Frames between keyframes.
        b_frames: Consecutive B frames (libx264, mpeg2video).
        open_gop: libx264: keyframes whose leading frames refer to the group before.
        crf: libx264 quality.
        turn_deg: Clockwise turn that display has to apply.
        sar: Sample aspect ratio.
        interlaced: Top field first.
        tone: Sound, or None.
    """

    fps: float = 24
    times_ms: Sequence[int] | None = None
    first_pts: int = 0
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    gop_frames: int = 12
    b_frames: int = 2
    open_gop: bool = False
    crf: int = 12
    turn_deg: Turn = 0
    sar: Fraction | None = None
    interlaced: bool = False
    tone: Tone | None = None

    def options(self) -> dict[str, str]:
        """Encoder options."""
        if self.codec == "libx264":
            params = f"scenecut=0:keyint={self.gop_frames}:min-keyint={self.gop_frames}"
            params += f":open-gop={int(self.open_gop)}:bframes={self.b_frames}:b-adapt=0"
            params += ":tff=1" if self.interlaced else ""
            return {"preset": "ultrafast", "crf": str(self.crf), "x264-params": params}
        options = {"g": str(self.gop_frames), "b": "6M"}
        if self.codec == "mpeg2video":
            options["bf"] = str(self.b_frames)
        return options


@dataclass(frozen=True, kw_only=True)
class Tone:
    """A beep in silence.

    Attributes:
        start_s: First sounding second.
        end_s: First silent second after.
        total_s: Length of the sound track.
        rate_hz: Sampling rate.
        codec: FFmpeg's encoder.
    """

    start_s: float
    end_s: float
    total_s: float
    rate_hz: int = 44_100
    codec: str = "aac"

    def samples(self) -> np.ndarray:
        """float32 [1, n]."""
        time_s = np.arange(round(self.total_s * self.rate_hz)) / self.rate_hz
        on = (time_s >= self.start_s) & (time_s < self.end_s)
        return (0.5 * np.sin(2 * np.pi * 1000 * time_s) * on).astype(np.float32)[None]


def write_video(path: Path, pictures: Iterable[np.ndarray], how: Recording | None = None) -> Path:
    """Write uint8 RGB pictures [h, w, 3] as a video; the container follows the suffix."""
    how = how or Recording()
    rate = Fraction(how.fps).limit_denominator(1001)
    unit = Fraction(1, 1000) if how.times_ms is not None else 1 / rate
    with av.open(str(path), "w") as out:
        stream = cast(VideoStream, out.add_stream(how.codec, rate=rate, options=how.options()))
        sound = _add_sound(out, how.tone)
        context = stream.codec_context
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = how.pix_fmt
                context.thread_count = 1
                if how.times_ms is not None:
                    context.time_base = unit
                if how.sar is not None:
                    context.sample_aspect_ratio = how.sar
                if how.interlaced:
                    context.flags |= 0x20000000 | 0x40000  # interlaced motion and DCT
                if how.turn_deg:
                    stream.set_display_rotation(-how.turn_deg)
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = how.first_pts + (how.times_ms[index] if how.times_ms else index)
            frame.time_base, frame.pict_type = unit, PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None and how.tone is not None:
            _write_sound(out, sound, how.tone)
    return path


def _add_sound(out: OutputContainer, tone: Tone | None) -> AudioStream | None:
    if tone is None:
        return None
    sound = cast(AudioStream, out.add_stream(tone.codec, rate=tone.rate_hz))
    sound.codec_context.layout = "mono"
    return sound


def _write_sound(out: OutputContainer, sound: AudioStream, tone: Tone) -> None:
    samples = tone.samples()
    for at in range(0, samples.shape[1], 1024):
        part = np.ascontiguousarray(samples[:, at : at + 1024])
        frame = AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = tone.rate_hz, at
        frame.time_base = Fraction(1, tone.rate_hz)
        out.mux(sound.encode(frame))
    out.mux(sound.encode(None))


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A camera over a texture; every speed is independent of picture size and frame rate.

    Attributes:
        pan_per_s: Shift to the right, frame diagonals per second.
        tilt_per_s: Shift downwards.
        zoom_per_s: Relative growth of the content per second.
        roll_per_s: Clockwise turn of the content, radians per second.
        blur: Standard deviation of a blur, as a share of the diagonal.
        square_per_s: Speed of a bright square over the picture, diagonals per second; None: no
            square.
        seed: Which texture.
    """

    pan_per_s: float = 0.0
    tilt_per_s: float = 0.0
    zoom_per_s: float = 0.0
    roll_per_s: float = 0.0
    blur: float = 0.0
    square_per_s: float | None = None
    seed: int = 0

    def shoot(self, width_px: int, height_px: int, times_s: Iterable[float]) -> list[np.ndarray]:
        """Pictures at the given times."""
        return [self.picture(width_px, height_px, t) for t in times_s]

    def picture(self, width_px: int, height_px: int, time_s: float) -> np.ndarray:
        """The uint8 RGB picture [h, w, 3] at a time."""
        base = texture(self.seed)
        diagonal = float(np.hypot(width_px, height_px))
        # The picture's diagonal covers half the texture's side: base pixels per picture pixel.
        scale = 0.5 * BASE_PX / diagonal / (1 + self.zoom_per_s * time_s)
        turn = self.roll_per_s * time_s
        cos, sin = scale * np.cos(turn), scale * np.sin(turn)
        centre = np.array([0.3, 0.3]) + 0.5 * time_s * np.array([self.pan_per_s, self.tilt_per_s])
        middle = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
        linear = np.array([[cos, sin], [-sin, cos]])
        shift = centre * BASE_PX - linear @ middle
        matrix = np.column_stack([linear, shift])
        # Twice the size, then averaged: no aliasing at any size.
        fine = np.column_stack([matrix[:, :2] / 2, matrix[:, 2] - matrix[:, :2].sum(1) / 4])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (2 * width_px, 2 * height_px)
        image = cv2.warpAffine(base, fine, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
        image = cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA)
        if self.blur:
            image = cv2.GaussianBlur(image, (0, 0), self.blur * diagonal)
        if self.square_per_s is not None:
            side = round(0.16 * diagonal)
            x = round((0.1 + self.square_per_s * time_s) * diagonal)
            y = round(0.15 * diagonal)
            grain = texture(self.seed + 1)[:512:8, :512:8]
            spot = cv2.resize(255 - grain // 2, (side, side), interpolation=cv2.INTER_AREA)
            image[y : y + side, x : x + side] = spot[:, : max(0, width_px - x)]
        return image


_TEXTURES: dict[int, np.ndarray] = {}


def texture(seed: int) -> np.ndarray:
    """A coloured cloud of several scales, uint8 RGB [BASE_PX, BASE_PX, 3], the same every time."""
    if seed not in _TEXTURES:
        rng = np.random.default_rng(seed)
        total = np.zeros((BASE_PX, BASE_PX, 3), np.float32)
        for cells, weight in ((8, 1.0), (24, 0.7), (72, 0.5), (200, 0.3)):
            small = rng.standard_normal((cells, cells, 3)).astype(np.float32)
            total += weight * cv2.resize(small, (BASE_PX, BASE_PX), interpolation=cv2.INTER_CUBIC)
        tint = rng.uniform(80, 170, 3)
        _TEXTURES[seed] = np.clip(tint + 38 * total, 0, 255).astype(np.uint8)
    return _TEXTURES[seed]


@dataclass
class Reel:
    """Pictures of several shots in a row, with the frames where something happens.

    Attributes:
        pictures: uint8 RGB pictures.
        cuts: First new frame of each hard cut.
        fades: First and last + 1 frame of each stretch below one per cent of the light.
    """

    width_px: int = 160
    height_px: int = 96
    fps: float = 24
    pictures: list[np.ndarray] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    fades: list[tuple[int, int]] = field(default_factory=list)

    def shot(self, seconds: float, camera: Camera) -> Reel:
        """Add a shot after a hard cut."""
        if self.pictures:
            self.cuts.append(len(self.pictures))
        self._add(seconds, camera)
        return self

    def fade(
        self, seconds: float, camera: Camera, ramp_s: float = 0.5, dark_s: float = 0.25
    ) -> Reel:
        """Fade the last shot out, stay dark, and fade a new shot in."""
        ramp, dark = round(ramp_s * self.fps), round(dark_s * self.fps)
        for i in range(1, ramp + 1):
            self.pictures[-i] = (self.pictures[-i] * ((i - 1) / ramp)).astype(np.uint8)
        start = len(self.pictures) - 1
        self.pictures += [np.zeros_like(self.pictures[0])] * dark
        first = len(self.pictures)
        self._add(seconds, camera)
        for i in range(ramp):
            self.pictures[first + i] = (self.pictures[first + i] * (i / ramp)).astype(np.uint8)
        self.fades.append((start, first + 1))
        return self

    def _add(self, seconds: float, camera: Camera) -> None:
        times = np.arange(round(seconds * self.fps)) / self.fps
        self.pictures += camera.shoot(self.width_px, self.height_px, times)


def read_pictures(path: Path | str) -> tuple[list[int], list[np.ndarray]]:
    """All frames by a plain decode: pts, and grey pictures [h, w] unrotated."""
    pts, pictures = [], []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            pts.append(cast(int, frame.pts))
            pictures.append(frame.to_ndarray(format="gray"))
    return pts, pictures


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures in dB."""
    error = np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
