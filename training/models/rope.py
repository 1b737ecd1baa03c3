"""Rotary embeddings on three axes: tokens know when and where they are from one another.

A pair of channels of a query or key is turned by an angle that is proportional to the token's
place on one axis, so that attention depends on distances alone (Su et al. 2021, arXiv 2104.09864).
Here the pairs are shared out: a quarter for time, the rest for rows and columns in equal parts, as
video transformers do (CogVideoX, Wan). Time is told in seconds, not in frames: one set of weights
sees the same motion at any frame rate.

Shape suffixes: B samples, t latent frames, N tokens = t * height * width, d channels of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHORTEST_S, LONGEST_S = 0.125, 64.0
"""Times of one turn of the quickest and the slowest pair."""
SHORTEST_TOKENS, LONGEST_TOKENS = 4.0, 512.0


def pairs_of(head_dim: int) -> tuple[int, int, int]:
    """Pairs of a head's channels for time, rows, columns.

    Raises:
        ValueError: The head has no pair for one of them.
    """
    pairs = head_dim // 2
    per_side = pairs * 3 // 8
    if head_dim % 2 or not per_side:
        raise ValueError(f"a head has an even number of channels from 6, not {head_dim}")
    return pairs - 2 * per_side, per_side, per_side


def rope_angles(times_Bt: Tensor, height: int, width: int, head_dim: int) -> Tensor:
    """Angles of all tokens, float32 (B, N, d / 2), in radians.

    Args:
        times_Bt: Time of each latent frame, seconds.
        height: Tokens of a column.
        width: Tokens of a row.
        head_dim: d.
    """
    device = times_Bt.device
    num_time, num_rows, num_columns = pairs_of(head_dim)
    rows = torch.arange(height, dtype=torch.float32, device=device)
    columns = torch.arange(width, dtype=torch.float32, device=device)
    by_time = times_Bt.float()[..., None] * _rates(num_time, SHORTEST_S, LONGEST_S, device)
    by_row = rows[:, None] * _rates(num_rows, SHORTEST_TOKENS, LONGEST_TOKENS, device)
    by_column = columns[:, None] * _rates(num_columns, SHORTEST_TOKENS, LONGEST_TOKENS, device)
    b, t = times_Bt.shape
    angles = torch.cat(
        [
            by_time[:, :, None, None].expand(b, t, height, width, num_time),
            by_row[None, None, :, None].expand(b, t, height, width, num_rows),
            by_column[None, None, None].expand(b, t, height, width, num_columns),
        ],
        -1,
    )
    return angles.flatten(1, 3)


def turned(x_BhNd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Queries or keys, each turned by its token's angles.

    Pairs are channel i and i + d / 2. Computed in the type of ``x``.

    Args:
        x_BhNd: Queries or keys.
        cos: Of the angles, (B, 1, N, d / 2).
        sin: Likewise.
    """
    first, second = x_BhNd.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def _rates(count: int, shortest: float, longest: float, device: torch.device) -> Tensor:
    """Radians per unit of the pairs of an axis; turns are spread evenly in their logarithm."""
    steps = torch.arange(count, dtype=torch.float32, device=device) / max(1, count - 1)
    return 2 * math.pi / shortest * (shortest / longest) ** steps
