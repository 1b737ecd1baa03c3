"""Releases: what a dataset root held at one time, frozen as a folder that stands on its own.

The two functions here are for taking something out of what was released already.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def rebuild(
    out: str, tag: str, clip_ids: Collection[str], video_ids: Collection[str], reason: str
) -> dict[str, Any]:
    """Make a release anew without some clips and videos; see ``rebuilding.py``."""
    from pipelines.release.rebuilding import rebuild_release

    return rebuild_release(out, tag, clip_ids, video_ids, reason)


def withdraw(out: str, tag: str, reason: str) -> dict[str, Any]:
    """Delete a release's data and leave word that it was withdrawn; see ``rebuilding.py``."""
    from pipelines.release.rebuilding import withdraw_release

    return withdraw_release(out, tag, reason)
