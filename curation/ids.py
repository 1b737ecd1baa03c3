"""Identities, all derived from content, so that the same input has the same id on every machine."""

from __future__ import annotations

import hashlib
import json

ID_HEX = 32
"""Hex digits kept of a sha256 for ids in tables and file names (128 bits)."""


def digest(*parts: object) -> str:
    """A 32-digit hex id of a sequence of values (their text, length-prefixed)."""
    sha = hashlib.sha256()
    for part in parts:
        data = str(part).encode()
        sha.update(f"{len(data)}:".encode() + data)
    return sha.hexdigest()[:ID_HEX]


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def json_digest(value: object) -> str:
    """A 32-digit hex id of a JSON-able value."""
    return digest(canonical_json(value))


def source_id(uri: str) -> str:
    """The id of a given URI (not of its bytes)."""
    return digest("source", uri)


def clip_id(video_id: str, start_pts: int, end_pts: int, time_base: str) -> str:
    """The id of the half-open span ``[start_pts, end_pts)`` of a video.

    Args:
        video_id: sha256 of the video's bytes.
        start_pts: First pts inside, in units of ``time_base``.
        end_pts: First pts after the span.
        time_base: ``"num/den"`` seconds.
    """
    return digest("clip", video_id, start_pts, end_pts, time_base)


def shuffle_key(seed: int, key: str) -> str:
    """A sort key that spreads ``key`` evenly and reproducibly."""
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()


def hash64(text: str) -> int:
    """A 64-bit number of a text: the first 8 bytes of its sha256, big-endian."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def sha_prefix64(sha256_hex: str) -> int:
    """The first 8 bytes of a sha256 given in hex digits, as a number."""
    return int(sha256_hex[:16], 16)
