"""What a side may be: datasets, runs, releases, and runs whose rows are gone."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.compare.comparison import compare
from pipelines.compare.pinned import version_at
from pipelines.compare.side import open_side
from pipelines.config import load_config
from pipelines.redo import rejudge, stored_config
from tests.compare.parts import RUN, Clip, clipmill, make_root

CLIPS = [
    Clip(name="sharp", sharpness=0.9),
    Clip(name="soft", start_s=10, end_s=20, sharpness=0.2),
]


@pytest.fixture
def judged(tmp_path: Path) -> str:
    """A root whose second run judged with a higher bound."""
    root = str(tmp_path / "data")
    rules = ["judge.rules={sharpness: {min: 0.1}}"]
    catalog = make_root(Path(root), CLIPS, *rules)
    report = {"account": {"videos": {"total": 1}, "clips": {"kept": 2}, "seconds": {"kept": 20.0}}}
    catalog.finish_run(RUN, report | {"wall_s": 12.0, "stages": {"probe": {"busy_s": 1.0}}})
    time.sleep(0.02)
    config = load_config(
        None, ["judge.rules.sharpness.min=0.5"], base=stored_config(Catalog.open(root))
    )
    rejudge(root, config)
    return root


def test_the_run_before(judged: str) -> None:
    found = compare(f"{judged}@latest~1", judged)
    assert found.no_clips == "" and found.fates is not None
    assert found.a.kind == "run" and found.a.run is not None and found.a.run.run_id == RUN
    assert (found.fates.both_clips, found.fates.lost_clips) == (1, 1)
    assert [(g.reason, g.num_clips) for g in found.fates.lost] == [("low_sharpness", 1)]
    assert [(c.key, c.a, c.b) for c in found.settings] == [("judge.rules.sharpness.min", 0.1, 0.5)]


@pytest.mark.parametrize("name", [RUN, RUN[:10], "latest~1"])
def test_names_of_a_run(judged: str, name: str) -> None:
    side = open_side(f"{judged}@{name}")
    assert side.run is not None and side.run.run_id == RUN


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("latest~2", "2 runs are recorded"),
        ("2026010", "no run and no release"),
        (f"{RUN[:-1]}b", f"did you mean '{RUN}'"),
        ("../../etc", "no name of a run or release"),
        ("", "no name of a run or release"),
    ],
)
def test_names_that_mean_nothing(judged: str, name: str, words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        open_side(f"{judged}@{name}")


def test_a_root_with_an_at_in_its_name(tmp_path: Path) -> None:
    root = tmp_path / "data@home"
    make_root(root, CLIPS)
    assert open_side(str(root)).kind == "dataset"
    assert open_side(f"{root}@latest").kind == "run"


def test_a_tag_keeps_what_a_cleaned_run_lost(judged: str) -> None:
    catalog = Catalog.open(judged)
    catalog_before = open_side(f"{judged}@{RUN}").catalog
    assert catalog_before is not None
    for table in catalog.tables():
        catalog.dataset(table).tags.create("v1", catalog_before.dataset(table).version)
    # `runs` was pinned at its newest version: the release was made when the first run was latest.
    runs = catalog.dataset("runs")
    runs.tags.update("v1", next(v["version"] for v in runs.versions() if _rows(runs, v) == 2))
    assert open_side(f"{judged}@v1").kind == "release"
    found = compare(f"{judged}@v1", judged)
    assert found.fates is not None and found.fates.lost_clips == 1


def _rows(dataset, version) -> int:  # noqa: ANN001
    return dataset.checkout_version(version["version"]).count_rows()


def test_a_run_whose_rows_are_gone_is_compared_by_its_record(judged: str) -> None:
    catalog = Catalog.open(judged)
    for table in catalog.tables():
        catalog.dataset(table).cleanup_old_versions(older_than=timedelta(0))
    found = compare(f"{judged}@latest~1", judged)
    assert found.fates is None and "cleaned away" in found.no_clips
    assert "verdicts" in found.no_clips
    counts = {c.name: (c.a, c.b) for c in found.account}
    assert counts["kept.clips"] == (2, 1)
    assert [c.key for c in found.settings] == ["judge.rules.sharpness.min"]
    sides = ("compare", f"{judged}@latest~1", judged)
    done = clipmill(*sides, "--fail-if", "kept.clips < 0.9")
    assert done.code == 1 and "clips cannot be compared" in done.out
    done = clipmill(*sides, "--fail-if", "lost.clips > 0")
    assert done.code == 2 and "lost.clips is not known" in " ".join(done.err.split())


def test_cost_comes_from_the_reports(judged: str) -> None:
    found = compare(f"{judged}@latest~1", f"{judged}@latest~1")
    cost = {c.name: c.a for c in found.cost}
    assert cost["cost.wall_s"] == 12.0 and cost["cost.stage.probe"] == 1.0


def test_no_dataset(tmp_path: Path) -> None:
    make_root(tmp_path / "a", CLIPS)
    done = clipmill("compare", str(tmp_path / "a"), str(tmp_path / "nothing"))
    assert done.code == 2 and "no clipmill dataset here" in " ".join(done.err.split())


def test_a_release_by_its_folder_alone(tmp_path: Path) -> None:
    """The files that a release consists of, without the root they were made in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path / "data"
    make_root(root, CLIPS)
    folder = tmp_path / "v1"
    (folder / "data").mkdir(parents=True)
    spans = [
        {"clip_id": "sharp", "start_s": 0.0, "end_s": 10.0, "verdict": "kept", "reasons": []},
        {
            "clip_id": "soft",
            "start_s": 10.0,
            "end_s": 20.0,
            "verdict": "rejected",
            "reasons": ["low_sharpness"],
        },
    ]
    tables = {
        "verdicts": [{"video_id": "v1", "file": "v1.mp4"} | s for s in spans],
        "clips": [{"clip_id": "sharp", "video_id": "v1", "width_px": 8, "sharpness": 0.9}],
        "captions": [{"clip_id": "sharp", "video_id": "v1", "kind": "short", "text": "A dog."}],
        "sources": [{"video_id": "v1", "file": "v1.mp4", "status": "done"}],
    }
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / "data" / f"{name}.parquet")
    account = {"videos": {"total": 1}, "clips": {"kept": 1}, "seconds": {"kept": 10.0}}
    manifest = {"tag": "v1", "created_at": "2026-01-01T00:00:00+00:00", "account": account}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = compare(str(folder), str(root))
    assert found.a.kind == "release" and found.fates is not None
    assert (found.fates.both_clips, found.fates.gained_clips) == (1, 1)
    assert found.fates.gained[0].reason == "low_sharpness"
    assert [s.column for s in found.shifts] == ["sharpness"]
    assert found.captions is None  # other kinds of texts than the catalog's columns
    (root / "releases").mkdir()
    folder.rename(root / "releases" / "v1")
    assert open_side(f"{root}@v1").released is not None


def test_the_version_of_a_moment() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def versions(*numbers: int) -> list[dict]:
        return [
            {
                "version": n,
                "timestamp": (start + timedelta(hours=n)).astimezone().replace(tzinfo=None),
            }
            for n in numbers
        ]

    at = start + timedelta(hours=2.5)
    assert version_at(versions(1, 2, 3), at) == 2
    assert version_at(versions(1, 2), at) == 2  # the newest still
    assert version_at(versions(3, 4), at) is None  # cleaned
    assert version_at(versions(1, 4), at) is None  # 1 is tagged; which of 1 to 3 it was is unknown
    assert version_at(versions(1, 2), start) == 0  # not made yet
