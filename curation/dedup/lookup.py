"""Ids looked up among other ids, without a Python object for each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def is_among(column: pa.Array | pa.ChunkedArray, ids: pa.Array) -> pa.Array | pa.ChunkedArray:
    """True for each value that is one of some ids."""
    options = pc.SetLookupOptions(value_set=ids)
    return pc.call_function("is_in", [column], options)


def positions(column: pa.Array | pa.ChunkedArray, ids: pa.Array) -> np.ndarray:
    """int64, the position of each value among some ids; -1: it is not there."""
    options = pc.SetLookupOptions(value_set=ids)
    found = pc.call_function("index_in", [column], options)
    if isinstance(found, pa.ChunkedArray):
        found = found.combine_chunks()
    return found.fill_null(-1).to_numpy().astype(np.int64)


def sorted_order(ids: pa.ChunkedArray) -> np.ndarray:
    """int64, the positions of ids in the order of the ids."""
    found = pc.call_function("array_sort_indices", [ids.combine_chunks()])
    return found.to_numpy().astype(np.int64)
