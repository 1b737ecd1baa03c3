"""What clips fail by, as masks, and the lists of reasons and margins made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

MARGIN_DIGITS = 6


@dataclass
class Reasons:
    """Reasons of a number of clips, in the order they are added.

    Only the rows that fail are held, so fifty reasons that few clips have cost little.

    Attributes:
        count: Number of clips.
    """

    count: int
    _names: list[str] = field(default_factory=list)
    _rows: list[np.ndarray] = field(default_factory=list)
    _margins: list[np.ndarray] = field(default_factory=list)

    def add(self, name: str, failing: np.ndarray, margins: np.ndarray | None = None) -> None:
        """Add one reason.

        Args:
            name: As it will stand in the catalog.
            failing: bool [count], the clips that have it.
            margins: float64 [count], value minus threshold; None: there is no number.
        """
        rows = np.flatnonzero(failing)
        if len(rows) == 0:
            return
        self._names.append(name)
        self._rows.append(rows)
        mine = np.full(len(rows), np.nan) if margins is None else margins[rows]
        rounded = np.round(mine, MARGIN_DIGITS)
        # A value that fails is beside its bound, never on it.
        self._margins.append(np.where(rounded == 0, mine, rounded))

    def any(self) -> np.ndarray:
        """Clips with a reason, bool [count]."""
        found = np.zeros(self.count, bool)
        for rows in self._rows:
            found[rows] = True
        return found

    def lists(self) -> tuple[pa.ListArray, pa.ListArray]:
        """For each clip its reasons, and its margins (null where there is no number)."""
        lengths = np.zeros(self.count, np.int32)
        for rows in self._rows:
            lengths[rows] += 1
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        which = np.empty(offsets[-1], np.int32)
        values = np.empty(offsets[-1], np.float64)
        place = offsets[:-1].copy()
        for number, (rows, margins) in enumerate(zip(self._rows, self._margins, strict=True)):
            which[place[rows]] = number
            values[place[rows]] = margins
            place[rows] += 1
        names = pa.array(self._names, pa.string())
        margins = pa.array(values, pa.float64(), from_pandas=True)  # NaN becomes null
        return (
            pa.ListArray.from_arrays(pa.array(offsets), names.take(pa.array(which))),
            pa.ListArray.from_arrays(pa.array(offsets), margins),
        )
