"""A fixed shuffle: every id has its place by seed, whatever stands beside it."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

BATCH_ROWS = 65_536


def shuffle_keys(seed: int, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The first 64 bits of ``curation.ids.shuffle_key`` of each id, uint64 [ids]."""
    chunks = ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
    keys = np.empty(len(ids), np.uint64)
    start = hashlib.sha256(f"{seed}:".encode())
    at = 0
    for chunk in chunks:
        for first in range(0, len(chunk), BATCH_ROWS):
            texts = chunk.slice(first, BATCH_ROWS).cast(pa.string()).to_pylist()
            digests = bytearray()
            for text in texts:
                sha = start.copy()  # the seed is hashed once
                sha.update(text.encode())
                digests += sha.digest()[:8]
            keys[at : at + len(texts)] = np.frombuffer(bytes(digests), ">u8")
            at += len(texts)
    return keys


def shuffled_order(seed: int, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Row numbers in the order of the keys, int64 [ids]; the same ids for any order of rows."""
    keys = shuffle_keys(seed, ids)
    order = np.argsort(keys, kind="stable")
    sorted_keys = keys[order]
    if not (sorted_keys[1:] == sorted_keys[:-1]).any():
        return order
    # Equal keys, one chance in millions: the ids themselves decide.
    texts = np.array(ids.cast(pa.string()).to_pylist(), dtype=object)
    return np.array(sorted(order.tolist(), key=lambda i: (keys[i], texts[i])), np.int64)
