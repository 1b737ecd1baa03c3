"""Runs in which what stays depends on all clips: quantiles, caps, splits, duplicates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.errors import CatalogError, ConfigError
from pipelines.config import CurateConfig
from pipelines.redo import preview_verdicts, rejudge, reshard, stored_config
from tests.faults.helpers import catalog_of, dump, make_video, query, run, settings, shard_bytes

RULES = {"rules": {"luma_mean": {"min_quantile": 0.25}}}
CHOICE: dict[str, Any] = {
    "judge": RULES,
    "sample": {"per_video": {"max_clips": 2}},
    "splits": {"shares": {"train": 0.5, "val": 0.5}},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of three clips each."""
    folder = tmp_path_factory.mktemp("choice") / "in"
    for i in range(4):
        make_video(folder / f"v{i}.mp4", [(1.0, 10 * i + 1), (1.0, 10 * i + 2), (1.0, 10 * i + 3)])
    return folder


@pytest.fixture(scope="module")
def chosen(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset made with the choice."""
    out = tmp_path_factory.mktemp("chosen") / "out"
    assert run(inputs, out, **CHOICE).balanced
    return out


def config_of(out: Path, **sections: Any) -> CurateConfig:  # noqa: ANN401 - any section
    """The dataset's own configuration with other sections."""
    return CurateConfig.model_validate(stored_config(catalog_of(out)) | sections)


def reasons(out: Path) -> dict[str, int]:
    """How many clips each reason stands on."""
    rows = query(out, "SELECT unnest(reasons) AS r, count(*) AS n FROM clips GROUP BY r ORDER BY r")
    return {row["r"]: row["n"] for row in rows}


def test_only_what_stays_is_cut(chosen: Path) -> None:
    clips = query(chosen, "SELECT * FROM clips")
    kept = [c for c in clips if c["verdict"] == "kept"]
    assert len(clips) == 12
    assert {c["media_path"] is not None for c in kept} == {True}
    assert {c["media_path"] is not None for c in clips if c["verdict"] != "kept"} == {False}
    found = reasons(chosen)
    assert found["low_luma_mean"] == 3
    assert found["over_video_cap"] == 12 - 3 - len(kept)
    per_video = query(
        chosen, "SELECT count(*) AS n FROM clips WHERE verdict = 'kept' GROUP BY video_id"
    )
    assert max(row["n"] for row in per_video) <= 2


def test_the_quantile_stands_in_the_catalog_with_its_number(chosen: Path) -> None:
    threshold = query(chosen, "SELECT * FROM thresholds")
    values = [r["luma_mean"] for r in query(chosen, "SELECT luma_mean FROM clips")]
    assert len(threshold) == 1 and threshold[0]["column"] == "luma_mean"
    below = [v for v in values if v < threshold[0]["value"]]
    assert len(below) == 3
    clip = query(chosen, "SELECT * FROM clips WHERE list_contains(reasons, 'low_luma_mean')")[0]
    margin = clip["margins"][clip["reasons"].index("low_luma_mean")]
    assert margin == pytest.approx(clip["luma_mean"] - threshold[0]["value"], abs=1e-5)


def test_splits_reach_the_shards_in_folders_of_their_own(chosen: Path) -> None:
    rows = query(
        chosen,
        "SELECT video_id, list(DISTINCT split) AS s FROM clips "
        "WHERE verdict = 'kept' GROUP BY video_id",
    )
    assert {len(r["s"]) for r in rows} == {1}
    folders = {name.split("/")[0] for name in shard_bytes(chosen)} - {"index.parquet"}
    assert folders == {r["s"][0] for r in rows} <= {"train", "val"}


def test_another_run_changes_nothing(chosen: Path, inputs: Path) -> None:
    before, shards = dump(chosen, skip={"identities"}), shard_bytes(chosen)
    report = run(inputs, chosen, **CHOICE)
    assert report.balanced and report.videos_run == 0
    assert shard_bytes(chosen) == shards
    assert dump(chosen, skip={"identities"}) == before


def test_the_way_there_leaves_no_trace(chosen: Path, inputs: Path, tmp_path: Path) -> None:
    """Video by video, and with other rules in between: the same shards as in one run."""
    for path in sorted(inputs.iterdir())[:2]:
        run(path, tmp_path / "out", judge=RULES)
    run(inputs, tmp_path / "out", **CHOICE)
    assert shard_bytes(tmp_path / "out") == shard_bytes(chosen)


def test_a_clip_that_cannot_be_cut_gives_its_place_to_another(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from curation.errors import ErrorCode, MediaError
    from curation.stages.cut import Cut

    out = tmp_path / "out"
    sections: dict[str, Any] = {"sample": {"per_video": {"max_clips": 1}}}
    run(inputs, out, **sections)
    first = {r["clip_id"] for r in query(out, "SELECT clip_id FROM clips WHERE verdict = 'kept'")}
    assert len(first) == 4
    whole = Cut.process

    def breaks(self: Cut, batch: Any) -> Any:  # noqa: ANN401
        if first & set(batch.column("clip_id").to_pylist()):
            raise MediaError(ErrorCode.ENCODE_FAILED, "of all clips these")
        return whole(self, batch)

    monkeypatch.setattr(Cut, "process", breaks)
    report = run(inputs, tmp_path / "other", **sections)
    assert report.balanced, report.account.imbalances
    verdicts = query(tmp_path / "other", "SELECT clip_id, verdict, reasons FROM clips")
    failed = {r["clip_id"] for r in verdicts if r["verdict"] == "failed"}
    kept = {r["clip_id"] for r in verdicts if r["verdict"] == "kept"}
    assert failed == first and len(kept) == 4


def test_a_dry_run_tells_and_changes_nothing(chosen: Path) -> None:
    before = dump(chosen)
    fall, _ = preview_verdicts(
        str(chosen), config_of(chosen, judge={"rules": {"luma_mean": {"min_quantile": 0.5}}})
    )
    steps = {s.reason: s for s in fall.steps}
    assert steps["low_luma_mean"].removed.clips == 6
    assert (
        fall.kept.clips == 6 - steps["over_video_cap"].removed.clips
        if ("over_video_cap" in steps)
        else 6
    )
    assert dump(chosen) == before
    assert json.dumps(fall.as_json())


def test_rules_that_need_rows_the_dataset_lacks_are_refused_with_the_command(
    chosen: Path,
) -> None:
    with pytest.raises(ConfigError, match="made without: prints"):
        rejudge(str(chosen), config_of(chosen, dedup={"perceptual": {}}))


def test_rights_of_the_source_are_judged_before_anything_is_cut(
    inputs: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "list.jsonl"
    licenses = ["CC-BY-4.0", "proprietary", None, "CC0-1.0"]
    rows = [
        {"uri": str(path), **({"license": name} if name else {})}
        for path, name in zip(sorted(inputs.iterdir()), licenses, strict=True)
    ]
    listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rights = {"require": ["license"], "allow": {"license": ["CC*"]}}
    report = run(listed, tmp_path / "out", rights=rights)
    assert report.balanced
    kept = query(
        tmp_path / "out",
        "SELECT license, count(media_path) AS n FROM clips GROUP BY license ORDER BY ALL",
    )
    assert {r["license"]: r["n"] for r in kept} == {
        "CC-BY-4.0": 3,
        "CC0-1.0": 3,
        "proprietary": 0,
        None: 0,
    }
    found = reasons(tmp_path / "out")
    assert found["rights_missing_license"] == 3 and found["rights_unlisted_license"] == 3
    # A default makes the unknown one known; the same rows, judged anew.
    rejudge(
        str(tmp_path / "out"),
        config_of(tmp_path / "out", rights=rights | {"defaults": {"license": "CC0-1.0"}}),
    )
    assert reasons(tmp_path / "out") == {"rights_unlisted_license": 3}


def test_what_a_run_that_was_cut_short_brought_is_not_packed(chosen: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(chosen, out)
    config = config_of(out)
    reshard(str(out), config)
    catalog_of(out).start_run("99990101T000000000000-dead", "curate", {}, config.plan())
    with pytest.raises(CatalogError, match="cut short"):
        reshard(str(out), config)
    rejudge(str(out), config)
    reshard(str(out), config)


def test_a_column_made_after_the_choice_cannot_choose() -> None:
    balance = {"by": "media_bytes", "edges": [1000.0], "max_share": 0.5}
    with pytest.raises(ConfigError, match="cannot choose them"):
        settings(sample={"balance": balance}).plan().check()
    with pytest.raises(ConfigError, match="no stage adds"):
        settings(judge={"rules": {"size_bytes": {"min": 1}}}).plan().check()
    assert settings(judge={"rules": {"license": {"none_of": ["bad"]}}}).plan().waits_for_all


def test_settings_reach_the_plan() -> None:
    plan = settings(**CHOICE).plan()
    assert plan.waits_for_all
    assert not settings(splits=CHOICE["splits"]).plan().waits_for_all
    assert plan.verdict_fingerprint() != settings(judge=RULES).plan().verdict_fingerprint()
