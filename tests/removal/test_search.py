"""The search for many byte strings: it misses none, wherever it lies, and invents none."""

from __future__ import annotations

import io
import random

import numpy as np
import pyarrow as pa
import pytest

from curation.removal import search
from curation.removal.search import Searcher


def test_needles_of_all_lengths_are_found_at_every_offset() -> None:
    rng = random.Random(7)
    needles = [rng.randbytes(n) for n in (15, 16, 23, 24, 32, 100, 512)]
    searcher = Searcher(needles)
    for i, needle in enumerate(needles):
        for offset in range(17):
            data = rng.randbytes(offset) + needle + rng.randbytes(9)
            assert (i, offset) in set(searcher.find(data))
            assert (i, offset) in set(searcher.find(memoryview(data).cast("b")))


def test_a_buffer_of_arrow_is_searched_as_bytes() -> None:
    needle = bytes(range(128, 160))  # as signed bytes, which Arrow's are, none of them is equal
    buffer = pa.array([b"x", b"yy" + needle, None]).buffers()[2]
    assert buffer is not None
    assert [i for i, _ in Searcher([needle]).find(memoryview(buffer))] == [0]


def test_the_same_places_as_a_plain_search_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "CHUNK_BYTES", 64)
    rng = random.Random(3)
    # Few letters: words of anchors occur by themselves all the time.
    needles = [bytes(rng.choices(b"ab", k=20)) for _ in range(40)] + [b"camera moves to the left"]
    data = bytearray(rng.choices(b"ab", k=20_000))
    for i, needle in enumerate(needles):
        at = 450 * i + rng.randrange(64)
        data[at : at + len(needle)] = needle
    plain = {
        (i, at)
        for i, needle in enumerate(needles)
        for at in range(len(data))
        if data[at : at + len(needle)] == needle
    }
    assert len(plain) >= len(needles)
    assert set(Searcher(needles).find_in_file(io.BytesIO(bytes(data)))) == plain


def test_nothing_is_found_in_noise() -> None:
    rng = np.random.default_rng(0)
    searcher = Searcher([rng.bytes(24) for _ in range(2000)])
    assert list(searcher.find(rng.bytes(1_000_000))) == []
    assert list(Searcher([]).find(b"x" * 100)) == [] and not len(Searcher([]))


@pytest.mark.parametrize("size", [14, 513])
def test_a_needle_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="needle"):
        Searcher([b"x" * size])
