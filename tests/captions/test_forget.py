"""Forgetting a stage: what goes with it, that the next run makes the same again, and kills."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from curation.captions.ledger import Ledger
from curation.captions.request import Reply
from curation.catalog.lease import Lease
from curation.errors import CatalogError, ConfigError
from curation.storage import Storage
from pipelines import forget as module
from pipelines.forget import NOTE, finish_forgetting, forget
from tests.faults.helpers import catalog_of, make_video, query, rows_of, run

BESIDE = ("clips", "scores", "scores_camera", "media", "retests", "scores_technical")
"""Tables that are looked at, made by one stage each."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curated dataset of two clips."""
    folder = tmp_path_factory.mktemp("forget")
    make_video(folder / "in" / "v.mp4", [(2.0, 1)])
    run(folder / "in", folder / "out")
    assert len(query(folder / "out", "SELECT * FROM clips")) == 2
    return folder


@pytest.fixture
def root(base: Path, tmp_path: Path) -> Path:
    """A copy of it, to be harmed."""
    shutil.copytree(base / "out", tmp_path / "out")
    return tmp_path / "out"


def contents(root: Path) -> dict[str, list[str]]:
    catalog = catalog_of(root)
    return {t: rows_of(catalog.dataset(t).to_table()) for t in BESIDE}


def counts(root: Path) -> dict[str, int]:
    return {name: len(rows) for name, rows in contents(root).items()}


def test_all_clips(base: Path, root: Path) -> None:
    assert forget(str(root), "cut") == 2
    assert counts(root) == counts(base / "out") | {"media": 0, "retests": 0}
    assert not Path(root / NOTE).exists()
    left = {r["stage"] for r in query(root, "SELECT stage FROM done")}
    assert not left & {"cut", "retest"}
    assert {"signals", "split", "score", "camera"} <= left
    report = run(base / "in", root)
    assert report.balanced
    assert report.stages["cut"]["rows"] == 2
    assert report.stages["score"]["rows"] == 0
    assert contents(root) == contents(base / "out")


def test_one_clip(base: Path, root: Path) -> None:
    one = query(root, "SELECT clip_id FROM clips ORDER BY 1")[0]["clip_id"]
    assert forget(str(root), "cut", [one]) == 1
    assert counts(root)["media"] == counts(root)["retests"] == 1
    assert one not in {r["clip_id"] for r in query(root, "SELECT clip_id FROM media")}
    assert forget(str(root), "cut", [one]) == 0  # it is gone already
    assert run(base / "in", root).stages["cut"]["rows"] == 1
    assert contents(root) == contents(base / "out")


def test_a_stage_of_whole_videos(base: Path, root: Path) -> None:
    """All that is known of the video's clips goes with its signals; nothing comes twice."""
    forget(str(root), "signals")
    assert set(counts(root).values()) == {0}
    assert run(base / "in", root).balanced
    assert contents(root) == contents(base / "out")


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("step", range(6))
def test_a_kill_in_the_middle(
    base: Path, root: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was deleted before the kill, what is finished later is the whole."""
    left = step
    delete = module._delete

    def dying(*arguments: Any) -> None:  # noqa: ANN401 - passed on
        nonlocal left
        if left == 0:
            raise Killed
        left -= 1
        delete(*arguments)

    monkeypatch.setattr(module, "_delete", dying)
    with pytest.raises(Killed):
        forget(str(root), "split")
    monkeypatch.setattr(module, "_delete", delete)
    assert (root / NOTE).exists()
    assert finish_forgetting(catalog_of(root))
    assert not finish_forgetting(catalog_of(root))
    assert set(counts(root).values()) == {0}
    if step in (0, 3):  # a run takes seconds
        assert run(base / "in", root).balanced
        assert contents(root) == contents(base / "out")


def test_a_note_of_an_earlier_kill_is_carried_out_first(root: Path) -> None:
    catalog = catalog_of(root)
    print_ = catalog.current().stages["retest"]
    note = {"stages": {"retest": print_}, "tables": {"retest": ["retests"]}, "clips": None}
    catalog.storage.write_json(NOTE, note)
    assert forget(str(root), "camera") == 2
    assert counts(root)["retests"] == 0


CLIP_IDS = "a" * 32, "b" * 32
REQUESTS = tuple(f"{c}/{rest}" for c in CLIP_IDS for rest in ("0", "merge", "brief/1", "brief/2"))


@pytest.mark.parametrize(
    ("tables", "clips", "gone"),
    [
        ([["captions"], ["rewrites"]], None, REQUESTS),
        ([["captions"]], None, tuple(r for r in REQUESTS if "brief" not in r)),
        ([["rewrites", "rewrite_texts"]], None, tuple(r for r in REQUESTS if "brief" in r)),
        ([["captions"]], CLIP_IDS[:1], REQUESTS[:2]),
        ([["rewrites"]], CLIP_IDS[:1], REQUESTS[2:4]),
        ([["captions"], ["rewrites"]], CLIP_IDS[1:], REQUESTS[4:]),
        ([["retests"]], None, ()),
    ],
)
def test_stored_answers_go_with_their_rows(
    root: Path, tables: list[list[str]], clips: tuple[str, ...] | None, gone: tuple[str, ...]
) -> None:
    """What was forgotten is asked anew; what others paid for stays."""
    storage = Storage(root)
    ledger = Ledger(storage)
    keys = {r: hashlib.sha256(r.encode()).hexdigest() for r in REQUESTS}
    for request_id, key in keys.items():
        ledger.put(key, Reply(request_id=request_id, text="paid for"))
    names = [t[0] for t in tables]
    note = {
        "stages": dict.fromkeys(names, "print"),
        "tables": dict(zip(names, tables, strict=True)),
        "clips": None if clips is None else list(clips),
    }
    storage.write_json(NOTE, note)
    assert finish_forgetting(catalog_of(root))
    left = {request_id for request_id, key in keys.items() if ledger.get(key)}
    assert left == set(REQUESTS) - set(gone)


def test_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'camera'"):
        forget(str(root), "camra")
    with pytest.raises(ConfigError, match="whole videos"):
        forget(str(root), "signals", ["c"])
    with pytest.raises(CatalogError, match="unknown, such as 'it'"):
        forget(str(root), "cut", ["it"])
    with pytest.raises(CatalogError, match="no clipmill dataset"):
        forget(str(root / "none"), "cut")
    with Lease(Storage(root), "other"), pytest.raises(CatalogError, match="another run"):
        forget(str(root), "cut")
    assert not (root / NOTE).exists()
    assert counts(root)["media"] == 2


def test_the_command(root: Path) -> None:
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    module.register(app)
    app.command("other")(lambda: None)  # with one command alone typer drops its name
    no = CliRunner().invoke(app, ["redo", str(root), "cut"], input="n\n")
    assert no.exit_code == 1
    assert "cut, retest" in no.output
    assert counts(root)["media"] == 2
    yes = CliRunner().invoke(app, ["redo", str(root), "cut", "--yes"])
    assert yes.exit_code == 0
    assert "2 rows of cut forgotten" in yes.output
    assert counts(root)["media"] == 0
