"""The shot network: per-frame probabilities of cut, dissolve, fade and wipe, in NumPy.

A small network of our own (173,000 weights, in the repository with the script that made them,
``infra/shotnet``). It tells what TransNetV2 does not: wipes and fades from dissolves, and flashes,
shakes and passing objects from changes of shot. Works on 48x27 thumbnails.
Cost: about 0.3 ms a frame on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import load_file
from threadpoolctl import ThreadpoolController

WIDTH_PX, HEIGHT_PX = 48, 27
CLASSES = ("none", "cut", "dissolve", "fade", "wipe")
LAGS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
CHANNELS = (16, 32, 32)
CELLS = (4, 6)
NUM_CELLS = CELLS[0] * CELLS[1]
NUM_PATCHES = 12
WIDTH = 96
DILATIONS = (1, 2, 4, 8)
CONTEXT_FRAMES = (max(LAGS) + 1) // 2 + sum(DILATIONS)
"""Frames on either side that a frame's probabilities depend on."""
WEIGHTS_PATH = Path(__file__).with_name("shotnet.safetensors")


class Description(NamedTuple):
    """What the network keeps of frames.

    Attributes:
        cells: float32 [n, 24, 32], unit vectors that describe parts of the picture.
        small: float32 [n, 9, 16, 3], the picture, 0-1.
        light: float32 [n, 2], mean and standard deviation of the picture.
    """

    cells: np.ndarray
    small: np.ndarray
    light: np.ndarray


class ShotNet:
    """The trained network; stateless, so any chunk with its context gives the same numbers."""

    def __init__(self, path: Path = WEIGHTS_PATH) -> None:
        self._blas = ThreadpoolController()
        w = {name: value.astype(np.float32) for name, value in load_file(path).items()}
        self._encoder = [
            (_as_matrix(w[f"encoder.{i}.weight"]), w[f"encoder.{i}.bias"], 2 if i < 2 else 1)
            for i in range(len(CHANNELS))
        ]
        self._inlet = w["inlet.weight"].T.copy(), w["inlet.bias"]
        self._temporal = [
            (w[f"temporal.{i}.weight"].transpose(2, 1, 0).copy(), w[f"temporal.{i}.bias"])
            for i in range(len(DILATIONS))
        ]
        self._outlet = w["outlet.weight"].T.copy(), w["outlet.bias"]

    def describe(self, thumbs: np.ndarray) -> Description:
        """What the network keeps of frames uint8 [n, 27, 48, 3], RGB."""
        # With more threads than one, the last bits of a product depend on how many there are.
        with self._blas.limit(limits=1, user_api="blas"):
            return self._describe(thumbs)

    def _describe(self, thumbs: np.ndarray) -> Description:
        x = thumbs.astype(np.float32) / 255
        flat = x.reshape(len(x), -1)
        mean, std = flat.mean(1), flat.std(1)
        even = (x - mean[:, None, None, None]) / (std[:, None, None, None] + 0.05)
        h = np.concatenate([x - 0.5, even], axis=3)
        for i, (matrix, bias, stride) in enumerate(self._encoder):
            h = _convolve(h, matrix, bias, stride)
            if i < 2:
                np.maximum(h, 0, out=h)
        # Sums instead of means over 2x2 patches: only directions are compared.
        cells = np.add.reduceat(h, np.arange(0, h.shape[1], 2), axis=1)
        cells = np.add.reduceat(cells, np.arange(0, h.shape[2], 2), axis=2)
        cells = cells.reshape(len(x), NUM_CELLS, -1)
        norm = np.linalg.norm(cells, axis=2, keepdims=True)
        small = x.reshape(len(x), HEIGHT_PX // 3, 3, WIDTH_PX // 3, 3, 3).mean((2, 4))
        light = np.stack([mean, std], axis=1)
        return Description(cells / np.maximum(norm, 1e-6), small, light)

    def probabilities(self, frames: Description) -> np.ndarray:
        """Probabilities of consecutive frames, float32 [n, 5] in the order of ``CLASSES``.

        Those within ``CONTEXT_FRAMES`` of either end know the frames beyond only as copies of
        the first and last.
        """
        with self._blas.limit(limits=1, user_api="blas"):
            return self._probabilities(frames)

    def _probabilities(self, frames: Description) -> np.ndarray:
        cells, small, light = frames
        num = len(cells)
        time = np.arange(num)
        alike, changed, bent = [], [], []
        for lag in LAGS:
            early = (time - (lag + 1) // 2).clip(0)
            late = (time + lag // 2).clip(max=num - 1)
            alike.append(np.einsum("tcd,tcd->tc", cells[early], cells[late]))
            changed.append(_patches(np.abs(small[late] - small[early])))
            bent.append(_patches(np.abs(small - (small[early] + small[late]) / 2)))
        h = (
            np.concatenate([*alike, *changed, *bent, light], axis=1) @ self._inlet[0]
            + self._inlet[1]
        )
        np.maximum(h, 0, out=h)
        for dilation, (taps, bias) in zip(DILATIONS, self._temporal, strict=True):
            padded = np.pad(h, ((dilation, dilation), (0, 0)), mode="edge")
            new = sum(padded[k * dilation : k * dilation + num] @ taps[k] for k in range(3)) + bias
            h = h + np.maximum(new, 0)
        logits = h @ self._outlet[0] + self._outlet[1]
        logits -= logits.max(1, keepdims=True)
        odds = np.exp(logits)
        return (odds / odds.sum(1, keepdims=True)).astype(np.float32)


def _patches(x: np.ndarray) -> np.ndarray:
    """Means [n, 12] over patches and colours of [n, 9, 16, 3]."""
    return x.reshape(len(x), 3, 3, 4, 4, 3).mean((2, 4, 5)).reshape(len(x), -1)


def _as_matrix(kernel: np.ndarray) -> np.ndarray:
    """A convolution kernel [out, in, 3, 3] as a matrix [3 * 3 * in, out]."""
    return kernel.transpose(2, 3, 1, 0).reshape(-1, kernel.shape[0]).copy()


def _convolve(x: np.ndarray, matrix: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """3x3 convolution of [n, h, w, c] with zero padding, as one matrix product."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
    shape = windows.shape[:3]
    return (windows.reshape(np.prod(shape), -1) @ matrix + bias).reshape(*shape, -1)
