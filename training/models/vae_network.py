"""The network of the small video VAE: a linear transform of blocks, and networks that mend it.

    frames ─ in fours, the first shown four times ─ blocks of 4 x 8 x 8 pixels ─ 768 numbers a cell
    encode:  mean   = analysis(block) + E(block, M(frames))   E, D: causal networks over cells
    decode:  block  = synthesis(mean) + D(mean)
             frames = unblock(block), + N(frames), + P(frames)

M and N (optional) look at single frames at a quarter of the size, in which a frame sees those of
its own four and of the four before: what moves. P smooths the borders of blocks. Analysis and
synthesis begin as the principal components of blocks of real footage (the Karhunen-Loeve
transform), the rest begins as zero: training starts from a good linear codec and spends its time
on what a linear one cannot do. E and D are 3D convolutions divided into a 3 x 3 in
space and one over this moment and the two before (as in R(2+1)D, Tran et al. 2018); time looks back
alone, and norms are of one position. So a video may be cut in time (:class:`Past` keeps the last
inputs of each layer) and in space (tiles with a margin as wide as the networks see) with the same
result, and a picture is a video of one frame.

Shapes: x_BCTHW pixels in [-1, 1], T = 4k + 1; z_BCthw latents, t = k + 1, h = H / 8, w = W / 8.
Inside, cells lie as (B * t, channels, h, w) in channels-last memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TEMPORAL, SPATIAL, COLORS = 4, 8, 3
"""Frames, pixels a side, and colours of a block."""
BLOCK = TEMPORAL * SPATIAL * SPATIAL * COLORS
HALF, QUARTER = 2, 4
"""P sees pictures as squares of 2 x 2 pixels, M and N as squares of 4 x 4."""
BACK = 2
"""Moments before its own that a layer sees."""
MIN_LOGVAR, MAX_LOGVAR = -14.0, 4.0
FIRST_LOGVAR = -6.0
"""Of an untrained encoder: noise of 5 % of the latents' spread."""
PIXEL_LAYERS = 3
FRAME_LAYERS = 1000
"""Number of the first layer of M and N: those of E and D count from 0."""


@dataclass(frozen=True, kw_only=True)
class VaeConfig:
    """Sizes of the network.

    Attributes:
        latent_channels: Numbers of a latent cell, which stands for 768 of pixels.
        width: Channels of E and D.
        encoder_depth: Blocks of E.
        decoder_depth: Blocks of D.
        pixel_width: Channels of P.
        frame_width: Channels of M and N; 0: there are none.
        frame_depth_in: Blocks of M.
        frame_depth_out: Blocks of N.
    """

    latent_channels: int = 16
    width: int = 160
    encoder_depth: int = 3
    decoder_depth: int = 4
    pixel_width: int = 32
    frame_width: int = 0
    frame_depth_in: int = 2
    frame_depth_out: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = int(name != "frame_width")
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a whole number from {least}, not {value!r}")

    @property
    def encoder_margin(self) -> int:
        """Cells around a cell that its latents depend on."""
        frames = (self.frame_depth_in + 1) * QUARTER if self.frame_width else 0
        return self.encoder_depth + -(-frames // SPATIAL)

    @property
    def decoder_margin(self) -> int:
        """Cells around a cell that its pixels depend on: D with its first layer, N, and P."""
        frames = (self.frame_depth_out + 2) * QUARTER if self.frame_width else 0
        pixels = PIXEL_LAYERS * HALF + frames
        return self.decoder_depth + 1 + -(-pixels // SPATIAL)


class Past:
    """The last inputs of the layers that look back, between two stretches of one video."""

    def __init__(self) -> None:
        self._kept: dict[int, Tensor] = {}

    def joined(self, layer: int, x: Tensor, back: int) -> Tensor:
        """A stretch behind the moments before it; before the first lie copies of it.

        Args:
            layer: Number of the layer.
            x: (B, t, h, w, C).
            back: Moments before that are wanted.
        """
        past = self._kept.get(layer)
        if past is None:
            past = x[:, :1].expand(-1, back, -1, -1, -1)
        both = torch.cat([past, x], 1)
        if not torch.is_grad_enabled():  # in training each video is one stretch
            self._kept[layer] = both[:, -back:].clone()
        return both

    @property
    def is_new(self) -> bool:
        """True before the first stretch."""
        return not self._kept


class PositionNorm(nn.Module):
    """Root mean square norm over the channels of each position (Zhang and Sennrich 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (n, C, h, w)."""
        size = x.square().mean(1, keepdim=True).add(1e-6).rsqrt()
        return x * size * self.scale[:, None, None]


class Block(nn.Module):
    """Space, then time: 3 x 3 within a moment, then this moment and the two before it."""

    def __init__(self, channels: int, number: int) -> None:
        super().__init__()
        self.number = number
        self.norm_space, self.norm_time = PositionNorm(channels), PositionNorm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear((BACK + 1) * channels, channels)
        _zero(self.time)

    def forward(self, x: Tensor, moments: int, past: Past) -> Tensor:
        """Residual of x of shape (B * t, C, h, w), t = ``moments``."""
        y = F.silu(self.norm_time(self.space(F.silu(self.norm_space(x)))))
        y = y.permute(0, 2, 3, 1)
        joined = past.joined(self.number, y.reshape(-1, moments, *y.shape[1:]), BACK)
        stacked = torch.cat([joined[:, i : i + moments] for i in range(BACK + 1)], -1)
        return x + self.time(stacked.flatten(0, 1)).permute(0, 3, 1, 2)


class Trunk(nn.Module):
    """Blocks in a row."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(channels, i) for i in range(depth))

    def forward(self, x: Tensor, moments: int, past: Past) -> Tensor:
        """All blocks on x of shape (B * t, C, h, w)."""
        for block in self.blocks:
            x = block(x, moments, past)
        return x


class FrameBlock(nn.Module):
    """A frame's 3 x 3, then all frames of a moment together with those of the moment before.

    Args:
        channels: Of a frame.
        number: Of the layer, different from all others of its direction.
    """

    def __init__(self, channels: int, number: int) -> None:
        super().__init__()
        self.number = number
        self.norm_space, self.norm_time = PositionNorm(channels), PositionNorm(channels)
        self.space = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(2 * TEMPORAL * channels, TEMPORAL * channels)
        _zero(self.time)

    def forward(self, x: Tensor, moments: int, past: Past) -> Tensor:
        """Residual of x of shape (B * t * 4, C, h, w), t = ``moments``."""
        y = F.silu(self.norm_time(self.space(F.silu(self.norm_space(x)))))
        _, c, h, w = y.shape
        groups = y.permute(0, 2, 3, 1).reshape(-1, moments, TEMPORAL, h, w, c)
        groups = groups.permute(0, 1, 3, 4, 2, 5).flatten(4)
        joined = past.joined(self.number, groups, 1)
        mixed = self.time(torch.cat([joined[:, :-1], joined[:, 1:]], -1))
        mixed = mixed.unflatten(-1, (TEMPORAL, c)).permute(0, 1, 4, 5, 2, 3)
        return x + mixed.reshape(x.shape)


class FrameNet(nn.Module):
    """M or N: frames at a quarter of the size.

    Args:
        width: Channels.
        depth: Blocks.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(COLORS * QUARTER**2, width, 3, padding=1)
        self.blocks = nn.ModuleList(FrameBlock(width, FRAME_LAYERS + n) for n in range(depth))

    def forward(self, x: Tensor, moments: int, past: Past) -> Tensor:
        """Features (B * t * 4, width, H / 4, W / 4) of frames (B, 3, 4t, H, W)."""
        frames = x.transpose(1, 2).flatten(0, 1)
        y = F.pixel_unshuffle(frames, QUARTER).contiguous(memory_format=torch.channels_last)
        y = self.enter(y)
        for block in self.blocks:
            y = block(y, moments, past)
        return y


class PixelNet(nn.Module):
    """P: mends what shows at the borders of blocks, frame by frame, at half size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        step = COLORS * HALF**2
        self.enter = nn.Conv2d(step, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.leave = nn.Conv2d(width, step, 3, padding=1)
        _zero(self.leave)

    def forward(self, x: Tensor) -> Tensor:
        """Frames of shape (n, 3, H, W)."""
        y = F.pixel_unshuffle(x, HALF).contiguous(memory_format=torch.channels_last)
        y = self.leave(F.silu(self.middle(F.silu(self.enter(y)))))
        return x + F.pixel_shuffle(y, HALF)


class VaeNetwork(nn.Module):
    """Encoder and decoder, on raw latents.

    Args:
        config: Sizes.
    """

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.config = config
        channels, width = config.latent_channels, config.width
        self.analysis, self.synthesis = nn.Conv2d(BLOCK, channels, 1), nn.Conv2d(channels, BLOCK, 1)
        self.encoder_in = nn.Conv2d(BLOCK, width, 1)
        self.encoder = Trunk(width, config.encoder_depth)
        self.encoder_out = nn.Conv2d(width, 2 * channels, 1)
        self.decoder_in = nn.Conv2d(channels, width, 3, padding=1)
        self.decoder = Trunk(width, config.decoder_depth)
        self.decoder_out = nn.Conv2d(width, BLOCK, 1)
        self.pixels = PixelNet(config.pixel_width)
        self.frames_in = self.frames_to_cells = self.frames_out = self.frames_leave = None
        if config.frame_width:
            wide = config.frame_width
            self.frames_in = FrameNet(wide, config.frame_depth_in)
            per_cell = wide * TEMPORAL * (SPATIAL // QUARTER) ** 2
            self.frames_to_cells = nn.Conv2d(per_cell, width, 1)
            self.frames_out = FrameNet(wide, config.frame_depth_out)
            self.frames_leave = nn.Conv2d(wide, COLORS * QUARTER**2, 3, padding=1)
            _zero(self.frames_to_cells)
            _zero(self.frames_leave)
        _zero(self.encoder_out)
        _zero(self.decoder_out)
        with torch.no_grad():
            assert self.encoder_out.bias is not None
            self.encoder_out.bias[channels:] = FIRST_LOGVAR
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.no_grad()
    def set_basis(self, mean: Tensor, basis: Tensor, spread: Tensor) -> None:
        """Begin as a linear codec whose latents have mean 0 and variance 1.

        Args:
            mean: Of blocks, (768,).
            basis: Orthonormal columns, (768, C).
            spread: Standard deviation of blocks along each column, (C,).
        """
        forward = (basis / spread).T
        assert self.analysis.bias is not None and self.synthesis.bias is not None
        self.analysis.weight.copy_(forward[:, :, None, None])
        self.analysis.bias.copy_(-(forward @ mean))
        self.synthesis.weight.copy_((basis * spread)[:, :, None, None])
        self.synthesis.bias.copy_(mean)

    def encode(self, x: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of raw latents, each (B, C, t, h, w).

        Args:
            x: (B, 3, T, H, W): T = 4k + 1 where a video begins, 4k where it goes on.
            past: Of the stretch before; None: the video begins here, and is whole.
        """
        past = past or Past()
        if past.is_new:
            x = torch.cat([x[:, :, :1].expand(-1, -1, TEMPORAL - 1, -1, -1), x], 2)
        cells, moments = to_cells(x), x.shape[2] // TEMPORAL
        y = self.encoder_in(cells)
        if self.frames_in is not None and self.frames_to_cells is not None:
            seen = F.pixel_unshuffle(self.frames_in(x, moments, past), SPATIAL // QUARTER)
            y = y + self.frames_to_cells(seen.unflatten(0, (-1, TEMPORAL)).flatten(1, 2))
        y = self.encoder(y, moments, past)
        change, logvar = self.encoder_out(y).chunk(2, 1)
        mean = self.analysis(cells) + change
        return _videos(mean, moments), _videos(logvar.clamp(MIN_LOGVAR, MAX_LOGVAR), moments)

    def decode(self, z: Tensor, past: Past | None = None) -> Tensor:
        """Pixels (B, 3, T, H, W) of raw latents, not clamped.

        Args:
            z: (B, C, t, h, w).
            past: As of :meth:`encode`.
        """
        past = past or Past()
        begins, moments = past.is_new, z.shape[2]
        cells = z.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        y = self.decoder(self.decoder_in(cells), moments, past)
        x = from_cells(self.synthesis(cells) + self.decoder_out(y), moments)
        frames = x.transpose(1, 2).flatten(0, 1)
        if self.frames_out is not None and self.frames_leave is not None:
            change = self.frames_leave(self.frames_out(x, moments, past))
            frames = frames + F.pixel_shuffle(change, QUARTER)
        frames = self.pixels(frames)
        x = frames.view(x.shape[0], -1, *frames.shape[1:]).transpose(1, 2)
        return x[:, :, TEMPORAL - 1 :] if begins else x


def to_cells(x: Tensor) -> Tensor:
    """Frames (B, 3, 4t, H, W) as blocks, (B * t, 768, h, w) in channels-last memory."""
    b, c, t, h, w = x.shape
    x = x.reshape(b, c, t // TEMPORAL, TEMPORAL, h // SPATIAL, SPATIAL, w // SPATIAL, SPATIAL)
    x = x.permute(0, 2, 4, 6, 3, 5, 7, 1)
    return x.reshape(-1, h // SPATIAL, w // SPATIAL, BLOCK).permute(0, 3, 1, 2)


def from_cells(cells: Tensor, moments: int) -> Tensor:
    """Blocks (B * t, 768, h, w) as frames, (B, 3, 4t, H, W)."""
    n, _, h, w = cells.shape
    x = cells.permute(0, 2, 3, 1)
    x = x.reshape(n // moments, moments, h, w, TEMPORAL, SPATIAL, SPATIAL, COLORS)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.reshape(n // moments, COLORS, moments * TEMPORAL, h * SPATIAL, w * SPATIAL)


def _videos(y: Tensor, moments: int) -> Tensor:
    n, c, h, w = y.shape
    return y.reshape(n // moments, moments, c, h, w).transpose(1, 2)


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
