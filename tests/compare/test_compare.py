"""Two catalogs made by hand, compared: clips, sources, captions, account, settings, gates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.compare.comparison import Comparison, compare
from pipelines.compare.fates import NO_SOURCE, NO_SPAN, REMOVED, Group
from pipelines.compare.figures import figures_of
from tests.compare.parts import Clip, clipmill, make_root


def pair(tmp_path: Path, a: list[Clip], b: list[Clip], *more: str) -> Comparison:
    make_root(tmp_path / "a", a)
    make_root(tmp_path / "b", b, *more)
    return compare(str(tmp_path / "a"), str(tmp_path / "b"))


def by_reason(groups: list[Group]) -> dict[str, int]:
    return {g.reason: g.num_clips for g in groups}


def test_a_dataset_is_like_itself(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1"), Clip(name="c2", verdict="rejected")])
    root = str(tmp_path / "a")
    done = clipmill("compare", root, root, "--fail-if", "lost.clips + gained.clips > 0")
    assert done.code == 0, done.err
    assert "no difference" in done.out and "passed" in done.out
    found = compare(root, root)
    assert found.fates is not None and found.fates.both_clips == 1
    assert all(s.ks in (0.0, None) for s in found.shifts)
    assert [c for c in found.account if c.delta] == []


def test_lost_and_gained_by_reason(tmp_path: Path) -> None:
    a = [
        Clip(name="same"),
        Clip(name="dark", start_s=10, end_s=20),
        Clip(name="broken", start_s=20, end_s=30),
        Clip(name="back", start_s=30, end_s=40, verdict="rejected", reasons=["high_noise"]),
        Clip(name="elsewhere", video="v2"),
        Clip(name="gone", video="v3"),
        Clip(name="unjudged", video="v4"),
        Clip(name="out", video="v4", start_s=10, end_s=20),
    ]
    b = [
        Clip(name="same"),
        Clip(
            name="dark",
            start_s=10,
            end_s=20,
            verdict="rejected",
            reasons=["low_luma_mean", "low_sharpness"],
        ),
        Clip(name="broken", start_s=20, end_s=30, verdict="failed", reasons=["null_noise"]),
        Clip(name="back", start_s=30, end_s=40),
        Clip(name="new", video="v5"),
        Clip(name="unjudged", video="v4", verdict=None),
    ]
    make_root(tmp_path / "a", a)
    catalog = make_root(tmp_path / "b", b, videos=["v1", "v2", "v4", "v5"])
    catalog.append(
        "tombstones",
        catalog.dataset("tombstones")
        .schema.empty_table()
        .from_pylist(
            [{"kind": "clip", "video_id": "v4", "clip_id": "out"}],
            schema=catalog.dataset("tombstones").schema,
        ),
    )
    found = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    fates = found.fates
    assert fates is not None
    assert (fates.both_clips, fates.lost_clips, fates.gained_clips) == (1, 6, 2)
    assert by_reason(fates.lost) == {
        "low_luma_mean": 1,
        "low_sharpness": 1,
        "error null_noise": 1,
        "not judged": 1,
        REMOVED: 1,
        NO_SPAN: 1,
        NO_SOURCE: 1,
    }
    assert by_reason(fates.gained) == {"high_noise": 1, NO_SOURCE: 1}
    assert fates.lost_hours == pytest.approx(60 / 3600, abs=1e-6)
    assert found.sources is not None
    assert (found.sources.both, found.sources.lost, found.sources.gained) == (3, 1, 1)
    assert found.sources.lost_examples == ["v3.mp4"]


@pytest.mark.parametrize(
    ("spans", "recut"),
    [
        ([(0.5, 10.5)], True),  # moved by half a second
        ([(0, 5), (5, 10)], True),  # cut in two
        ([(0, 5), (3, 8)], True),  # overlapping: 8 of 10 s, not 10
        ([(0, 5), (2, 7)], False),  # overlapping: 7 of 10 s, though the lengths add up to 10
        ([(0, 100)], True),  # part of a longer one
        ([(0, 7.9)], False),
        ([(10, 20)], False),  # touches only
    ],
)
def test_cut_anew_is_not_lost(
    tmp_path: Path, spans: list[tuple[float, float]], recut: bool
) -> None:
    b = [Clip(name=f"n{i}", start_s=s, end_s=e) for i, (s, e) in enumerate(spans)]
    found = pair(tmp_path, [Clip(name="old")], b)
    assert found.fates is not None
    assert (found.fates.recut_a, found.fates.lost_clips) == ((1, 0) if recut else (0, 1))
    if not recut:
        assert by_reason(found.fates.lost) == {NO_SPAN: 1}


def test_clips_over_many_minutes_are_matched_once(tmp_path: Path) -> None:
    """A clip of ten minutes lies in many buckets; its overlap counts in one."""
    a = [Clip(name="old", start_s=30, end_s=630)]
    b = [Clip(name="x", start_s=30, end_s=330), Clip(name="y", start_s=500, end_s=680)]
    found = pair(tmp_path, a, b)
    assert found.fates is not None and found.fates.recut_a == 0  # 430 of 600 s
    assert found.fates.recut_b == 1  # all of x; 130 of 180 s of y
    assert found.fates.gained_clips == 1


def test_cut_anew_and_then_rejected_tells_the_reason(tmp_path: Path) -> None:
    b = [Clip(name="new", start_s=0.2, end_s=10.2, verdict="rejected", reasons=["low_sharpness"])]
    found = pair(tmp_path, [Clip(name="old")], b)
    assert found.fates is not None and found.fates.recut_a == 0
    assert by_reason(found.fates.lost) == {"low_sharpness (cut anew)": 1}


def test_captions_and_scores_of_common_clips(tmp_path: Path) -> None:
    a = [Clip(name=f"c{i}", start_s=10 * i, end_s=10 * i + 10) for i in range(4)]
    b = [
        Clip(name="c0", start_s=0, end_s=10, caption="A cat."),
        Clip(name="c1", start_s=10, end_s=20, caption=None),
        Clip(name="c2", start_s=20, end_s=30, sharpness=0.9),
        Clip(name="c3", start_s=30, end_s=40, sharpness=None),
    ]
    found = pair(tmp_path, a, b)
    assert found.captions is not None
    assert vars(found.captions) == {"both": 3, "changed": 1, "lost": 1, "gained": 0}
    shift = next(s for s in found.shifts if s.column == "sharpness")
    assert (shift.paired.n, shift.paired.num_changed) == (3, 1)
    assert shift.paired.largest == pytest.approx(0.4)
    assert shift.b.num_null == 1


def test_settings_stages_and_account(tmp_path: Path) -> None:
    a = [Clip(name="c1"), Clip(name="c2", start_s=10, end_s=20)]
    b = [
        Clip(name="c1"),
        Clip(name="c2", start_s=10, end_s=20, verdict="rejected", reasons=["low_sharpness"]),
    ]
    found = pair(tmp_path, a, b, "judge.rules.sharpness.min=0.7", "run.num_workers=3")
    keys = [c.key for c in found.settings]
    assert keys == ["judge.rules.sharpness.min", "run.num_workers"]
    assert found.stages == []
    counts = {c.name: (c.a, c.b) for c in found.account}
    assert counts["kept.clips"] == (2, 1)
    assert counts["reason.low_sharpness"] == (0, 1)
    assert counts["kept.hours"] == pytest.approx((20 / 3600, 10 / 3600), abs=1e-6)
    other = compare(str(tmp_path / "b"), str(tmp_path / "a"))
    assert other.fates is not None and by_reason(other.fates.gained) == {"low_sharpness": 1}


def test_another_split_changes_the_stages_behind_it(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1")])
    make_root(tmp_path / "b", [Clip(name="c2")], "split.max_s=5")
    found = compare(str(tmp_path / "a"), str(tmp_path / "b"))
    notes = {c.key: c.note for c in found.stages}
    assert notes["split"] == "other settings"
    assert notes["score"] == "reads a stage that changed"
    assert "probe" not in notes


def test_gates_and_exit_codes(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1"), Clip(name="c2", start_s=10, end_s=20)])
    make_root(tmp_path / "b", [Clip(name="c1")])
    sides = ("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    done = clipmill(*sides, "--fail-if", "kept.hours < 0.9", "--fail-if", "gained.clips > 0")
    assert done.code == 1
    assert "FAILED kept.hours < 0.9" in done.out and "passed gained.clips > 0" in done.out
    # What did not happen is zero, not unknown.
    assert clipmill(*sides, "--fail-if", "b.reason.low_sharpness + b.error.timed_out > 0").code == 0
    for wrong in ("kept.hour < 1", "failed.clips > 1", "b.reason.low_sharpnes > 0"):
        done = clipmill(*sides, "--fail-if", wrong)
        assert done.code == 2, wrong
        assert "--fail-if" in done.err and done.out == ""


def test_what_cannot_be_read_is_told_before_any_work(tmp_path: Path) -> None:
    """The sides are not even looked for."""
    done = clipmill("compare", "nowhere", "nothing", "--fail-if", "kept.hours")
    assert done.code == 2 and "not a condition" in done.err


def test_names_of_figures(tmp_path: Path) -> None:
    a = [Clip(name="c1"), Clip(name="c2", start_s=10, end_s=20)]
    found = pair(tmp_path, a, [Clip(name="c1", sharpness=0.7)])
    figures = figures_of(found)
    assert figures["kept.clips"] == 0.5 and figures["delta.kept.clips"] == -1
    assert (figures["a.kept.clips"], figures["b.kept.clips"]) == (2, 1)
    assert figures["lost.clips"] == 1 and figures["lost.share"] == 0.5
    assert figures["shift.sharpness"] == 1.0 and figures["changed.sharpness"] == 1.0
    assert figures["mean.sharpness"] == pytest.approx(1.4)
    assert figures["failed.clips"] is None and figures["delta.failed.clips"] == 0
    assert figures["reason.low_sharpness"] is None and figures["b.reason.low_sharpness"] == 0


def test_json_is_whole_and_plain(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1", more={"motion_per_s": float("nan")})])
    make_root(tmp_path / "b", [Clip(name="c1", more={"motion_per_s": float("inf")})])
    done = clipmill(
        *("compare", str(tmp_path / "a"), str(tmp_path / "b"), "--json"),
        *("--fail-if", "lost.clips > 0"),
    )
    assert done.code == 0, done.err
    data = json.loads(done.out, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert data["failed"] is False and data["gates"][0]["values"] == {"lost.clips": 0}
    assert data["clips"]["both_clips"] == 1
    motion = next(s for s in data["shifts"] if s["column"] == "motion_per_s")
    assert motion["a"]["n"] == motion["b"]["n"] == 0  # neither is a number to compare with
    assert data["figures"]["a.kept.clips"] == 1


def test_a_side_without_clips(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1")])
    make_root(tmp_path / "b", [], videos=["v1"])
    sides = ("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    done = clipmill(*sides, "--fail-if", "b.kept.clips == 0")
    assert done.code == 1 and "cannot be compared: a side keeps no clip" in done.out
    # A gate on a score that one side does not have must not pass by silence.
    assert clipmill(*sides, "--fail-if", "shift.sharpness > 0.1").code == 2


def test_clips_that_stand_twice_are_refused(tmp_path: Path) -> None:
    make_root(tmp_path / "a", [Clip(name="c1"), Clip(name="c1")])
    done = clipmill("compare", str(tmp_path / "a"), str(tmp_path / "a"))
    assert done.code == 2 and "occur twice" in done.err
