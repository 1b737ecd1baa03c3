"""Areas of boxes in a picture: what they cover together, and the largest rectangle beside them."""

from __future__ import annotations

import numpy as np


def covered(boxes: np.ndarray) -> float:
    """Area of the union of boxes.

    Args:
        boxes: float [n, 4]: left, top, right, bottom in 0-1.

    Returns:
        Share of the unit square.
    """
    if not len(boxes):
        return 0.0
    xs, ys, taken = _cells(boxes)
    return float(np.diff(ys) @ taken @ np.diff(xs))


def largest_free(boxes: np.ndarray) -> tuple[np.ndarray, float]:
    """The largest axis-aligned rectangle of the unit square that no box reaches into.

    The edges of such a rectangle are edges of boxes or of the picture, so the grid that those span
    is searched row by row (largest rectangle under a histogram); the result is exact.

    Args:
        boxes: float [n, 4]: left, top, right, bottom in 0-1.

    Returns:
        The rectangle and its area; of equal ones the first from the top left.
    """
    xs, ys, taken = _cells(boxes)
    best, best_area = np.zeros(4), 0.0
    free_from = np.zeros(len(xs) - 1, int)  # the row from which a column is free
    for row in range(len(ys) - 1):
        free_from[taken[row]] = row + 1
        open_at: list[tuple[int, int]] = []  # first column, row from which it is free
        for column in range(len(xs)):
            top = int(free_from[column]) if column < len(free_from) else row + 1
            start = column
            while open_at and open_at[-1][1] < top:
                start, above = open_at.pop()
                area = float((xs[column] - xs[start]) * (ys[row + 1] - ys[above]))
                if area > best_area + 1e-12:
                    best_area = area
                    best = np.array([xs[start], ys[above], xs[column], ys[row + 1]])
            if not open_at or open_at[-1][1] > top:
                open_at.append((start, top))
    return best, best_area


def _cells(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The grid that the boxes' edges span: x and y of its lines, and which cells are covered."""
    boxes = np.clip(boxes.reshape(-1, 4), 0.0, 1.0)
    xs = np.unique(np.concatenate([[0.0, 1.0], boxes[:, 0], boxes[:, 2]]))
    ys = np.unique(np.concatenate([[0.0, 1.0], boxes[:, 1], boxes[:, 3]]))
    taken = np.zeros((len(ys) - 1, len(xs) - 1), bool)
    for left, top, right, bottom in boxes:
        rows = slice(*np.searchsorted(ys, (top, bottom)))
        taken[rows, slice(*np.searchsorted(xs, (left, right)))] = True
    return xs, ys, taken
