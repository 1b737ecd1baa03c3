"""The account: three conservation laws, and the right words when one is broken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from curation.catalog.account import Account, take_account
from curation.catalog.catalog import Catalog
from curation.catalog.commit import Committer
from curation.catalog.views import Views
from tests.catalog.parts import default_plan, new_catalog, register, write_part
from tests.faults.helpers import catalog_of, make_video, make_videos, query, run

TWICE = (
    *("clips", "scores", "media", "verdicts", "videos", "decodes"),
    *("captions", "caption_checks"),
)
"""Tables with one row of a video or clip."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A balanced dataset: two good videos, one too short for a clip, one file that is none."""
    folder = tmp_path_factory.mktemp("account")
    make_videos(folder / "in", 2)
    make_video(folder / "in" / "short.mp4", [(0.3, 5)])
    (folder / "in" / "zz.mp4").write_text("text, no video")
    report = run(folder / "in", folder / "out")
    assert report.balanced
    return folder / "out"


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def table(root: Path, name: str) -> lance.LanceDataset:
    return catalog_of(root).dataset(name)


def account(root: Path) -> Account:
    return take_account(catalog_of(root))


def test_a_sound_dataset_balances(root: Path) -> None:
    found = account(root)
    assert found.balanced and found.imbalances == []
    assert found.videos == {
        "total": 4,
        "done": 3,
        "failed": 1,
        "pending": 0,
        "removed": 0,
        "duplicates": 0,
    }
    assert found.errors_by_code == {"not_a_video": 1}
    assert found.seconds["unknown_videos"] == 1
    assert found.seconds["total"] == pytest.approx(11.3, abs=1e-6)
    spans = sum(found.seconds_by_reason.values())
    assert found.seconds["rejected"] == pytest.approx(spans, abs=0.002)
    assert found.seconds_by_reason["too_short"] == pytest.approx(0.3)
    assert found.as_dict()["balanced"] is True


@pytest.mark.parametrize(
    ("name", "where", "words"),
    [
        ("spans", "reason = 'too_short'", "1 videos are not covered to the second"),
        ("clips", "clip_index = 0", "2 videos are not covered to the second"),
        ("media", "true", "kept clips have no media"),
        ("verdicts", "true", "clips have no verdict"),
        ("decodes", "true", "3 done videos have no length"),
        ("done", "stage = 'split'", "3 sources are neither done nor failed"),
        ("errors", "true", "1 sources are neither done nor failed"),
        ("identities", "true", "sources are neither done nor failed"),
    ],
)
def test_rows_that_get_lost_are_missed(root: Path, name: str, where: str, words: str) -> None:
    table(root, name).delete(where)
    found = account(root)
    assert not found.balanced
    assert any(words in text for text in found.imbalances), found.imbalances


@pytest.mark.parametrize("name", TWICE)
def test_a_row_that_comes_twice_is_noticed(root: Path, name: str) -> None:
    dataset = table(root, name)
    clip = query(root, "SELECT clip_id, video_id FROM clips WHERE verdict = 'kept' LIMIT 1")[0]
    key = "clip_id" if "clip_id" in dataset.schema.names else "video_id"
    row = dataset.to_table(filter=f"{key} = '{clip[key]}'")
    assert row.num_rows == 1
    lance.write_dataset(row, catalog_of(root).uri(name), mode="append")
    found = account(root)
    assert not found.balanced
    assert any("occur twice" in text for text in found.imbalances), found.imbalances


def test_a_span_that_is_too_long_is_noticed(root: Path) -> None:
    table(root, "spans").update({"end_s": "end_s + 0.01"}, where="reason = 'too_short'")
    assert any("not covered to the second" in t for t in account(root).imbalances)


def test_seconds_covered_by_several_clips_count_once(tmp_path: Path) -> None:
    make_video(tmp_path / "in" / "v.mp4", [(6.0, 1)])
    report = run(tmp_path / "in", tmp_path / "out", split={"max_s": 2.0, "overlap_s": 1.5})
    found = report.account
    assert report.balanced, found.imbalances
    total = query(tmp_path / "out", "SELECT sum(duration_s) s FROM clips")[0]["s"]
    assert total > 2 * found.seconds["total"], "the clips do overlap"
    assert found.seconds["total"] == found.seconds["kept"] == pytest.approx(6.0)


@pytest.mark.parametrize(
    ("spans", "want"),
    [
        # Kept 0-2 and 3.5-5; of the failed 1-3 and the rejected 2-4 what is left.
        ([(0, 2), (1, 3), (2, 4), (3.5, 5)], {"kept": 3.5, "failed": 1.0, "rejected": 1.5}),
        # Clips inside a longer one that is better or equal.
        ([(0, 5), (1, 2), (3, 4.5), (4, 5)], {"kept": 5.0, "failed": 0.0, "rejected": 1.0}),
        # Short ones far apart inside a long rejected one.
        ([(1, 1.5), (2, 3), (0, 5), (4, 4.5)], {"kept": 1.0, "failed": 1.0, "rejected": 4.0}),
    ],
)
def test_a_shared_second_belongs_to_the_best_clip(
    tmp_path: Path, spans: list[tuple[float, float]], want: dict[str, float]
) -> None:
    """Clips kept, failed, rejected, kept on a video of six seconds whose last one is a span."""
    plan = default_plan()
    catalog = new_catalog(tmp_path / "root", plan)
    register(catalog, "s")
    committer = Committer(catalog)
    committer.add(write_part(catalog, plan, "p", source="s", video="v", num_clips=4))
    committer.flush()
    prints = plan.table_fingerprints()
    for i, (start, end) in enumerate(spans):
        values = {"start_s": str(start), "end_s": str(end)}
        catalog.dataset("clips").update(values, where=f"clip_index = {i}")
    catalog.dataset("decodes").update({"video_duration_s": "6"})
    span = {"start_s": 5.0, "end_s": 6.0, "reason": "remainder"}
    append(catalog, "spans", [span | {"video_id": "v", "fingerprint": prints["spans"]}])
    rows: list[dict[str, Any]] = [
        {"clip_id": f"v-clip{i}", "verdict": v, "fingerprint": prints["verdicts"]}
        for i, v in enumerate(["kept", "failed", "rejected", "kept"])
    ]
    append(catalog, "verdicts", rows)
    found = take_account(catalog)
    assert found.balanced, found.imbalances
    assert {k: found.seconds[k] for k in want} == want and found.seconds["total"] == 6.0


def append(catalog: Catalog, name: str, rows: list[dict[str, Any]]) -> None:
    schema = catalog.dataset(name).schema
    catalog.append(name, pa.Table.from_pylist(rows, schema=schema))


def test_the_length_of_a_failed_video_counts_when_it_is_known(tmp_path: Path) -> None:
    """A file cut short promises a length: those seconds are failed, not unknown."""
    make_video(tmp_path / "in" / "v.mp4", [(2.0, 1)])
    bad = [{"use": "tests.faults.bad_stages:BadVideo", "deeds": {"2": "raise"}}]
    report = run(tmp_path / "in", tmp_path / "out", stages=bad)
    assert report.balanced and report.account.videos["failed"] == 1
    assert report.account.seconds["failed"] == report.account.seconds["total"] == 2.0
    assert report.account.seconds["unknown_videos"] == 0
    clips = report.account.clips
    assert clips["total"] == clips["failed"] > 0, "clips of a failed video are failed, not kept"


def test_views_and_account_agree(root: Path) -> None:
    found, views = account(root), Views(catalog_of(root))
    rows = views.query("SELECT verdict, count(*) n FROM clips GROUP BY ALL").to_pylist()
    assert {r["verdict"]: r["n"] for r in rows} == {
        k: n for k, n in found.clips.items() if n and k in ("kept", "rejected", "failed")
    }


def test_a_kept_clip_without_a_caption_is_noticed(root: Path) -> None:
    (clip,) = query(root, "SELECT clip_id FROM clips WHERE verdict = 'kept' LIMIT 1")
    table(root, "captions").delete(f"clip_id = '{clip['clip_id']}'")
    found = account(root)
    assert found.imbalances == ["1 kept clips have no caption"]
    assert found.clips["uncaptioned"] == 1
