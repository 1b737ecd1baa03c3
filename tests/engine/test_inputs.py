"""A stage's input is the same wherever its columns lie: in work, in a part, or in the catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from curation.schema import DOUBLES, FLOAT32, FLOAT64, FLOATS, INT32, STRING, schema
from curation.stage import Output, Stage
from tests.faults.helpers import make_video, query, run

HERE = "tests.engine.test_inputs"


class Looker(Stage):
    """Notes what it is given: of the clip, its video, its frames, its pictures, another stage."""

    name: ClassVar[str] = "looker"
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING,
        start_s=FLOAT64,
        num_frames=INT32,
        width_px=INT32,
        luma_mean=FLOAT32,
        frame_time_s=DOUBLES,
        frame_luma_mean=FLOATS,
        sample_pts_s=DOUBLES,
        sample_jpegs=pa.list_(pa.binary()),
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "looks": schema(
            clip_id=STRING,
            seen_frames=INT32,
            first_frame_s=FLOAT64,
            mean_luma=FLOAT64,
            seen_samples=INT32,
            first_sample_s=FLOAT64,
            digest=STRING,
        )
    }

    def process(self, batch: pa.Table) -> Iterator[Output]:
        rows = []
        for row in batch.to_pylist():
            assert len(row["frame_time_s"]) == row["num_frames"] == len(row["frame_luma_mean"])
            assert all(j.startswith(b"\xff\xd8") for j in row["sample_jpegs"])
            rows.append(
                {
                    "clip_id": row["clip_id"],
                    "seen_frames": len(row["frame_time_s"]),
                    "first_frame_s": row["frame_time_s"][0] - row["start_s"],
                    "mean_luma": sum(row["frame_luma_mean"]) / row["num_frames"],
                    "seen_samples": len(row["sample_jpegs"]),
                    "first_sample_s": row["sample_pts_s"][0] if row["sample_pts_s"] else None,
                    "digest": hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest(),
                }
            )
        yield "looks", pa.Table.from_pylist(rows, schema=self.adds["looks"])


class VideoLooker(Stage):
    """The same at video grain: the whole lists."""

    name: ClassVar[str] = "video_looker"
    grain: ClassVar = "video"
    reads: ClassVar[pa.Schema] = schema(
        frame_time_s=DOUBLES, sample_pts_s=DOUBLES, uri=STRING, video_duration_s=FLOAT64
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "video_looks": schema(all_frames=INT32, all_samples=INT32, seen_uri=STRING)
    }

    def process(self, batch: pa.Table) -> Iterator[Output]:
        (row,) = batch.to_pylist()
        times = row["frame_time_s"]
        assert times == sorted(times) and times[-1] < row["video_duration_s"]
        seen = {"all_frames": len(times), "all_samples": len(row["sample_pts_s"])}
        yield "video_looks", pa.Table.from_pylist([seen | {"seen_uri": row["uri"]}])


ONE_GROUP = [{"use": f"{HERE}:Looker"}, {"use": f"{HERE}:VideoLooker"}]
OWN_GROUPS = [
    s | {"resources": {"num_cpus": n}} for n, s in zip((0.5, 2.0), ONE_GROUP, strict=True)
]
# 90 frames in segments of 64: lists have to be joined over two rows.
SIGNALS = {"segment_frames": 50, "sample_interval_s": 0.7}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_video(tmp_path_factory.mktemp("inputs") / "v.mp4", [(5.0, 1), (4.0, 2)])


def looks(out: Path) -> list[dict[str, Any]]:
    sql = "SELECT l.* FROM looks l JOIN clips USING (clip_id) ORDER BY clip_index"
    return query(out, sql) + query(out, "SELECT * FROM video_looks")


@pytest.fixture(scope="module")
def fused(video: Path) -> list[dict[str, Any]]:
    """The rows when everything runs in one group."""
    out = video.parent / "fused"
    assert run(video, out, stages=ONE_GROUP, signals=SIGNALS).balanced
    return looks(out)


def test_a_clip_sees_its_own_frames_and_pictures(fused: list[dict[str, Any]]) -> None:
    *clips, video = fused
    assert len(clips) >= 8 and (video["all_frames"], video["all_samples"]) == (90, 13)
    assert all(c["first_frame_s"] == pytest.approx(0, abs=1e-6) for c in clips)
    assert sum(c["seen_frames"] for c in clips) <= 90
    assert 9 <= sum(c["seen_samples"] for c in clips) <= 13
    assert all(0 <= c["first_sample_s"] < 1 for c in clips if c["seen_samples"])


def test_an_own_group_reads_the_same_from_the_part(
    video: Path, fused: list[dict[str, Any]], tmp_path: Path
) -> None:
    report = run(video, tmp_path / "out", stages=OWN_GROUPS, signals=SIGNALS)
    assert report.balanced and looks(tmp_path / "out") == fused


def test_a_later_run_reads_the_same_from_the_catalog(
    video: Path, fused: list[dict[str, Any]], tmp_path: Path
) -> None:
    run(video, tmp_path / "out", signals=SIGNALS)
    report = run(video, tmp_path / "out", stages=ONE_GROUP, signals=SIGNALS)
    assert report.balanced and report.video_s == 0.0
    assert looks(tmp_path / "out") == fused
