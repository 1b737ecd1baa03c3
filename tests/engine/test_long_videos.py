"""Long videos in parts: the same rows and the same shards as in one piece, whatever the parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from curation.engine.parts import PARTS
from curation.engine.unit import Unit, UnitResult
from curation.errors import MediaError
from curation.media.decode import Decoded
from curation.media.parts import Part, Seams, lay_parts
from curation.stage import Output
from curation.stages import signals
from curation.stages.signals import Signals
from pipelines.run_report import RunReport
from tests.faults.cluster import run_ray
from tests.faults.helpers import assets, dump, make_video, query, run, shard_bytes
from tests.media import Camera, Recording, write_video

FAST: dict[str, Any] = {
    "signals": {"segment_frames": 50, "transnet": "off", "sample_long_side_px": 64},
}
UNDIVIDED = {"part_s": None, "part_clips": None}
SHOTS = [Camera(pan_per_s=0.1 * (1 - i), tilt_per_s=0.05 * i, seed=i) for i in range(3)]
DONE = "SELECT video_id, stage, fingerprint, sum(num_rows) n FROM done GROUP BY ALL ORDER BY ALL"


def shoot(times_s: np.ndarray, size_px: tuple[int, int] = (96, 64)) -> Iterator[np.ndarray]:
    """Three shots, one after the other."""
    for camera, times in zip(SHOTS, np.array_split(times_s, len(SHOTS)), strict=True):
        yield from camera.shoot(*size_px, times)


def film(path: Path, how: Recording | None = None, frames: int = 330) -> Path:
    """A film of some seconds."""
    how = how or Recording()
    times_s = np.array(how.times_ms) / 1000 if how.times_ms else np.arange(frames) / how.fps
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, shoot(times_s), how)


def uneven_ms(count: int) -> list[int]:
    """Times with jitter, a burst of 120 frames in a quarter of a second, and two long gaps."""
    steps = np.random.default_rng(3).integers(20, 60, count)
    steps[100:220] = 2
    steps[[60, 219]] = 1700
    return np.cumsum(steps).tolist()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of every kind of stream that begins a part in another way."""
    folder = tmp_path_factory.mktemp("films") / "in"
    film(folder / "b-frames.mp4", Recording(b_frames=3, gop_frames=40))
    film(folder / "open.mkv", Recording(open_gop=True, b_frames=3, first_pts=700, fps=30))
    film(folder / "uneven.mkv", Recording(times_ms=uneven_ms(380)))
    film(folder / "stream.ts", Recording(fps=25))
    film(folder / "old.mp4", Recording(codec="mpeg4", gop_frames=15))
    make_video(folder / "short.mp4", [(1.2, 5)], fps=25)
    return folder


@pytest.fixture(scope="module")
def whole(films: Path) -> Path:
    """The dataset of an undivided run."""
    out = films.parent / "whole"
    report = run(films, out, **FAST, run=UNDIVIDED)
    assert report.balanced and report.videos_run == 6
    assert not any(report.long_videos.values())
    return out


def same(one: Path, two: Path) -> None:
    """Two datasets hold the same; ``done`` has a row per share of clips."""
    ours, theirs = dump(one, skip={"done"}), dump(two, skip={"done"})
    assert ours.keys() == theirs.keys()
    for table in ours:
        assert ours[table] == theirs[table], table
    assert query(one, DONE) == query(two, DONE)
    assert shard_bytes(one) == shard_bytes(two)
    assert left_files(two) == [] and not (two / "attempts").exists()


def left_files(out: Path) -> list[str]:
    return sorted(str(p.relative_to(out / PARTS)) for p in (out / PARTS).rglob("*"))


def counts(report: RunReport) -> dict[str, int]:
    """What was divided, without zeros; how many clips there are to share is not looked at."""
    assert report.balanced, report.account.imbalances
    return {name: n for name, n in report.long_videos.items() if n and name != "shares"}


@pytest.mark.parametrize("part_s", [1.5, 4.0])
def test_parts_of_any_length_give_the_same(
    films: Path, whole: Path, tmp_path: Path, part_s: float
) -> None:
    shares = {"part_clips": 4} if part_s < 2 else {}
    report = run(films, tmp_path / "out", **FAST, run={"part_s": part_s, **shares})
    assert report.videos_run == 6 and report.video_s > 60
    found = counts(report)
    assert found["videos"] == 5 and found["parts"] >= 3 * 5
    assert bool(report.long_videos["shares"]) == bool(shares) and "passed_whole" not in found
    same(whole, tmp_path / "out")


def test_a_video_that_ended_is_not_divided_again(films: Path, whole: Path) -> None:
    report = run(films, whole, **FAST, run={"part_s": 1.0})
    assert report.videos_run == 0 and counts(report) == {}


@pytest.mark.slow
def test_ray_gives_the_same_with_the_signals_in_a_group_of_their_own(
    films: Path, tmp_path: Path
) -> None:
    names = [films / "open.mkv", films / "short.mp4"]
    own_group = {**FAST["signals"], "resources": {"num_cpus": 0.5}}
    settings = {**FAST, "signals": own_group}
    assert run(names, tmp_path / "inline", **settings, run=UNDIVIDED).balanced
    divided = {"part_s": 3.0, "part_clips": 4}
    report = run_ray(names, tmp_path / "ray", **settings, run=divided)
    assert counts(report) == {"videos": 1, "parts": 3}
    same(tmp_path / "inline", tmp_path / "ray")


def damage(path: Path) -> Path:
    """Overwrite a piece in the middle."""
    data = bytearray(path.read_bytes())
    noise = np.random.default_rng(1).integers(0, 256, 4000, dtype=np.uint8)
    data[len(data) // 2 : len(data) // 2 + 4000] = noise.tobytes()
    path.write_bytes(data)
    return path


def with_edit_list(path: Path, source: Path) -> Path:
    """A copy whose edit list skips the first 0.7 s, which are decoded and not shown."""
    with av.open(str(source)) as inp, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(inp.streams.video[0])
        skip = int(0.7 / (stream.time_base or inp.streams.video[0].time_base or 1))
        for packet in inp.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts = packet.pts - skip, packet.dts - skip
                packet.stream = stream
                out.mux(packet)
    return path


def refreshed(path: Path) -> Path:
    """H.264 without keyframes after the first: stripes of intra blocks instead."""
    params = "intra-refresh=1:keyint=40:bframes=0"
    options = {"preset": "ultrafast", "x264-params": params}
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for picture in shoot(np.arange(330) / 25):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_what_cannot_be_divided_is_passed_over_whole(films: Path, tmp_path: Path) -> None:
    """Damage, edit lists, containers without times: the rows are equal anyway, and it is told."""
    odd = tmp_path / "in"
    damage(film(odd / "damaged.mp4"))
    damage(film(odd / "damaged.ts", Recording(fps=25)))
    film(odd / "program.mpg", Recording(codec="mpeg2video", fps=25))
    with_edit_list(odd / "edited.mp4", films / "b-frames.mp4")
    refreshed(odd / "refreshed.mp4")
    assert run(odd, tmp_path / "whole", **FAST, run=UNDIVIDED).balanced
    report = run(odd, tmp_path / "out", **FAST, run={"part_s": 1.5})
    assert counts(report)["passed_whole"] >= 1
    same(tmp_path / "whole", tmp_path / "out")


def test_neighbours_that_saw_other_pictures_are_not_joined(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a decoder had begun the second part with leftovers of its own."""
    real = signals.part_frames

    def wrong(*given: Any) -> Iterator[Decoded]:  # noqa: ANN401
        first: Decoded | None = None
        for number, decoded in enumerate(real(*given)):
            first = first or decoded
            good = given[2].index != 1 or number > 9  # the times are right throughout
            yield decoded if good else replace(decoded, frame=first.frame)

    video = films / "b-frames.mp4"
    assert run(video, tmp_path / "whole", **FAST, run=UNDIVIDED).balanced
    with monkeypatch.context() as patch:
        patch.setattr(signals, "part_frames", wrong)
        report = run(video, tmp_path / "out", **FAST, run={"part_s": 4.0})
    assert counts(report) == {"videos": 1, "parts": 3, "passed_whole": 1}
    same(tmp_path / "whole", tmp_path / "out")


class Stop(BaseException):
    """Ends a run as an interrupt would."""


def fail_at(monkeypatch: pytest.MonkeyPatch, index: int, exc: BaseException) -> list[int]:
    """Let a part fail; returns the list that the parts begun are written to."""
    begun: list[int] = []
    real = Signals.process_part

    def process_part(self: Signals, row: Any, part: Part) -> Iterator[Output | Seams]:  # noqa: ANN401
        begun.append(part.index)
        if part.index == index:
            raise exc
        yield from real(self, row, part)

    monkeypatch.setattr(Signals, "process_part", process_part)
    return begun


def test_a_resumed_run_takes_the_parts_that_are_there(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, settings = films / "b-frames.mp4", {"part_s": 2.0}
    assert run(video, tmp_path / "whole", **FAST, run=UNDIVIDED).balanced
    with monkeypatch.context() as patch, pytest.raises(Stop):
        fail_at(patch, 4, Stop())
        run(video, tmp_path / "out", **FAST, run=settings)
    there = [n for n in left_files(tmp_path / "out") if n.startswith("segments/")]
    assert len(there) == 4
    (tmp_path / "out" / PARTS / there[2]).write_bytes(b"PK torn")
    with monkeypatch.context() as patch:
        begun = fail_at(patch, 99, Stop())
        report = run(video, tmp_path / "out", **FAST, run=settings)
    assert begun == [2, 4, 5]
    assert counts(report) == {"videos": 1, "parts": 3, "reused": 3}
    same(tmp_path / "whole", tmp_path / "out")


def test_parts_of_another_plan_are_swept(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video, settings = films / "b-frames.mp4", {"part_s": 2.0}
    with monkeypatch.context() as patch, pytest.raises(Stop):
        fail_at(patch, 4, Stop())
        run(video, tmp_path / "out", **FAST, run=settings)
    other = {**FAST, "signals": {**FAST["signals"], "sample_quality": 50}}
    report = run(video, tmp_path / "out", **other, run=settings)
    assert counts(report) == {"videos": 1, "parts": 6}
    assert left_files(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("exc", "code", "bugs"),
    [
        (MediaError("network_error", "gone"), "network_error", 0),
        (RuntimeError("a bug"), "internal_error", 1),
    ],
)
def test_a_part_that_fails_costs_one_error_row_and_the_next_run_goes_on(
    films: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exc: Exception,
    code: str,
    bugs: int,
) -> None:
    video, settings = films / "b-frames.mp4", {"part_s": 2.0}
    with monkeypatch.context() as patch:
        begun = fail_at(patch, 4, exc)
        report = run(video, tmp_path / "out", **FAST, run=settings)
    assert begun == [0, 1, 2, 3, 4], "the parts after it are not worth doing"
    assert report.balanced and report.errors == {code: 1} and report.internal_errors == bugs
    (error,) = query(tmp_path / "out", "SELECT stage, code, clip_id FROM raw_errors")
    assert error == {"stage": "signals", "code": code, "clip_id": None}
    assert query(tmp_path / "out", "SELECT * FROM raw_segments") == []
    report = run(video, tmp_path / "out", **FAST, run=settings)
    assert counts(report) == {"videos": 1, "parts": 2, "reused": 4}
    assert left_files(tmp_path / "out") == []


def test_two_divisible_stages_in_one_plan(films: Path, tmp_path: Path) -> None:
    stages = [{"use": "tests.faults.bad_stages:BadPart"}]
    video = films / "b-frames.mp4"
    settings = {**FAST, "stages": stages}
    assert run(video, tmp_path / "whole", **settings, run=UNDIVIDED).balanced
    report = run(video, tmp_path / "out", **settings, run={"part_s": 4.0, "part_clips": 4})
    assert counts(report) == {"videos": 2, "parts": 6}
    same(tmp_path / "whole", tmp_path / "out")


def test_parts_are_told_by_the_packets_alone(films: Path) -> None:
    parts = lay_parts(str(films / "b-frames.mp4"), 2.0, 50)
    assert parts == lay_parts(str(films / "b-frames.mp4"), 2.0, 50)
    assert [p.start_frame for p in parts] == [0, 50, 100, 150, 200, 250]
    assert [p.end_frame for p in parts] == [50, 100, 150, 200, 250, None]
    assert lay_parts(str(films / "b-frames.mp4"), 7.0, 50) == []
    assert lay_parts(str(films / "short.mp4"), 0.1, 50) == []


def test_units_and_results_cross_processes_whole(films: Path) -> None:
    parts = lay_parts(str(films / "b-frames.mp4"), 4.0, 50)
    unit = Unit(source_id="s", uri="/a", etag="", video_id="v", todo=("signals", "split"))
    for full in (
        replace(unit, part=parts[0]),
        replace(unit, done_parts=("a", "b")),
        replace(unit, failure=("code", "words")),
        replace(unit, clips=(64, 128)),
        replace(unit, whole=True),
    ):
        result = UnitResult(unit=full, division=parts, shares=[(0, 4), (4, 7)], mismatch="why")
        assert UnitResult.from_row(json.loads(json.dumps(result.as_row()))) == result


@pytest.mark.slow
@pytest.mark.parametrize("part_s", [2.0, 5.0])
def test_real_footage_with_transnet(tmp_path: Path, part_s: float) -> None:
    folder = assets() / "videos"
    names = [folder / "real" / n for n in ("video.mp4", "cityCC0.mpg", "frog.mp4", "elf.mp4")]
    names += [folder / "odd" / n for n in ("truncated.mp4", "h265_video.mp4", "webm.webm")]
    given = [n for n in names if n.exists()]
    settings: dict[str, Any] = {"signals": {"segment_frames": 50, "transnet": "ambiguous"}}
    assert run(given, tmp_path / "whole", **settings, run=UNDIVIDED).balanced
    report = run(given, tmp_path / "out", **settings, run={"part_s": part_s, "part_clips": 2})
    assert report.balanced and report.long_videos["videos"] >= 1
    same(tmp_path / "whole", tmp_path / "out")
