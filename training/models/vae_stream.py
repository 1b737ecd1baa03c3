"""A video through the VAE piece by piece: chunks in time, tiles in space, the same result.

Time looks back alone, so a chunk needs only the last inputs of each layer of the chunk before. A
tile is computed with a margin as wide as the network sees, which is thrown away. What a network
computes at once is bounded by the chunk and the tile. What it keeps between chunks does not grow
with the length of a video, but with its picture: two moments of every block, margins included
(9 MB for the decoder at 256 x 448 pixels in float32, about 170 MB at 1080p).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from training.models.vae_network import COLORS, SPATIAL, TEMPORAL, Past, VaeNetwork

CHUNK_FRAMES = 16
TILE_PX = 512


@dataclass(frozen=True)
class Tile:
    """A rectangle of cells: what is kept of it, and what is computed.

    Attributes:
        kept: Rows and columns of cells, half-open: (top, bottom, left, right).
        seen: The same with the margin, cut off at the picture's border.
    """

    kept: tuple[int, int, int, int]
    seen: tuple[int, int, int, int]

    def cut(self, x: Tensor, pixels: int) -> Tensor:
        """What is seen of x (..., h, w) with so many pixels to a cell."""
        top, bottom, left, right = (n * pixels for n in self.seen)
        return x[..., top:bottom, left:right]

    def trim(self, x: Tensor, pixels: int) -> Tensor:
        """The kept part of what was computed."""
        top, bottom, left, right = (n * pixels for n in self.kept)
        above, before = self.seen[0] * pixels, self.seen[2] * pixels
        return x[..., top - above : bottom - above, left - before : right - before]

    def paste(self, part: Tensor, into: Tensor, pixels: int) -> None:
        """Put the kept part where it belongs."""
        top, bottom, left, right = (n * pixels for n in self.kept)
        into[..., top:bottom, left:right] = self.trim(part, pixels)


def tiles_of(height: int, width: int, side: int, margin: int) -> list[Tile]:
    """Tiles of a picture, all in cells, row by row."""
    return [
        Tile(
            (top, min(top + side, height), left, min(left + side, width)),
            (
                max(0, top - margin),
                min(top + side + margin, height),
                max(0, left - margin),
                min(left + side + margin, width),
            ),
        )
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


class _Stream:
    """Stretches of one video through one function, tile by tile.

    Args:
        margin: Cells that the function sees around a cell.
        tile_px: Largest side of a tile, without its margin.
    """

    def __init__(self, margin: int, tile_px: int) -> None:
        if tile_px < SPATIAL or tile_px % SPATIAL:
            raise ValueError(f"tile_px is a multiple of {SPATIAL}, not {tile_px}")
        self._margin, self._side = margin, tile_px // SPATIAL
        self._tiles: list[Tile] = []
        self._pasts: list[Past] = []
        self._size = (0, 0)

    def _each_tile(self, x: Tensor, pixels: int) -> Iterator[tuple[Tile, Tensor, Past]]:
        """The tiles of a stretch (..., h, w), what is seen of them, and what went before."""
        size = (x.shape[-2] // pixels, x.shape[-1] // pixels)
        if not self._tiles:
            self._size, self._tiles = size, tiles_of(*size, self._side, self._margin)
            self._pasts = [Past() for _ in self._tiles]
        if size != self._size:
            raise ValueError(f"the video began with {self._size} cells and goes on with {size}")
        for tile, past in zip(self._tiles, self._pasts, strict=True):
            yield tile, tile.cut(x, pixels), past


class EncoderStream(_Stream):
    """Encodes a video stretch by stretch.

    Args:
        network: Of which.
        tile_px: Largest side of a tile; memory grows with its square.
    """

    def __init__(self, network: VaeNetwork, tile_px: int = TILE_PX) -> None:
        super().__init__(network.config.encoder_margin, tile_px)
        self._network = network

    @torch.no_grad()
    def push(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the next stretch, raw, each (B, C, t, h, w).

        Args:
            x: (B, 3, T, H, W): at first 4k + 1 frames, then 4k; sides divisible by 8.

        Raises:
            ValueError: It is none of this, or of another size than what went before.
        """
        if x.ndim != 5 or x.shape[1] != COLORS or x.shape[3] % SPATIAL or x.shape[4] % SPATIAL:
            raise ValueError(
                f"frames are (B, 3, T, H, W) with sides divisible by {SPATIAL}, not "
                f"{tuple(x.shape)}"
            )
        begins = not self._tiles
        if not x.shape[2] or (x.shape[2] - begins) % TEMPORAL:
            raise ValueError(f"a stretch has {TEMPORAL}k{' + 1' * begins} frames, not {x.shape[2]}")
        moments = (x.shape[2] - begins) // TEMPORAL + begins
        channels, size = self._network.config.latent_channels, [n // SPATIAL for n in x.shape[-2:]]
        mean = x.new_empty(x.shape[0], channels, moments, *size)
        logvar = torch.empty_like(mean)
        for tile, seen, past in self._each_tile(x, SPATIAL):
            for part, whole in zip(self._network.encode(seen, past), (mean, logvar), strict=True):
                tile.paste(part, whole, 1)
        return mean, logvar


class DecoderStream(_Stream):
    """Decodes latents stretch by stretch.

    Args:
        network: Of which.
        tile_px: Largest side of a tile; memory grows with its square.
    """

    def __init__(self, network: VaeNetwork, tile_px: int = TILE_PX) -> None:
        super().__init__(network.config.decoder_margin, tile_px)
        self._network = network

    @torch.no_grad()
    def push(self, z: Tensor) -> Tensor:
        """Pixels of the next latent frames: 4k - 3 at first, then 4k.

        Args:
            z: Raw, (B, C, k, h, w).

        Raises:
            ValueError: It is none of this, or of another size than what went before.
        """
        if z.ndim != 5 or z.shape[1] != self._network.config.latent_channels or not z.shape[2]:
            raise ValueError(f"latents are (B, C, t, h, w) with t from 1, not {tuple(z.shape)}")
        begins = not self._tiles
        frames = z.shape[2] * TEMPORAL - begins * (TEMPORAL - 1)
        video = z.new_empty(z.shape[0], 3, frames, z.shape[-2] * SPATIAL, z.shape[-1] * SPATIAL)
        for tile, seen, past in self._each_tile(z, 1):
            tile.paste(self._network.decode(seen, past), video, SPATIAL)
        return video


def encode_stream(
    network: VaeNetwork, frames: Iterable[Tensor], tile_px: int = TILE_PX
) -> Iterator[tuple[Tensor, Tensor]]:
    """Encode a video that comes in pieces of any length; gives raw latents as they are ready.

    Args:
        network: Of which.
        frames: Pieces (B, 3, T, H, W) in order.
        tile_px: As of :class:`EncoderStream`.

    Raises:
        ValueError: All pieces together have no 4k + 1 frames.
    """
    stream, waiting, begins = EncoderStream(network, tile_px), None, True
    for piece in frames:
        for part in piece.split(CHUNK_FRAMES, 2):
            waiting = part if waiting is None else torch.cat([waiting, part], 2)
            ready = (waiting.shape[2] - begins) // TEMPORAL * TEMPORAL + begins
            if ready > 0:
                yield stream.push(waiting[:, :, :ready])
                waiting, begins = waiting[:, :, ready:], False
    if begins or (waiting is not None and waiting.shape[2]):
        left = 0 if waiting is None else waiting.shape[2]
        raise ValueError(f"a video has {TEMPORAL}k + 1 frames: {left} are left over")


def decode_stream(
    network: VaeNetwork, latents: Iterable[Tensor], tile_px: int = TILE_PX
) -> Iterator[Tensor]:
    """Decode latents that come in pieces of any length; gives the pixels of each as it comes.

    Args:
        network: Of which.
        latents: Pieces (B, C, t, h, w) in order, raw.
        tile_px: As of :class:`DecoderStream`.
    """
    stream = DecoderStream(network, tile_px)
    for piece in latents:
        for part in piece.split(CHUNK_FRAMES // TEMPORAL, 2):
            yield stream.push(part)


def stretches(x: Tensor, first: int, size: int) -> Iterator[Tensor]:
    """A whole video or its latents (B, C, T, H, W) as ``first`` frames, then ``size`` at a time."""
    yield x[:, :, :first]
    if x.shape[2] > first:
        yield from x[:, :, first:].split(size, 2)
