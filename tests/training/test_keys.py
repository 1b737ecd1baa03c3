"""Draws: a hash written down once, the same in every version, alone and in arrays."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.ids import hash64, sha_prefix64
from training.data.keys import GOLDEN, base, draw, draw64, draw64_all, mix

WORD = st.integers(0, 2**64 - 1)
PUBLISHED = (
    0xE220A8397B1DCDAF,
    0x6E789E6AA1B965F4,
    0x06C45D188009454F,
    0xF88BB8A8724C81EC,
    0x1B39896A51A8749B,
)
"""The first outputs of SplitMix64 with seed 0, as its reference implementation prints them."""


def test_mix_is_the_output_function_of_splitmix64() -> None:
    assert tuple(mix((n + 1) * GOLDEN) for n in range(5)) == PUBLISHED


def test_hash64_is_the_beginning_of_sha256() -> None:
    digest = hashlib.sha256(b"clip").hexdigest()
    assert hash64("clip") == sha_prefix64(digest) == int(digest[:16], 16)
    assert hash64("") == 0xE3B0C44298FC1C14  # sha256 of nothing is widely printed


GOLDEN_DRAWS = (
    (0, 0, "shard", 0, 0xC41E2DF20BFBD540),
    (0, 0, "sample", 0, 0xB5F4DC2D4FE0ABA6),
    (0, 1, "sample", 0, 0xF8B2622BA23955F9),
    (1, 0, "sample", 0, 0xDCAF1562AF3E821C),
    (-1, 3, "window", 2**64 - 1, 0xD414CAEBAA9B2CAD),
    (2**64 + 5, 7, "", 12345, 0x9A42FB5A550D1EB5),
    (42, 1000, "caption", hash64("clip"), 0x0217AA1AFC85BA4D),
)
"""Worked out from the description in ``training/data/keys.py`` by another program."""


@pytest.mark.parametrize(("seed", "epoch", "purpose", "key", "number"), GOLDEN_DRAWS)
def test_draws_never_change(seed: int, epoch: int, purpose: str, key: int, number: int) -> None:
    """Another number here is another order of every training that runs: do not correct it."""
    assert draw64(seed, epoch, purpose, key) == number
    assert draw(seed, epoch, purpose, key) == (number >> 11) / 2**53


@given(
    st.integers(-(2**70), 2**70),
    st.integers(0, 10**6),
    st.text(max_size=8),
    st.lists(WORD, max_size=20),
)
def test_an_array_draws_what_its_numbers_draw(
    seed: int, epoch: int, purpose: str, keys: list[int]
) -> None:
    drawn = draw64_all(seed, epoch, purpose, np.array(keys, np.uint64))
    assert drawn.dtype == np.uint64
    assert drawn.tolist() == [draw64(seed, epoch, purpose, key) for key in keys]


@given(st.integers(), st.integers(0, 1000), st.text(max_size=8), WORD)
def test_a_draw_lies_from_0_to_below_1(seed: int, epoch: int, purpose: str, key: int) -> None:
    assert 0 <= draw(seed, epoch, purpose, key) < 1


def test_two_keys_never_draw_alike() -> None:
    """Nor do seeds, epochs and purposes that lie beside one another."""
    keys = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(draw64_all(1, 2, "sample", keys))) == len(keys)
    bases = {base(s, e, p) for s in range(50) for e in range(50) for p in ("sample", "shard")}
    assert len(bases) == 50 * 50 * 2


def test_draws_are_even_and_owe_nothing_to_one_another() -> None:
    """Chi-square of 256 cells (mean 255, deviation 22.6), for each byte; correlation of epochs."""
    keys = np.arange(100_000, dtype=np.uint64)
    one, other = (draw64_all(7, epoch, "sample", keys) for epoch in (0, 1))
    for shift in range(0, 64, 8):
        cells = np.bincount(((one >> np.uint64(shift)) & np.uint64(255)).astype(int), minlength=256)
        expected = len(keys) / 256
        assert 150 < float(np.sum((cells - expected) ** 2 / expected)) < 370
    assert abs(np.corrcoef(one.astype(float), other.astype(float))[0, 1]) < 0.015
