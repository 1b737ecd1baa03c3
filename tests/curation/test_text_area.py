"""Areas of boxes, and the largest rectangle beside them, against counting on a fine grid."""

from __future__ import annotations

import numpy as np
import pytest

from curation.signals.text_area import covered, largest_free

N = 20


def boxes_of(seed: int) -> np.ndarray:
    """A few boxes with edges on a grid of N."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, N - 1, (rng.integers(1, 6), 2))
    size = rng.integers(1, 9, low.shape)
    return np.concatenate([low, np.minimum(low + size, N)], axis=1) / N


def painted(boxes: np.ndarray) -> np.ndarray:
    """Which cells of the grid are covered."""
    grid = np.zeros((N, N), bool)
    for left, top, right, bottom in (boxes * N).round().astype(int):
        grid[top:bottom, left:right] = True
    return grid


def best_by_trying(grid: np.ndarray) -> int:
    """Cells of the largest free rectangle."""
    sums = np.pad(grid.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    best = 0
    for top in range(N):
        for bottom in range(top + 1, N + 1):
            for left in range(N):
                for right in range(left + 1, N + 1):
                    held = sums[bottom, right] - sums[top, right] - sums[bottom, left]
                    if held + sums[top, left] == 0:
                        best = max(best, (bottom - top) * (right - left))
    return best


@pytest.mark.parametrize("seed", range(6))
def test_equals_trying_all(seed: int) -> None:
    boxes = boxes_of(seed)
    grid = painted(boxes)
    assert covered(boxes) == pytest.approx(grid.mean())
    free, area = largest_free(boxes)
    assert area == pytest.approx(best_by_trying(grid) / N**2)
    left, top, right, bottom = (free * N).round().astype(int)
    assert (right - left) * (bottom - top) == pytest.approx(area * N**2)
    assert not grid[top:bottom, left:right].any()


def test_ends() -> None:
    none = np.zeros((0, 4))
    assert covered(none) == 0
    free, area = largest_free(none)
    assert (list(free), area) == ([0, 0, 1, 1], 1)
    whole = np.array([[0.0, 0, 1, 1]])
    assert (covered(whole), largest_free(whole)[1]) == (1, 0)
    twice = np.array([[0.1, 0.1, 0.3, 0.3]] * 2)
    assert covered(twice) == pytest.approx(0.04)  # a union, not a sum


def test_a_subtitle_leaves_what_is_above() -> None:
    free, area = largest_free(np.array([[0.2, 0.85, 0.8, 0.95]]))
    assert list(free) == pytest.approx([0, 0, 1, 0.85])
    assert area == pytest.approx(0.85)
