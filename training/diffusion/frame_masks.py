"""Which frames of a video are given to the denoiser: one task a mode, in pixel time.

T = 9 frames, a VAE of temporal stride S = 4, t = 3 latent frames; x is given, . is to be made:

    text           . .... ....        first_last     x .... ...x
    first          x .... ....        keyframes      x ..x. ....     (1 + some others)
    last           . .... ...x        interpolation  x ...x ...x     (every 2nd, 4th, 8th, ...)
                                      extension      x xxxx ....     (S k + 1 frames)

The given frames, with grey in place of the others, go through the same VAE as the video; the mask
goes beside them, ``S`` channels to a latent frame (:func:`folded`), as in Wan 2.1's image-to-video
model (Wan team 2025). Every choice comes out of the one draw that is handed in.

Shape suffixes: B videos, T frames, t latent frames, S temporal stride.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, Literal, get_args

import torch
from torch import Tensor

Mode = Literal["text", "first", "last", "first_last", "keyframes", "interpolation", "extension"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)

FEWEST: Final[dict[Mode, int]] = {
    **{"text": 1, "first": 2, "last": 2, "extension": 2},
    **{"first_last": 3, "keyframes": 3, "interpolation": 3},
}
"""Frames that a mode needs in order to leave something to make; a picture takes text alone."""


def known_frames(mode: str, num_frames: int, stride: int, draw: float) -> Tensor:
    """The frames that are given, bool (T,); at least one latent frame is left to make.

    How the draw is used, where a mode has a choice:

    - ``keyframes``: ``floor(draw * choices)`` of ``2 .. max(2, T // S)`` frames (never all); the
      first is one of them, the others are places drawn without return by Fisher and Yates' shuffle
      with the numbers of SplitMix64 (Steele, Lea, Flood 2014) begun at ``draw * 2**53``.
    - ``interpolation``: ``floor(draw * choices)`` of the distances 2, 4, 8, ... below T. The last
      frame is given where it falls on one.
    - ``extension``: ``floor(draw * choices)`` of the prefixes of ``S k + 1`` frames, ``k`` from 1;
      of two latent frames the first alone.

    Args:
        mode: One of :data:`MODES`.
        num_frames: T = S k + 1.
        stride: S, frames to a latent frame after the first.
        draw: In [0, 1).

    Raises:
        ValueError: An unknown mode, one that needs more frames (:data:`FEWEST`), a number of frames
            that the stride does not fit, or a draw out of range.
    """
    latents = _latent_frames(num_frames, stride)
    if num_frames < _fewest(mode):
        raise ValueError(f"{mode} needs at least {_fewest(mode)} frames, not {num_frames}")
    if not 0 <= draw < 1:
        raise ValueError(f"a draw lies in [0, 1), not {draw}")
    known = torch.zeros(num_frames, dtype=torch.bool)
    if mode in ("first", "first_last"):
        known[0] = True
    if mode in ("last", "first_last"):
        known[-1] = True
    if mode == "keyframes":
        known[_keyframes(num_frames, stride, draw)] = True
    if mode == "interpolation":
        known[:: 2 ** (1 + _choice(draw, (num_frames - 1).bit_length() - 1))] = True
    if mode == "extension":
        k = 1 + _choice(draw, latents - 2) if latents > 2 else 0
        known[: stride * k + 1] = True
    return known


def choose_mode(mixture: Mapping[str, float], draw: float, num_frames: int) -> Mode:
    """The task of one sample.

    Modes that the video is too short for are left out and the others share their weight; where none
    is left, it is text. The order of the mixture does not matter.

    Args:
        mixture: Relative weights of :data:`MODES`; those not named have none.
        draw: In [0, 1).
        num_frames: T, at least 1.

    Raises:
        ValueError: An unknown mode, a weight below 0 or not finite, no weight at all, or a draw out
            of range.
    """
    for mode, weight in mixture.items():
        _fewest(mode)
        if not 0 <= weight < math.inf:
            raise ValueError(f"the weight of {mode} is {weight}: finite and not below 0")
    if not any(mixture.values()):
        raise ValueError("no mode of the mixture has a weight")
    if not 0 <= draw < 1:
        raise ValueError(f"a draw lies in [0, 1), not {draw}")
    able: list[Mode] = [mode for mode in MODES if num_frames >= FEWEST[mode]]
    fits: list[Mode] = [mode for mode in able if mixture.get(mode, 0)]
    left = draw * math.fsum(mixture[mode] for mode in fits)
    for fit in fits:
        left -= mixture[fit]
        if left < 0:
            return fit
    return fits[-1] if fits else "text"  # rounding may leave a crumb


def folded(known_BT: Tensor, stride: int) -> Tensor:
    """The mask as channels of the latents: float32 (B, S, t), 1 where a frame is given.

    Channel ``s`` of latent frame ``i`` is frame ``S (i - 1) + 1 + s``; the first latent frame shows
    the first frame alone, which therefore stands in all its channels.

    Args:
        known_BT: Bool, T = S k + 1.
        stride: S.

    Raises:
        ValueError: A number of frames that the stride does not fit.
    """
    latents = _latent_frames(known_BT.shape[1], stride)
    first_BS = known_BT[:, :1].expand(-1, stride)
    known_BtS = torch.cat([first_BS, known_BT[:, 1:]], dim=1).view(-1, latents, stride)
    return known_BtS.transpose(1, 2).float()


def unknown_latents(known_BT: Tensor, stride: int) -> Tensor:
    """Latent frames that are to be made: bool (B, t).

    False where all frames of a latent frame and all before them are given. A causal VAE sees no
    others, so there the latents of the given frames are those of the whole video, and nothing is
    left to learn or to draw. A frame given later on is only a hint: its latents may mix with grey.

    Args:
        known_BT: Bool, T = S k + 1.
        stride: S.

    Raises:
        ValueError: A number of frames that the stride does not fit.
    """
    _latent_frames(known_BT.shape[1], stride)
    so_far_BT = known_BT.int().cumprod(dim=1).bool()
    return ~so_far_BT[:, ::stride]  # at the last frame of each latent frame


def _keyframes(num_frames: int, stride: int, draw: float) -> list[int]:
    most = min(max(2, num_frames // stride), num_frames - 1)
    count = 2 + _choice(draw, most - 1)
    places, numbers = list(range(1, num_frames)), _split_mix(int(draw * 2**53))
    for i in range(count - 1):
        j = i + (next(numbers) * (len(places) - i) >> 64)
        places[i], places[j] = places[j], places[i]
    return [0, *places[: count - 1]]


def _split_mix(state: int) -> Iterator[int]:
    """SplitMix64: 64-bit numbers specified here, so that no version of a library moves them."""
    mask = 2**64 - 1
    while True:
        state = (state + 0x9E3779B97F4A7C15) & mask
        x = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        yield x ^ (x >> 31)


def _choice(draw: float, choices: int) -> int:
    return min(int(draw * choices), choices - 1)  # the largest draw may round up


def _latent_frames(num_frames: int, stride: int) -> int:
    if num_frames < 1 or stride < 1 or (num_frames - 1) % stride:
        raise ValueError(f"{num_frames} frames are not k * {stride} + 1")
    return (num_frames - 1) // stride + 1


def _fewest(mode: str) -> int:
    for known in MODES:
        if mode == known:
            return FEWEST[known]
    raise ValueError(f"no mode {mode!r}; there are {', '.join(MODES)}")
