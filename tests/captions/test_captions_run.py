"""Whole runs with a captioner behind HTTP: what is shipped, what stops a run, what it costs."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from curation.errors import CatalogError, GateError
from curation.schema import FLOAT32, INT32, STRING, schema
from curation.stage import Failure, Output, Stage
from pipelines.forget import forget
from pipelines.redo import reshard
from tests.captions.server import GOOD, Act, Call, FaultServer, Script, seen_text, serve
from tests.faults.helpers import make_video, query, run, settings

CLIPS = 7


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, of four and three clips."""
    folder = tmp_path_factory.mktemp("captions") / "in"
    make_video(folder / "a.mp4", [(4.0, 1)])
    make_video(folder / "b.mp4", [(3.0, 2)])
    return folder


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTION_KEY", "sk-of-somebody-who-pays")


def sections(server: FaultServer, **fields: Any) -> dict[str, Any]:  # noqa: ANN401 - any field
    """A config that captions through a server."""
    backend = {
        "kind": "openai",
        "model": "looker",
        "base_url": server.url,
        "api_key_env": "CAPTION_KEY",
        "concurrency": 4,
        "max_retries": 3,
        "retry_max_wait_s": 0.2,
        "timeout_s": 10.0,
    }
    return {"caption": {"backend": backend, "batch_size": 3} | fields}


def looks(call: Call) -> Act:
    """An answer about what is to be seen."""
    return Act(text=seen_text(call))


def but(how: Callable[[Call], Act | None]) -> Script:
    """The same, except where ``how`` says otherwise."""
    return lambda call: how(call) or looks(call)


def records(out: Path) -> list[dict[str, Any]]:
    """The ``.json`` members of all shards."""
    found = []
    for path in sorted((out / "shards").rglob("*.tar")):
        with tarfile.open(path) as tar:
            members = [m for m in tar.getmembers() if m.name.endswith(".json")]
            for member in members:
                data = tar.extractfile(member)
                assert data is not None
                found.append(json.loads(data.read()))
    return found


def test_captions_reach_the_shards_and_are_asked_for_once(inputs: Path, tmp_path: Path) -> None:
    with serve(looks) as server:
        report = run(inputs, tmp_path / "out", **sections(server))
        assert report.balanced and report.stages["caption"]["rows"] == CLIPS
        # Batches of three: 3 + 1 and 3 clips, two canaries with each of the three.
        assert len(server.calls) == CLIPS + 3 * 2 and set(server.counts().values()) == {1}
        again = run(inputs, tmp_path / "out", **sections(server))
        assert again.stages["caption"]["rows"] == 0 and len(server.calls) == CLIPS + 6
    rows = query(tmp_path / "out", "SELECT * FROM captions")
    assert {r["caption_model"] for r in rows} == {"openai:looker"}
    assert {(r["caption_input_tokens"], r["caption_output_tokens"]) for r in rows} == {(100, 20)}
    assert not (tmp_path / "out" / "replies").exists()
    shipped = records(tmp_path / "out")
    assert len(shipped) == CLIPS
    for record in shipped:
        assert record["clip_id"] in record["caption"]
        kinds = {c["kind"] for c in record["captions"]}
        assert {"short", "medium", "long"} <= kinds
    text = "".join(str(p.read_bytes()) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "sk-of-somebody" not in text


@pytest.mark.parametrize("how", ["swapped", "blind"])
def test_a_backend_that_cannot_be_trusted_stops_the_run_with_nothing_shipped(
    inputs: Path, tmp_path: Path, how: str
) -> None:
    out = tmp_path / "out"

    def wrong(call: Call) -> Act:
        if how == "blind":
            return Act(text=seen_text(call).replace("plain", "many-coloured red and blue"))
        return Act(text=seen_text(call), silent_swap=True)

    with serve(wrong) as server:
        with pytest.raises(GateError, match="cannot be trusted") as stopped:
            run(inputs, out, **sections(server))
        assert "run again" in stopped.value.mend
        assert records(out) == [] and not (out / "shards" / "index.parquet").exists()
        assert {e["code"] for e in query(out, "SELECT code FROM errors")} == {"caption_gate"}
        with pytest.raises(GateError):
            reshard(str(out), settings(**sections(server)))
        server.script = looks
        mended = run(inputs, out, **sections(server))
    assert mended.balanced and len(records(out)) == CLIPS


def test_trouble_on_the_way_loses_no_clip(inputs: Path, tmp_path: Path) -> None:
    """Busy, broken, hanging up, garbage: each first call of a request fails in some way."""
    faults = [
        Act(status=429, headers={"Retry-After": "0.1"}),
        Act(status=500),
        Act(reset=True),
        Act(cut=True),
        Act(body=b"{no json"),
        Act(text="I think it is a picture."),
        Act(text='{"short": "cut off'),
    ]
    script = but(lambda call: faults[call.total % len(faults)] if call.nth == 1 else None)
    with serve(script) as server:
        report = run(inputs, tmp_path / "out", **sections(server))
    assert report.balanced and report.account.clips["kept"] == CLIPS
    assert len(records(tmp_path / "out")) == CLIPS


def test_what_stays_unusable_is_an_error_row_and_is_not_shipped(
    inputs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    victim = {}

    def script(call: Call) -> Act | None:
        canary = len(call.body["messages"][-1]["content"]) < 3 or "1.5 seconds" in str(call.body)
        if not canary:
            victim.setdefault("id", call.request_id.partition("/")[0])
        mine = call.request_id.startswith(victim.get("id", "?"))
        return Act(text="no JSON from me") if mine else None

    with serve(but(script)) as server:
        report = run(inputs, out, **sections(server, attempts=2))
    assert report.balanced and report.account.clips["failed"] == 1
    (error,) = query(out, "SELECT * FROM errors")
    assert (error["code"], error["stage"]) == ("caption_invalid", "caption")
    assert error["clip_id"] == victim["id"] and not error["retryable"]
    assert len(records(out)) == CLIPS - 1


def test_a_server_that_is_down_costs_nothing_but_another_run(inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serve(lambda call: Act(status=503)) as server:
        down = run(inputs, out, **sections(server))
        assert down.balanced and down.account.clips["failed"] == CLIPS
        assert {e["code"] for e in query(out, "SELECT code FROM errors")} == {"caption_backend"}
        assert records(out) == []
        server.script = looks
        up = run(inputs, out, **sections(server))
    assert up.balanced and len(records(out)) == CLIPS and GOOD.status == 200


class LosesMedia(Stage):
    """Stands behind the cut and fails on the first clip of each video."""

    name: ClassVar[str] = "loses"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32, luma_mean=FLOAT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"kept_after_all": schema(clip_id=STRING, x=INT32)}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        for row in batch.to_pylist():
            if row["clip_index"] == 0:
                yield Failure(clip_id=row["clip_id"], code="own_code", message="lost")
            else:
                yield "kept_after_all", pa.table({"clip_id": [row["clip_id"]], "x": [1]})


class ReadsIt(Stage):
    """Reads what the one before wrote."""

    name: ClassVar[str] = "reads_it"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, x=INT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"seen": schema(clip_id=STRING, seen_x=INT32)}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        rows = [{"clip_id": r["clip_id"], "seen_x": r["x"]} for r in batch.to_pylist()]
        yield "seen", pa.Table.from_pylist(rows, schema=self.adds["seen"])


def test_a_stage_is_not_given_clips_that_failed_before_it(inputs: Path, tmp_path: Path) -> None:
    """Not in the same worker, and not in another run, which knows of the failure from its rows."""
    out, stages = tmp_path / "out", [{"use": f"{__name__}:LosesMedia"}]
    run(inputs, out, stages=stages, caption=None)
    both = [*stages, {"use": f"{__name__}:ReadsIt"}]
    report = run(inputs, out, stages=both, caption=None)
    assert report.balanced and report.account.clips["failed"] == 2
    rows = query(out, "SELECT seen_x FROM seen")
    assert [r["seen_x"] for r in rows] == [1] * (CLIPS - 2)


def test_shard_ships_no_clip_whose_caption_is_still_to_come(inputs: Path, tmp_path: Path) -> None:
    with serve(looks) as server:
        config = sections(server)
        run(inputs, tmp_path / "out", **config)
        forget(str(tmp_path / "out"), "caption")
        with pytest.raises(CatalogError, match="7 kept clips have no caption yet"):
            reshard(str(tmp_path / "out"), settings(**config))
