"""Rows of what was removed do not pass the worker; the time of dropped clips becomes spans."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from curation.removal.timeline import removed_spans
from curation.removal.tombstones import GoneSpan, Hidden
from curation.removal.withhold import withhold
from curation.schema import DOUBLES, FLOAT64, INT64, LONGS, STRING, schema
from curation.stage import Failure, Output

CLIPS = schema(
    clip_id=STRING, start_frame=INT64, end_frame=INT64, start_pts=INT64, end_pts=INT64,
    start_s=FLOAT64, end_s=FLOAT64, video_id=STRING, fingerprint=STRING,
)  # fmt: skip
SPANS = schema(
    start_frame=INT64, end_frame=INT64, start_s=FLOAT64, end_s=FLOAT64, reason=STRING,
    video_id=STRING, fingerprint=STRING,
)  # fmt: skip
HIDDEN = Hidden(
    video_id="v",
    whole=False,
    spans=(GoneSpan(start_pts=200, end_pts=400, start_s=2.0, end_s=4.0),),
    clip_ids=frozenset({"gone"}),
)


def row(start: int, end: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Frames of a hundredth of a pts and a hundred milliseconds."""
    times = {"start_frame": start, "end_frame": end, "start_s": start / 10, "end_s": end / 10}
    return times | {"video_id": "v", "fingerprint": "f"} | more


def clip(name: str, start: int, end: int) -> dict[str, Any]:
    return row(start, end, clip_id=name, start_pts=start * 10, end_pts=end * 10)


def tables_of(outputs: Iterable[Output]) -> dict[str, pa.Table]:
    """Tables by name, without failures."""
    return {found[0]: found[1] for found in outputs if not isinstance(found, Failure)}


@pytest.mark.parametrize(
    ("gone", "rest", "spans"),
    [
        ([(0, 10)], [], [(0, 10)]),
        ([(0, 10), (10, 20)], [], [(0, 20)]),
        ([(0, 10)], [(3, 5)], [(0, 3), (5, 10)]),
        ([(0, 10), (8, 14)], [(6, 9), (13, 20)], [(0, 6), (9, 13)]),
        ([(5, 6)], [(0, 10)], []),
        ([(0, 10)], [(10, 10), (0, 0), (10, 12)], [(0, 10)]),
    ],
)
def test_time_of_dropped_clips_is_what_nothing_else_covers(
    gone: list[tuple[int, int]], rest: list[tuple[int, int]], spans: list[tuple[int, int]]
) -> None:
    made = removed_spans([row(*g) for g in gone], [row(*r) for r in rest])
    assert [(s["start_frame"], s["end_frame"]) for s in made] == spans
    assert all(s["start_s"] == s["start_frame"] / 10 for s in made)
    assert all(s["end_s"] == s["end_frame"] / 10 for s in made)


def test_clips_that_share_a_frame_are_dropped_and_the_timeline_stays_whole() -> None:
    clips = [clip("a", 0, 20), clip("b", 18, 25), clip("c", 25, 39), clip("d", 40, 60)]
    spans = [row(39, 40, reason="edge_trim")]
    # The spans come first here: the order in which a stage yields its tables does not matter.
    outputs: list[Output] = [
        ("spans", pa.Table.from_pylist(spans, schema=SPANS)),
        ("clips", pa.Table.from_pylist(clips, schema=CLIPS)),
    ]
    found = tables_of(withhold(HIDDEN, outputs))
    assert found["clips"].column("clip_id").to_pylist() == ["a", "d"]
    rows = [(r["start_frame"], r["end_frame"], r["reason"]) for r in found["spans"].to_pylist()]
    assert rows == [(39, 40, "edge_trim"), (20, 39, "removed")]
    assert found["spans"].schema == SPANS


def test_pictures_go_and_numbers_stay() -> None:
    samples = pa.table(
        {"sample_pts": [0, 199, 200, 399, 400], "jpeg": [b"1", b"2", b"3", b"4", b"5"]}
    )
    segments = pa.Table.from_pylist(
        [
            {
                "frame_pts": [190, 200, 399, 400, 450],
                "frame_time_s": [1.9, 2.0, 3.99, 4.0, 4.5],
                "frame_print": [b"a", b"b", None, b"of what is gone", b"e"],
            }
        ],
        schema=pa.schema(
            [
                ("frame_pts", LONGS),
                ("frame_time_s", DOUBLES),
                ("frame_print", pa.list_(pa.binary())),
            ]
        ),
    )
    scores = pa.table({"clip_id": ["a", "gone"], "sharpness": [0.1, 0.2]})
    failure = Failure(clip_id="a", code="decode_failed", message="m")
    outputs: list[Output] = [("frames", samples), ("segments", segments), ("scores", scores)]
    found = list(withhold(HIDDEN, [*outputs, failure]))
    assert found[-1] is failure
    tables = tables_of(found)
    assert tables["frames"].column("jpeg").to_pylist() == [b"1", b"2", b"5"]
    segments = tables["segments"].to_pylist()[0]
    assert segments["frame_pts"] == [190, 200, 399, 400, 450]
    # A print shows the quarter second before its frame.
    assert segments["frame_print"] == [b"a", None, None, None, b"e"]
    assert tables["scores"].column("clip_id").to_pylist() == ["a"]


def test_without_tombstones_outputs_pass_untouched() -> None:
    clips = pa.Table.from_pylist([clip("a", 0, 20)], schema=CLIPS)
    outputs: list[Output] = [("clips", clips)]
    assert tables_of(withhold(None, outputs))["clips"] is clips
