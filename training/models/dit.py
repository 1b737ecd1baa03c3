"""The denoiser: a transformer over the patches of a video's latents.

    x, given, mask ─ patches ─▶ tokens ─ blocks ─▶ tokens ─ patches ─▶ velocity

A block lets tokens see one another, then the text, then thinks about each alone. Noise time and
frame rate scale, shift and gate all but the text's part: adaLN-zero (Peebles and Xie 2023, arXiv
2212.09748) with one projection for all blocks and an offset of each (PixArt-alpha, arXiv
2310.00426). Queries and keys are normed (Dehghani et al. 2023, arXiv 2302.05442). Places are told
by :mod:`training.models.rope`. With ``factorised`` attention even blocks see the tokens of their
frame and odd ones those of their place (Latte, arXiv 2401.03048): the same weights at less cost.

The network begins as zero, each block as the identity.

Shape suffixes: B samples, C channels, t latent frames, h w latent cells, N tokens, D width, L
tokens of text, S temporal stride of the autoencoder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models.rope import pairs_of, rope_angles, turned

FREQUENCIES = 256
"""Sines and cosines that a number is told by."""
PARTS = 6
"""Scale, shift and gate of a block's attention and of its feed-forward layer."""


@dataclass(frozen=True, kw_only=True)
class DitConfig:
    """Sizes of the network.

    Attributes:
        latent_channels: C of the latents.
        mask_channels: S, of the mask of given frames.
        text_dim: Of the text's states.
        width: D.
        depth: Blocks.
        heads: Of attention; ``width / heads`` is even.
        mlp_ratio: Width of the feed-forward layers over D.
        patch: Latent cells of a token: time, height, width.
        attention: All tokens see all, or space and time in turn.
    """

    latent_channels: int = 16
    mask_channels: int = 4
    text_dim: int = 384
    width: int = 384
    depth: int = 12
    heads: int = 6
    mlp_ratio: float = 4.0
    patch: tuple[int, int, int] = (1, 2, 2)
    attention: Literal["full", "factorised"] = "full"

    def __post_init__(self) -> None:
        for name in ("latent_channels", "mask_channels", "text_dim", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a whole number from 1, not {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if self.patch[0] != 1:
            raise ValueError(f"a token is of one latent frame: patch {self.patch} begins with 1")
        pairs_of(self.width // self.heads)

    @property
    def cells(self) -> int:
        """Latent cells of a token."""
        return math.prod(self.patch)


PRESETS = {
    "debug": DitConfig(width=192, depth=8, heads=3),
    "small": DitConfig(width=384, depth=12, heads=6),
    "base": DitConfig(width=768, depth=12, heads=12),
    "large": DitConfig(width=1024, depth=24, heads=16),
    "1b": DitConfig(width=1536, depth=28, heads=24),
}
"""Of 5, 30, 120, 414 and 1081 million weights, with 16 latent channels and 384 of the text."""


def preset(name: str, **sizes: int | tuple[int, int, int] | str | float) -> DitConfig:
    """Sizes by name, some of them changed.

    Raises:
        KeyError: There is no such preset.
    """
    return replace(PRESETS[name], **sizes)  # type: ignore[arg-type]


class Numbers(nn.Module):
    """A number of each sample as a vector of width D: sines, then two layers.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(FREQUENCIES, width), nn.Linear(width, width)

    def forward(self, values_B: Tensor) -> Tensor:
        """(B, D) of values of about 0 to 1000, as in Ho et al. 2020."""
        half = FREQUENCIES // 2
        rates = torch.exp(
            -math.log(10_000)
            * torch.arange(half, device=values_B.device, dtype=torch.float32)
            / half
        )
        angles = values_B.float()[:, None] * rates
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(self.enter.weight.dtype)
        return self.leave(F.silu(self.enter(waves)))


class Attention(nn.Module):
    """Attention with normed queries and keys, of tokens to themselves or to a text.

    Args:
        width: D.
        heads: Of attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, width)
        self.norm_query, self.norm_key = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))

    def forward(
        self,
        x_BND: Tensor,
        to_BLD: Tensor | None = None,
        *,
        angles: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            x_BND: Who asks.
            to_BLD: Who is asked; None: themselves.
            angles: Cosines and sines of both places, (B, 1, N, d / 2); None: places do not count.
            mask: bool (B, 1, 1, L), True for those that count.
        """
        query = self._heads(self.query(x_BND))
        key, value = map(
            self._heads, self.key_value(x_BND if to_BLD is None else to_BLD).chunk(2, -1)
        )
        query, key = _normed(query, self.norm_query.weight), _normed(key, self.norm_key.weight)
        if angles is not None:
            query, key = turned(query, *angles), turned(key, *angles)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.leave(found.transpose(1, 2).flatten(2))

    def _heads(self, x_BND: Tensor) -> Tensor:
        return x_BND.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Tokens to one another, to the text, and each alone.

    Args:
        config: Sizes.
    """

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        width, inner = config.width, int(config.width * config.mlp_ratio)
        self.offsets = nn.Parameter(torch.zeros(PARTS, width))
        self.tokens, self.text = (Attention(width, config.heads) for _ in range(2))
        self.norm_text = nn.LayerNorm(width, eps=1e-6)
        self.enter, self.leave = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(
        self,
        x_BND: Tensor,
        parts_B6D: Tensor,
        text_BLD: Tensor,
        text_mask: Tensor,
        angles: tuple[Tensor, Tensor],
        groups: Groups | None,
    ) -> Tensor:
        """One block; ``groups`` says who sees whom, None: all see all."""
        parts = (parts_B6D + self.offsets).unsqueeze(2).unbind(1)
        y = scaled(x_BND, parts[0], parts[1])
        if groups is None:
            y = self.tokens(y, angles=angles)
        else:
            y = groups.back(self.tokens(groups.of(y), angles=angles))
        x_BND = x_BND + parts[2] * y
        x_BND = x_BND + self.text(self.norm_text(x_BND), text_BLD, mask=text_mask)
        y = self.leave(F.gelu(self.enter(scaled(x_BND, parts[3], parts[4])), approximate="tanh"))
        return x_BND + parts[5] * y


@dataclass(frozen=True)
class Groups:
    """Tokens that see one another in factorised attention.

    Attributes:
        frames: t.
        cells: Tokens of a frame.
        over_time: Those of a place; otherwise those of a frame.
    """

    frames: int
    cells: int
    over_time: bool

    def of(self, x: Tensor) -> Tensor:
        """(B, N, ...) as (B * groups, tokens of a group, ...)."""
        x = x.unflatten(1, (self.frames, self.cells))
        return (x.transpose(1, 2) if self.over_time else x).flatten(0, 1)

    def back(self, x: Tensor) -> Tensor:
        """The reverse of :meth:`of`."""
        if self.over_time:
            return x.unflatten(0, (-1, self.cells)).transpose(1, 2).flatten(1, 2)
        return x.unflatten(0, (-1, self.frames)).flatten(1, 2)


class Dit(nn.Module):
    """The denoiser.

    Args:
        config: Sizes.

    Attributes:
        checkpointing: Blocks keep only their inputs for the way back, and compute anew.
    """

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.config, self.checkpointing = config, False
        width = config.width
        channels = 2 * config.latent_channels + config.mask_channels
        self.enter = nn.Linear(channels * config.cells, width)
        self.noise_time, self.rate = Numbers(width), Numbers(width)
        self.parts = nn.Linear(width, PARTS * width)
        self.text_enter, self.text_leave = (
            nn.Linear(config.text_dim, width),
            nn.Linear(width, width),
        )
        blocks = [Block(config) for _ in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.last_offsets = nn.Parameter(torch.zeros(2, width))
        self.leave = nn.Linear(width, config.latent_channels * config.cells)
        self.apply(_begin)
        latents = config.latent_channels * config.cells
        with torch.no_grad():  # what no mode of the training shows must not speak later
            self.enter.weight[:, latents:] = 0
        for layer in (self.parts, self.leave, *(block.text.leave for block in blocks)):
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]

    def forward(
        self,
        x_BCthw: Tensor,
        sigma_B: Tensor,
        *,
        given_BCthw: Tensor,
        mask_BSthw: Tensor,
        text_BLD: Tensor,
        text_mask_BL: Tensor,
        fps_B: Tensor,
        times_Bt: Tensor,
    ) -> Tensor:
        """Velocity at noised latents, float (B, C, t, h, w).

        Args:
            x_BCthw: Noised latents.
            sigma_B: Share of noise, 0 to 1.
            given_BCthw: Latents of the video in which only the given frames are not grey.
            mask_BSthw: 1 where a pixel frame is given, S to a latent frame, else 0.
            text_BLD: States of the text.
            text_mask_BL: bool, True where there are states: at least one of a sample.
            fps_B: Pixel frames per second.
            times_Bt: Time of each latent frame, seconds.

        Raises:
            ValueError: A side is not divisible by the patch.
        """
        _, _, t, h, w = x_BCthw.shape
        _, high, wide = self.config.patch
        if h % high or w % wide:
            raise ValueError(f"{h} x {w} latent cells are not divisible by patches {high} x {wide}")
        rows, columns = h // high, w // wide
        x = self.enter(
            to_tokens(torch.cat([x_BCthw, given_BCthw, mask_BSthw], 1), self.config.patch)
        )
        told = self.noise_time(1000 * sigma_B) + self.rate(100 * fps_B.clamp(min=0.01).log2())
        parts = self.parts(F.silu(told)).unflatten(-1, (PARTS, -1))
        text = self.text_leave(F.gelu(self.text_enter(text_BLD), approximate="tanh"))
        mask = text_mask_BL[:, None, None]
        layouts = self._layouts(times_Bt, rows, columns, text.dtype)
        for number, block in enumerate(self.blocks):
            angles, groups = layouts[number % len(layouts)]
            given = (x, parts, text, mask, angles, groups)
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(*given)
        scale, shift = (told[:, None] + self.last_offsets).unsqueeze(2).unbind(1)
        return from_tokens(
            self.leave(scaled(x, scale, shift)), (t, rows, columns), self.config.patch
        )

    def _layouts(
        self, times_Bt: Tensor, rows: int, columns: int, dtype: torch.dtype
    ) -> list[tuple[tuple[Tensor, Tensor], Groups | None]]:
        """Angles and groups of the kinds of blocks, which take turns."""
        config, frames = self.config, times_Bt.shape[1]
        angles = rope_angles(times_Bt, rows, columns, config.width // config.heads)
        kinds: list[Groups | None] = [None]
        if config.attention == "factorised":
            kinds = [Groups(frames, rows * columns, over_time) for over_time in (False, True)]
        found = []
        for groups in kinds:
            own = angles if groups is None else groups.of(angles)
            found.append(((own.cos()[:, None].to(dtype), own.sin()[:, None].to(dtype)), groups))
        return found


def _normed(x_BhNd: Tensor, weight: Tensor) -> Tensor:
    """Root mean square norm in the type of ``x``: the kernels want one type for both."""
    return F.rms_norm(x_BhNd, (x_BhNd.shape[-1],), weight.to(x_BhNd.dtype), eps=1e-6)


def scaled(x_BND: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Normed over channels, then scaled by 1 + ``scale`` and shifted, (B, 1, D) each."""
    return F.layer_norm(x_BND, (x_BND.shape[-1],), eps=1e-6) * (1 + scale) + shift


def to_tokens(x_BCthw: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """Patches as tokens, (B, N, C * cells of a patch); frame by frame, row by row."""
    b, c, t, h, w = x_BCthw.shape
    _, high, wide = patch
    x = x_BCthw.reshape(b, c, t, h // high, high, w // wide, wide)
    return x.permute(0, 2, 3, 5, 1, 4, 6).reshape(b, t * (h // high) * (w // wide), -1)


def from_tokens(x: Tensor, size: tuple[int, int, int], patch: tuple[int, int, int]) -> Tensor:
    """The reverse of :func:`to_tokens`; ``size`` in tokens."""
    t, rows, columns = size
    _, high, wide = patch
    x = x.reshape(len(x), t, rows, columns, -1, high, wide).permute(0, 4, 1, 2, 5, 3, 6)
    return x.reshape(len(x), -1, t, rows * high, columns * wide)


def _begin(module: nn.Module) -> None:
    """First weights: Xavier (Glorot and Bengio 2010), no biases."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
