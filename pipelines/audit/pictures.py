"""One stored frame for each clip on the page, within a budget of bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.audit.basis import Basis, literals
from pipelines.report.pictures import choose_frames, shrink

AT_A_TIME = 500
SPANS = "SELECT clip_id, video_id, start_s, end_s FROM clips WHERE clip_id IN ({ids})"


def read_pictures(basis: Basis, clip_ids: Sequence[str], max_bytes: int) -> dict[str, str]:
    """Small JPEGs as data URIs: of each clip the stored frame nearest to its middle.

    Args:
        basis: The dataset.
        clip_ids: The most wanted first: later ones go without when the budget is used up.
        max_bytes: Of all data URIs together.

    Returns:
        Clip id -> data URI; clips without a readable frame are missing.
    """
    fingerprint = basis.catalog.current().tables.get("frames")
    if fingerprint is None or not basis.catalog.has("frames"):
        return {}
    left, found = max_bytes, {}
    wanted = list(dict.fromkeys(clip_ids))
    for start in range(0, len(wanted), AT_A_TIME):
        some = wanted[start : start + AT_A_TIME]
        rows = {r["clip_id"]: r for r in basis.rows(SPANS.format(ids=literals(some)))}
        frames = choose_frames(basis.views, list(rows.values()))
        for clip_id in some:
            if left <= 0:
                return found
            if clip_id in frames:
                data = _picture(basis, fingerprint, rows[clip_id]["video_id"], frames[clip_id])
                if data is not None and len(data) <= left:
                    found[clip_id] = data
                    left -= len(data)
    return found


def _picture(basis: Basis, fingerprint: str, video_id: str, frame: Mapping[str, Any]) -> str | None:
    number = frame["middle"] if frame["middle"] is not None else frame["nearest"]
    # By key through Lance: SQL would look through all videos' frames.
    batches = basis.catalog.rows_of(
        *("frames", video_id, fingerprint),
        columns=["sample_time_s", "jpeg"],
        where=f"sample_frame_index = {int(number)}",
    )
    for batch in batches:
        for row in batch.to_pylist():
            picture = shrink(row["jpeg"], row["sample_time_s"])
            if picture is not None:
                return picture.data_uri
    return None
