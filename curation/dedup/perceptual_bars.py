"""Clips without their dark sides: the second opinion where bars cannot be told from the picture.

The stage ``prints`` cuts bars off where their edge is sharp. Beside a picture that is black at its
own edges it is not: what is cut off a copy then differs from what is cut off its original. Without
all that is dark from a side inwards, bars or picture, both show the same part again.
"""

from __future__ import annotations

import numpy as np

from curation.dedup.perceptual_path import CENTRES, SIDE_PX, Film, sampling

DARK = 20.0
"""Luma levels up to which a pixel is dark."""
SPECKS = 0.05
"""Share of a line that may be brighter."""
MIN_SHARE = 0.25
"""Share of a side that has to be left: a night scene is no bar."""


def without_dark_sides(film: Film) -> Film:
    """What a clip shows between dark sides; the same object if it has none.

    Args:
        film: The clip.
    """
    lit = film.pictures.max(axis=0) > DARK
    rows, columns = (_lit_part(lit.mean(axis=axis) > SPECKS) for axis in (1, 0))
    if rows is None or columns is None or rows == columns == (0, SIDE_PX):
        return film
    down, across = (sampling(_positions(*part))[0] for part in (rows, columns))
    return Film(down @ film.pictures @ across.T, film.time_s, film.length_s)


def _lit_part(lit: np.ndarray) -> tuple[int, int] | None:
    """First and end of the lines that are not dark; None when too few are left."""
    if not lit.any():
        return None
    start, end = int(lit.argmax()), len(lit) - int(lit[::-1].argmax())
    return (start, end) if end - start >= MIN_SHARE * len(lit) else None


def _positions(start: int, end: int) -> np.ndarray:
    """Middles of the pixels of a part, from -1 (first edge of the whole) to 1."""
    return (start + (CENTRES + 1) / 2 * (end - start)) * 2 / SIDE_PX - 1
