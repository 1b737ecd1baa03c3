"""The hash behind every order and every draw: specified here, owed to no library.

A library's shuffle may change with its version, and a generator's state depends on who drew before.
Here a number depends on (seed, epoch, purpose, sample) alone, so any rank, worker or later version
computes the same one. All arithmetic is modulo 2**64:

    mix(x)   = SplitMix64's output function (Steele, Lea, Flood 2014):
               x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
               x ^= x >> 31
    base     = mix(mix(mix(seed + G) + epoch + G) + hash64(purpose) + G)
    draw     = mix(base ^ mix(key + G))            G = 0x9E3779B97F4A7C15

``key`` is ``hash64(clip_id)``, the first 8 bytes of its sha256. ``mix`` is a bijection, so two keys
never collide in one draw. Golden values stand in the tests: a change breaks running trainings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curation.ids import hash64

U64 = NDArray[np.uint64]
MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15
M1, M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def mix(x: int) -> int:
    """SplitMix64's output function of one 64-bit number."""
    x &= MASK
    x = ((x ^ (x >> 30)) * M1) & MASK
    x = ((x ^ (x >> 27)) * M2) & MASK
    return x ^ (x >> 31)


def base(seed: int, epoch: int, purpose: str) -> int:
    """What all draws of one purpose in one epoch share; see the module's page."""
    state = mix(seed + GOLDEN)
    state = mix(state + epoch + GOLDEN)
    return mix(state + hash64(purpose) + GOLDEN)


def draw64(seed: int, epoch: int, purpose: str, key: int) -> int:
    """A 64-bit number, uniform over keys.

    Args:
        seed: Of the run; any integer.
        epoch: Of the source, from 0.
        purpose: What the number is for: "order", "window", "caption", ...
        key: Of the sample, 64 bits.
    """
    return mix(base(seed, epoch, purpose) ^ mix(key + GOLDEN))


def draw(seed: int, epoch: int, purpose: str, key: int) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (draw64(seed, epoch, purpose, key) >> 11) * 2.0**-53


def draw64_all(seed: int, epoch: int, purpose: str, keys: U64) -> U64:
    """:func:`draw64` of many keys at once; uint64 of the same shape."""
    start = np.uint64(base(seed, epoch, purpose))
    with np.errstate(over="ignore"):
        return _mix_all(start ^ _mix_all(keys + np.uint64(GOLDEN)))


def _mix_all(x: U64) -> U64:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(M1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(M2)
    return x ^ (x >> np.uint64(31))
