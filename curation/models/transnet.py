"""TransNetV2: the probability of a shot change at every frame, from 48x27 pictures.

The published network (Soucek and Lokoc 2020, arXiv 2008.04838) with its published weights, written
anew for speed. Its 3D convolutions are spatial ones followed by dilated temporal ones with nothing
between, so the four branches share one 2D convolution per layer over all frames, batch norm folds
into the temporal taps, and those are matrix products. Windows of 100 frames with a stride of 50
on a grid from frame 0, of which the middle 50 count, as published.
Cost: see ``tests/bench/transnet.py``; 0.83 GFLOP a frame in a window, each frame is in two.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

WIDTH_PX, HEIGHT_PX = 48, 27
WINDOW_FRAMES, STRIDE_FRAMES = 100, 50
MARGIN_FRAMES = (WINDOW_FRAMES - STRIDE_FRAMES) // 2
BLOCKS, LAYERS = 3, 2
DILATIONS = (1, 2, 4, 8)
LOOKUP_FRAMES = 101
BATCH_NORM_EPS = 1e-3


class _Layer(NamedTuple):
    """A dilated layer: one spatial kernel for all branches, three temporal taps per branch.

    Attributes:
        spatial: [4 * 2f, c, 3, 3].
        taps: [branch, tap, 2f, f], batch norm's scale inside.
        bias: [4 * f].
    """

    spatial: torch.Tensor
    taps: torch.Tensor
    bias: torch.Tensor


class TransNet:
    """TransNetV2 with published weights.

    Args:
        path: The weights file (see ``curation.models.registry``).
        device: ``cpu`` or a torch device.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        self.device = torch.device(device)
        state = torch.load(path, map_location="cpu", weights_only=True)
        self._state = {name: value.float().to(self.device) for name, value in state.items()}
        self._layers = [
            [self._fold(f"SDDCNN.{b}.DDCNN.{i}") for i in range(LAYERS)] for b in range(BLOCKS)
        ]

    @torch.inference_mode()
    def windows(self, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities for whole windows.

        Args:
            thumbs: uint8 [b, t, 27, 48, 3], RGB.

        Returns:
            Two float32 [b, t]: of a change at this frame, and of belonging to a transition.
        """
        # One window at a time on a CPU: the activations of more do not fit its caches.
        chunk = 1 if self.device.type == "cpu" else 16
        parts = [self._forward(torch.from_numpy(part)) for part in _chunks(thumbs, chunk)]
        single, many = (torch.cat(p).cpu().numpy() for p in zip(*parts, strict=True))
        return single, many

    def predict(self, thumbs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities for a whole video, float32 [n] each, from uint8 [n, 27, 48, 3]."""
        parts = []
        for start in range(0, len(thumbs), STRIDE_FRAMES):
            window = np.arange(start - MARGIN_FRAMES, start + STRIDE_FRAMES + MARGIN_FRAMES)
            heads = self.windows(thumbs[window.clip(0, len(thumbs) - 1)][None])
            parts.append(np.stack(heads)[:, 0, MARGIN_FRAMES:-MARGIN_FRAMES])
        single, many = np.concatenate(parts, axis=1)[:, : len(thumbs)]
        return single, many

    def _fold(self, name: str) -> _Layer:
        """Merge the branches of a layer and fold its batch norm."""
        state = self._state
        branches = [f"{name}.Conv3D_{d}.layers" for d in DILATIONS]
        spatial = torch.cat([state[f"{b}.0.weight"][:, :, 0] for b in branches])
        variance = state[f"{name}.bn.running_var"]
        scale = state[f"{name}.bn.weight"] / torch.sqrt(variance + BATCH_NORM_EPS)
        bias = state[f"{name}.bn.bias"] - state[f"{name}.bn.running_mean"] * scale
        taps = torch.stack([state[f"{b}.1.weight"][..., 0, 0] for b in branches])  # [4, f, 2f, 3]
        taps = taps * scale.reshape(len(DILATIONS), -1, 1, 1)
        return _Layer(
            spatial.contiguous(memory_format=torch.channels_last),
            taps.permute(0, 3, 2, 1).contiguous(),
            bias,
        )

    def _forward(self, thumbs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        thumbs = thumbs.to(self.device)
        batch, time = thumbs.shape[:2]
        x = thumbs.flatten(0, 1).permute(0, 3, 1, 2).float().div_(255.0)
        x = x.contiguous(memory_format=torch.channels_last)
        means = []
        for first, second in self._layers:
            shortcut = F.relu_(_dilated(x, first, batch))
            x = F.avg_pool2d(F.relu_(_dilated(shortcut, second, batch)).add_(shortcut), 2)
            means.append(x.mean((2, 3)))
        features = torch.cat(means, 1).reshape(batch, time, -1)
        flat = x.permute(0, 2, 3, 1).reshape(batch, time, -1)
        projected = F.linear(features, *self._linear("frame_sim_layer.projection"))
        alike = self._lookup(F.normalize(projected, dim=2), "frame_sim_layer.fc")
        colours = self._lookup(_colour_histograms(thumbs), "color_hist_layer.fc")
        hidden = F.relu(F.linear(torch.cat([colours, alike, flat], 2), *self._linear("fc1")))
        single, many = (
            torch.sigmoid(F.linear(hidden, *self._linear(f"cls_layer{i}")))[..., 0] for i in (1, 2)
        )
        return single, many

    def _linear(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self._state[f"{name}.weight"], self._state[f"{name}.bias"]

    def _lookup(self, vectors: torch.Tensor, name: str) -> torch.Tensor:
        """Similarity of each frame to its neighbours in the window, through a linear layer."""
        batch, time = vectors.shape[:2]
        alike = torch.bmm(vectors, vectors.transpose(1, 2))
        reach = LOOKUP_FRAMES // 2
        padded = F.pad(alike, [reach, reach])
        index = torch.arange(time, device=self.device)[:, None]
        index = index + torch.arange(LOOKUP_FRAMES, device=self.device)
        near = torch.gather(padded, 2, index.expand(batch, -1, -1))
        return F.relu(F.linear(near, *self._linear(name)))


def _dilated(x: torch.Tensor, layer: _Layer, batch: int) -> torch.Tensor:
    """A spatial convolution for all branches, then three temporal taps in each.

    Args:
        x: [b * t, c, h, w], channels last.
        layer: Its weights.
        batch: b.
    """
    y = F.conv2d(x, layer.spatial, padding=1)
    frames, _, height, width = y.shape
    time, pixels = frames // batch, height * width
    y = y.permute(0, 2, 3, 1).reshape(batch, time, pixels, len(DILATIONS), -1)
    filters = layer.taps.shape[-1]
    out = layer.bias.repeat(batch, time, pixels, 1)
    for i, dilation in enumerate(DILATIONS):
        branch = y[:, :, :, i]
        part = out[..., i * filters : (i + 1) * filters]
        before, here, after = layer.taps[i]
        part += branch @ here
        part[:, dilation:] += branch[:, :-dilation] @ before
        part[:, :-dilation] += branch[:, dilation:] @ after
    return out.reshape(frames, height, width, -1).permute(0, 3, 1, 2)


def _colour_histograms(thumbs: torch.Tensor) -> torch.Tensor:
    """L2-normalised histograms over 8x8x8 RGB bins, [b, t, 512]."""
    batch, time = thumbs.shape[:2]
    r, g, b = (thumbs[..., i].long() >> 5 for i in range(3))
    bins = ((r << 6) + (g << 3) + b).reshape(batch, time, -1)
    counts = torch.zeros(batch, time, 512, device=thumbs.device)
    counts.scatter_add_(2, bins, torch.ones_like(bins, dtype=torch.float32))
    return F.normalize(counts, dim=2)


def _chunks(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[i : i + size] for i in range(0, len(array), size)]
