"""Columns as groups of clips: distinct values, spans of durations, spans of measured numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.errors import ConfigError
from curation.judging.globs import encode

_SPAN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)?\s*$")


def parse_span(text: str) -> tuple[float, float]:
    """``2-4`` as ``(2, 4)``, ``8-`` as ``(8, inf)``."""
    found = _SPAN.match(text)
    if not found:
        raise ValueError(f"{text!r} is no span of seconds such as 2-4 or 8-")
    start, end = float(found.group(1)), float(found.group(2) or np.inf)
    if start >= end:
        raise ValueError(f"{text!r} ends before it begins")
    return start, end


def spans_of(mix: Mapping[str, float], lengths_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The span of each clip, int [clips], and the shares, float64 [spans + 1]; the last: none."""
    names = sorted(mix, key=parse_span)
    groups = np.full(len(lengths_s), len(names))
    for number, name in enumerate(names):
        start, end = parse_span(name)
        groups[(lengths_s >= start) & (lengths_s < end)] = number
    return groups, np.array([*(mix[n] for n in names), 0.0])


def groups_of(values: pa.ChunkedArray) -> np.ndarray:
    """Each distinct value as a number from 0, null as one more, int64 [rows]."""
    encoded = encode(values)
    return pc.fill_null(encoded.indices.cast(pa.int64()), len(encoded.dictionary)).to_numpy(
        zero_copy_only=False
    )


def values_of(by: str, edges: Sequence[float], values: pa.ChunkedArray) -> np.ndarray:
    """The group of each clip by the column that is balanced, int64 [clips].

    Args:
        by: The column's name.
        edges: Where numbers are divided; without, each value is a group.
        values: One per clip; a missing one is a value of its own.

    Raises:
        ConfigError: The column has no values to balance by.
    """
    kind, where = values.type, f"sample.balance.by={by}"
    if pa.types.is_nested(kind):
        raise ConfigError(f"is {kind}, several values per clip", where=where)
    if not edges:
        if pa.types.is_floating(kind):
            mend = "say where to divide it: edges: [0.01, 0.1]"
            raise ConfigError("is a measured number", where=where, mend=mend)
        return groups_of(values)
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise ConfigError(f"is {kind}, not a number", where=where, mend="leave out edges")
    numbers = np.asarray(pc.cast(values, pa.float64(), safe=False).to_numpy(), np.float64)
    groups = np.searchsorted(np.array(edges), numbers, side="right")
    return np.where(np.isnan(numbers), len(edges) + 1, groups).astype(np.int64)
