"""What the committer takes and what it drops: orphans, equal bytes, older plans, broken files."""

from __future__ import annotations

from pathlib import Path

import lance
import pyarrow as pa
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.commit import MANIFEST, Committer
from curation.catalog.views import Views
from curation.engine.parts import PARTS, PartWriter
from curation.plan import Plan
from tests.catalog.parts import default_plan, new_catalog, register, write_part
from tests.faults.bad_stages import BadClip
from tests.faults.helpers import settings

OF_CLIPS = ("clips", "scores", "media", "captions", "caption_checks", "caption_vectors")
ONCE_TABLES = ("videos", "segments", "frames", "decodes", *OF_CLIPS)


@pytest.fixture
def plan() -> Plan:
    return default_plan()


@pytest.fixture
def catalog(tmp_path: Path, plan: Plan) -> Catalog:
    catalog = new_catalog(tmp_path / "root", plan)
    register(catalog, "s1", "s2")
    return catalog


def counts(catalog: Catalog) -> dict[str, int]:
    return {t: catalog.dataset(t).count_rows() for t in ONCE_TABLES}


def test_an_orphans_part_of_a_finished_unit_is_dropped(catalog: Catalog, plan: Plan) -> None:
    committer = Committer(catalog)
    committer.add(write_part(catalog, plan, "a", source="s1", video="v1"))
    committer.flush()
    before = counts(catalog)
    write_part(catalog, plan, "orphan", source="s1", video="v1")
    assert Committer(catalog).recover() == 1
    assert (
        counts(catalog)
        == before
        == dict.fromkeys(ONCE_TABLES, 1) | {"frames": 3} | dict.fromkeys(OF_CLIPS, 2)
    )


@pytest.mark.parametrize("batches", [1, 2])
def test_two_sources_with_equal_bytes_give_one_videos_rows(
    catalog: Catalog, plan: Plan, batches: int
) -> None:
    committer = Committer(catalog)
    committer.add(write_part(catalog, plan, "a", source="s1", video="v1"))
    if batches == 2:
        committer.flush()
    committer.add(write_part(catalog, plan, "b", source="s2", video="v1"))
    committer.flush()
    assert counts(catalog)["clips"] == 2 and counts(catalog)["frames"] == 3
    assert counts(catalog)["captions"] == 2 and counts(catalog)["caption_vectors"] == 2
    assert catalog.dataset("identities").count_rows() == 2
    views = Views(catalog)
    states = views.query("SELECT source_id, status, duplicate_of FROM sources ORDER BY uri")
    assert [tuple(r.values()) for r in states.to_pylist()] == [
        ("s1", "done", None),
        ("s2", "done", "/in/s1.mp4"),
    ]


def test_a_late_error_of_a_finished_stage_does_not_stand(catalog: Catalog, plan: Plan) -> None:
    committer = Committer(catalog)
    committer.add(write_part(catalog, plan, "a", source="s1", video="v1"))
    committer.add(write_part(catalog, plan, "b", source="s2", video="v1", failed_stage="signals"))
    committer.flush()
    views = Views(catalog)
    assert views.query("SELECT * FROM errors").num_rows == 0
    assert views.query("SELECT DISTINCT status FROM sources").to_pylist() == [{"status": "done"}]


def test_a_part_that_was_never_whole_is_thrown_away(catalog: Catalog, plan: Plan) -> None:
    write_part(catalog, plan, "a", source="s1", video="v1")
    catalog.storage.write_bytes(f"{PARTS}/torn.part", b"PK\x03\x04 torn off")
    assert Committer(catalog).recover() == 1
    assert catalog.storage.list(PARTS) == []
    assert counts(catalog)["clips"] == 2


def test_a_part_of_an_older_plan_keeps_what_the_new_plan_lacks(tmp_path: Path) -> None:
    """Going back to the older plan must find its rows as they were written."""
    old = settings(stages=[{"use": "tests.faults.bad_stages:BadClip"}]).plan()
    catalog = new_catalog(tmp_path / "root", old)
    register(catalog, "s1")
    writer_schema = old.table_schemas()["bad_scores"]
    print_ = old.fingerprints()["bad_clip"]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    writer = PartWriter(scratch, old.table_schemas())
    row = {"clip_id": "c", "badness": 2.0, "video_id": "v", "fingerprint": print_}
    writer.add("bad_scores", pa.Table.from_pylist([row], schema=writer_schema))
    writer.publish(catalog.storage, "old.part", {"num_rows": {"bad_scores": 1}, "result": {}})
    new = default_plan()  # the stage was removed from the configuration meanwhile
    catalog.create(new.table_schemas())
    assert Committer(catalog).recover() == 1
    assert catalog.dataset("bad_scores").to_table().to_pylist() == [row]


def test_a_table_that_lost_a_column_in_the_plan_keeps_its_values(
    catalog: Catalog, plan: Plan
) -> None:
    catalog.dataset("scores").add_columns(pa.schema([pa.field("retired", pa.int32())]))
    Committer(catalog).add(write_part(catalog, plan, "a", source="s1", video="v1"))
    assert Committer(catalog).recover() == 1
    assert catalog.dataset("scores").to_table(["retired"]).to_pylist() == [{"retired": None}] * 2


def test_a_users_column_named_code_does_not_change_what_makes_a_row_unique(
    tmp_path: Path,
) -> None:
    class Coded(BadClip):
        adds = {"coded": pa.schema([("clip_id", pa.string()), ("code", pa.int32())])}  # noqa: RUF012

    plan = Plan(stages=(*default_plan().stages[:-1], Coded.model_validate({})))
    catalog = new_catalog(tmp_path / "root", plan)
    for name in ("a", "b"):
        scratch = tmp_path / name
        scratch.mkdir()
        writer = PartWriter(scratch, plan.table_schemas())
        row = {"clip_id": "c", "code": 1, "video_id": "v", "fingerprint": "f"}
        writer.add("coded", pa.Table.from_pylist([row], schema=plan.table_schemas()["coded"]))
        writer.publish(catalog.storage, f"{name}.part", {"num_rows": {}, "result": {}})
    Committer(catalog).recover()
    assert catalog.dataset("coded").count_rows() == 1


def test_it_commits_when_enough_rows_wait(
    catalog: Catalog, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[str] = []
    real = lance.write_dataset

    def record(*args: object, **kwargs: object) -> object:
        if str(args[1]).endswith("/done.lance"):
            batches.append("commit")
        return real(*args, **kwargs)  # pyright: ignore[reportArgumentType, reportCallIssue]

    monkeypatch.setattr(lance, "write_dataset", record)
    patient = Committer(catalog, max_rows=50, max_wait_s=1000)
    for i, source in enumerate(["s1", "s2"]):
        patient.add(write_part(catalog, plan, f"p{i}", source=source, video=f"v{i}"))
        assert len(batches) == i  # 35 rows a part: the first waits, the second makes 70
    assert catalog.storage.list(PARTS) == [] and not catalog.storage.exists(MANIFEST)
    hasty = Committer(catalog, max_wait_s=0.0)
    hasty.add(write_part(catalog, plan, "p3", source="s1", video="v3"))
    assert len(batches) == 2
