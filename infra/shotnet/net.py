"""The shot network as a torch module, for training; ``curation.signals.shotnet`` runs it in NumPy.

Every frame gets local descriptors from a small 2D network. A frame is then described by how alike
the pictures around it are, cell by cell, over ten time lags: a cut changes all cells at once, a
dissolve all of them slowly, a wipe one after the other, and after a flash the old picture is back.
A temporal network turns that into probabilities of five classes.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from curation.signals.shotnet import CHANNELS, DILATIONS, LAGS, NUM_CELLS, NUM_PATCHES, WIDTH
from infra.shotnet.compose import CLASSES

NUM_INPUTS = len(LAGS) * (NUM_CELLS + 2 * NUM_PATCHES) + 2


class ShotNet(nn.Module):
    """Thumbnails to logits."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [6, *CHANNELS]
        self.encoder = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2 if i < 2 else 1, padding=1)
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.inlet = nn.Linear(NUM_INPUTS, WIDTH)
        self.temporal = nn.ModuleList(nn.Conv1d(WIDTH, WIDTH, 3, dilation=d) for d in DILATIONS)
        self.outlet = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, thumbs: torch.Tensor) -> torch.Tensor:
        """Logits [b, t, 5] from uint8 [b, t, 27, 48, 3]."""
        batch, time = thumbs.shape[:2]
        x = thumbs.flatten(0, 1).permute(0, 3, 1, 2).float() / 255  # channels last in memory
        inputs = torch.cat([self._alike(x, batch), self._changed(x, batch), _light(x, batch)], 2)
        h = F.relu(self.inlet(inputs)).transpose(1, 2)
        for dilation, layer in zip(DILATIONS, self.temporal, strict=True):
            padded = F.pad(h, (dilation, dilation), mode="replicate")
            h = h + F.relu(layer(padded))
        return self.outlet(h.transpose(1, 2)).reshape(batch, time, -1)

    def _alike(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        """Cosine of the descriptors of two frames, per lag and cell."""
        mean = x.mean((1, 2, 3), keepdim=True)
        std = x.std((1, 2, 3), keepdim=True, correction=0)
        h = torch.cat([x - 0.5, (x - mean) / (std + 0.05)], 1)
        for i, layer in enumerate(self.encoder):
            h = layer(h)
            h = F.relu(h) if i < 2 else h
        cells = F.avg_pool2d(h, 2, ceil_mode=True)
        z = F.normalize(cells.flatten(2), dim=1, eps=1e-6).unflatten(0, (batch, -1))
        pairs = [(early * late).sum(2) for early, late in _pairs(z)]
        return torch.cat(pairs, 2)

    def _changed(self, x: torch.Tensor, batch: int) -> torch.Tensor:
        """Two colour differences per lag and patch.

        That of the pair, and that of the frame between to their mean, which is small against the
        first when the picture goes straight from one to the other, as in a dissolve, and half of
        it after a step, as in a cut or a wipe.
        """
        small = F.avg_pool2d(x, 3).unflatten(0, (batch, -1))
        changed, bent = [], []
        for early, late in _pairs(small):
            changed.append(_patches((late - early).abs()))
            bent.append(_patches((small - (early + late) / 2).abs()))
        return torch.cat([*changed, *bent], 2)


def _patches(x: torch.Tensor) -> torch.Tensor:
    """Means [b, t, 12] over patches and colours of [b, t, 3, 9, 16]."""
    return F.avg_pool2d(x.mean(2), (3, 4)).flatten(2)


def _pairs(x: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Frames half a lag before and after each frame, edges repeated."""
    time = torch.arange(x.shape[1])
    return [
        (
            x[:, (time - (lag + 1) // 2).clamp(min=0)],
            x[:, (time + lag // 2).clamp(max=x.shape[1] - 1)],
        )
        for lag in LAGS
    ]


def _light(x: torch.Tensor, batch: int) -> torch.Tensor:
    """Mean and spread of the whole picture."""
    flat = x.flatten(1)
    return torch.stack([flat.mean(1), flat.std(1, correction=0)], 1).unflatten(0, (batch, -1))
