"""The page's axes and words: bounds that show, numbers that read well, no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.catalog.views import Views
from pipelines.report import words
from pipelines.report.axis import Axis, choose_axis
from pipelines.report.page import root_name
from tests.pipelines.page_parts import empty_catalog


@pytest.mark.parametrize(
    ("span", "minimum", "maximum"),
    [
        ((0.05, 1.01), 0.1, None),
        ((0.0, 0.01), None, 0.8),
        ((0.1, 0.9), 0.05, 0.95),
        ((-3.0, 4.0), -1.0, 1.0),
        ((5.0, 5.0), None, None),
        ((0.0, 0.3), 0.002, 0.5),
        ((1e-9, 1e9), 0.002, 0.5),
        ((180, 2160), 128, None),
        (None, None, None),
        (None, 0.0, 0.0),
        ((0.0, 0.0), 0.0, None),
    ],
)
def test_an_axis_shows_both_sides_of_every_bound(
    span: tuple[float, float] | None, minimum: float | None, maximum: float | None
) -> None:
    axis = choose_axis(span, minimum, maximum)
    assert axis.high > axis.low and 4 <= axis.num_bins <= 60
    assert 1 <= len(axis.ticks()) <= 8
    if minimum:
        assert axis.low < minimum
    if maximum is not None:
        assert axis.high > maximum
    edges = [axis.edge(i) for i in range(axis.num_bins + 1)]
    for bound in (minimum, maximum):
        if bound:  # a bin never mixes both sides of a bound
            assert min(abs(e - bound) for e in edges) < 0.5 * abs(edges[1] - edges[0]) + 1e-12
    assert axis.at(axis.low) == 0.0 and axis.at(axis.high) == 1.0


def test_bins_agree_between_sql_and_drawing(tmp_path: Path) -> None:
    views = Views(empty_catalog(tmp_path))
    for axis in (
        Axis(low=0.0, high=1.0, num_bins=40),
        Axis(low=0.001, high=1.0, num_bins=30, log=True),
    ):
        for index in range(axis.num_bins):
            middle = (axis.edge(index) + axis.edge(index + 1)) / 2
            for value in (axis.edge(index), middle):
                sql = f"SELECT {axis.bin_sql(f'CAST({value!r} AS DOUBLE)')} AS bin"
                assert views.query(sql).column("bin")[0].as_py() == index
        for value, expected in (("-1e300", 0), ("'inf'", axis.num_bins - 1), ("'-inf'", 0)):
            sql = f"SELECT {axis.bin_sql(f'CAST({value} AS DOUBLE)')} AS bin"
            assert views.query(sql).column("bin")[0].as_py() == expected


def test_numbers_read_well() -> None:
    assert [words.duration(s) for s in (0.0, 7.46, 59.96, 583, 3600, 43_500, 4e6)] == [
        *("0 s", "7.5 s", "1 min 00 s", "9 min 43 s", "1 h 00 min", "12 h 05 min", "1,111 h")
    ]
    assert [words.size(n) for n in (0, 999, 63_068_160, 5 * 10**12)] == [
        *("0 bytes", "999 bytes", "63.1 MB", "5 TB")
    ]
    assert [words.timecode(s) for s in (0, 59.96, 3723.4)] == ["0:00.0", "1:00.0", "1:02:03.4"]
    reason = words.explain("low_x", {"x": 0.09999}, {"x": {"min": 0.1, "max": None}})
    assert reason.text == "x 0.09999 is below 0.1"
    assert words.explain("null_x", {"x": None}, {"x": {}}).text == "x is missing"
    assert words.explain("encode_failed", {}, {}).text == "encode failed"


def test_no_key_to_a_store_is_shown() -> None:
    signed = "https://user:pass@host/a/b.mp4?X-Amz-Signature=abc&id=7"
    assert words.source_label(signed) == "https://host/a/b.mp4?id=7"
    assert words.message_of(f"GET {signed} failed", signed) == (
        "GET https://host/a/b.mp4?id=7 failed"
    )
    assert words.source_label("/home/me/video.mp4") == "video.mp4"
    assert root_name("/home/me/data") == "data"
    assert root_name("s3://key:secret@bucket/data") == "s3://bucket/data"
