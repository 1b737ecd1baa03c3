"""The log of a training: lines of JSON, means over the steps since the line before.

Of numbers that are not finite: null where no step of a line had a finite one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from training.files import write_text

LOG = "log.jsonl"
Told = Callable[[dict[str, Any]], None]
OF_A_STEP = ("step", "lr")
"""What a line tells of its own step alone."""


class TrainingLog:
    """Lines of one run.

    Args:
        path: File.
        told: Given every line too.
    """

    def __init__(self, path: Path, told: Told) -> None:
        self._path, self._told = path, told
        self._waiting: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Begin anew."""
        write_text(self._path, "")

    def go_on(self, step: int) -> None:
        """Drop the lines of steps after a checkpoint's, and one that a kill cut off."""
        lines = self._path.read_text().splitlines(True) if self._path.exists() else []
        write_text(self._path, "".join(line for line in lines if _step_of(line) <= step))

    @property
    def is_waiting(self) -> bool:
        """True when steps were noted that no line tells of."""
        return bool(self._waiting)

    def note(self, row: dict[str, Any]) -> None:
        """Count a step in the next line."""
        self._waiting.append(row)

    def tell(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write a line of a step, with the means of those noted since the last; that line."""
        row = {k: _rounded(v) for k, v in (row | _means(self._waiting)).items()}
        self._waiting = []
        with self._path.open("a") as log:
            log.write(json.dumps(row) + "\n")
        self._told(row)
        return row


def _means(rows: list[dict[str, Any]]) -> dict[str, float]:
    names = sorted({name for row in rows for name in row} - set(OF_A_STEP))
    values = {name: [row[name] for row in rows if name in row] for name in names}
    finite = {name: [v for v in given if math.isfinite(v)] for name, given in values.items()}
    return {n: sum(given) / len(given) if given else math.nan for n, given in finite.items()}


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # cut off by a kill


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
