"""Many byte strings looked for at once, at the speed of numpy and whatever their number.

Every needle has an anchor of 15 bytes. Wherever the needle lies, one of the eight words of eight
bytes inside its anchor begins at a multiple of eight in the data. So the data is read as words,
each word is looked up in a table of the words of all anchors (first in a small map of bits, which
nearly all data fails), and only where one is found is the needle itself compared. This is the idea
of Wu and Manber (1994, "A fast algorithm for multi-pattern searching") on a fixed grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np

WORD = 8
MIN_NEEDLE_BYTES = 2 * WORD - 1
MAX_NEEDLE_BYTES = 512
CHUNK_BYTES = 4 * 2**20
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: spreads neighbouring words (Knuth, multiplicative hashing)."""
SLOTS_PER_WORD = 16
MIN_BITS, MAX_BITS = 16, 27
TRIES = 8
"""Places tried for an anchor; the one with the most different bytes is taken."""


class Searcher:
    """Finds needles in bytes.

    Args:
        needles: Each of 15 to 512 bytes.

    Raises:
        ValueError: A needle is too short or too long.
    """

    def __init__(self, needles: Sequence[bytes]) -> None:
        for needle in needles:
            if not MIN_NEEDLE_BYTES <= len(needle) <= MAX_NEEDLE_BYTES:
                raise ValueError(f"a needle of {len(needle)} bytes")
        self._needles = list(needles)
        self.longest = max((len(n) for n in needles), default=0)
        shifts = [at + p for at in map(_anchor, needles) for p in range(WORD)]
        owners = np.repeat(np.arange(len(needles)), WORD)
        cut = [needles[i][s : s + WORD] for i, s in zip(owners.tolist(), shifts, strict=True)]
        words = np.frombuffer(b"".join(cut), "<u8")
        order = np.argsort(words, kind="stable")
        self._words, self._owners = words[order], owners[order]
        self._shifts = np.array(shifts, np.int64)[order]
        bits = int(np.ceil(np.log2(max(1, len(words) * SLOTS_PER_WORD))))
        self._drop = np.uint64(64 - min(MAX_BITS, max(MIN_BITS, bits)))
        self._map = np.zeros(2 ** (64 - int(self._drop)), bool)
        self._map[self._slots(words)] = True

    def __len__(self) -> int:
        """How many needles there are."""
        return len(self._needles)

    def find(self, data: bytes | memoryview) -> Iterator[tuple[int, int]]:
        """Every place in some bytes: index of the needle, and offset."""
        count = len(data) // WORD
        if not count or not self._needles:
            return
        data = memoryview(data).cast("B")  # of signed bytes it would equal no needle
        words = np.frombuffer(data, "<u8", count=count)
        places = np.flatnonzero(self._map[self._slots(words)])
        found = words[places]
        first = np.searchsorted(self._words, found, side="left")
        last = np.searchsorted(self._words, found, side="right")
        for i in np.flatnonzero(last > first).tolist():
            for k in range(first[i], last[i]):
                start = int(places[i]) * WORD - int(self._shifts[k])
                needle = self._needles[int(self._owners[k])]
                if start >= 0 and data[start : start + len(needle)] == needle:
                    yield int(self._owners[k]), start

    def find_in_file(
        self, source: BinaryIO, on_bytes: Callable[[int], object] = lambda _: None
    ) -> Iterator[tuple[int, int]]:
        """Every place in a file, read in chunks that overlap by the longest needle.

        A place in the overlap may be told twice.
        """
        before, at = b"", 0
        while chunk := source.read(CHUNK_BYTES):
            data = before + chunk
            for needle, offset in self.find(data):
                yield needle, at + offset
            on_bytes(len(chunk))
            kept = min(len(data), max(0, self.longest - 1))
            at += len(data) - kept
            before = data[len(data) - kept :]

    def _slots(self, words: np.ndarray) -> np.ndarray:
        return (words * MULTIPLIER) >> self._drop


def _anchor(needle: bytes) -> int:
    """Where in a needle its anchor begins: where its bytes differ most from each other."""
    last = len(needle) - MIN_NEEDLE_BYTES
    places = sorted({round(i * last / (TRIES - 1)) for i in range(TRIES)})
    return max(places, key=lambda at: len(set(needle[at : at + MIN_NEEDLE_BYTES])))
