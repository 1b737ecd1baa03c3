"""The stage: what it shows and tells, what it stores, and what a distrusted backend costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.captions.backends.settings import BackendSettings
from curation.captions.frames import as_jpeg
from curation.captions.tables import CAPTIONS
from curation.stage import Failure, StageContext
from curation.stages.caption import CaptionClips
from curation.storage import Storage
from tests.captions.scripted import COLOURS, Deed, ScriptedSettings
from tests.conftest import Maker


def stage_with(
    backend: BackendSettings | None = None,
    **fields: Any,  # noqa: ANN401 - any field
) -> CaptionClips:
    """A stage without measurements; its backend need not be one that a config can name."""
    stage = CaptionClips.model_validate({"facts": ["score"]} | fields)
    return stage if backend is None else stage.model_copy(update={"backend": backend})


def row_of(
    clip_id: str,
    colour: str,
    seconds: int = 4,
    **more: Any,  # noqa: ANN401 - any column
) -> dict[str, Any]:
    """An input row of a clip of one colour."""
    image = np.broadcast_to(np.array(COLOURS[colour][::-1], np.uint8), (48, 64, 3)).copy()
    return {
        "clip_id": clip_id,
        "duration_s": float(seconds),
        "sample_pts_s": [float(i) for i in range(seconds)],
        "sample_jpegs": [as_jpeg(image)] * seconds,
        "motion_per_s": 0.01,
    } | more


def outputs(
    stage: CaptionClips, rows: list[dict[str, Any]], root: Path
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Rows of the table, and failures."""
    stage.setup(StageContext(storage=Storage(root), fingerprint="f" * 32))
    batch = pa.Table.from_pylist(rows, schema=stage.reads)
    found, failures = [], []
    for output in stage.process(batch):
        if isinstance(output, Failure):
            failures.append(output)
        else:
            assert output[0] == "captions" and output[1].schema == CAPTIONS
            found += output[1].to_pylist()
    return found, failures


ROWS = [row_of("a", "red"), row_of("b", "blue"), row_of("c", "green")]


def test_a_row_tells_what_was_written_by_whom_and_from_what(tmp_path: Path) -> None:
    rows, failures = outputs(stage_with(ScriptedSettings()), ROWS, tmp_path)
    assert not failures and [r["clip_id"] for r in rows] == ["a", "b", "c"]
    row = rows[1]
    assert row["caption_short"] == "A blue picture." and row["caption_camera"] == "static"
    assert row["caption_temporal"] == "0.0-4.0 s: it is blue"
    events = json.loads(row["caption_events"])
    assert events == [{"start_s": 0.0, "end_s": 4.0, "text": "it is blue"}]
    assert (row["caption_backend"], row["caption_model"]) == ("scripted", "scripted:colours")
    assert row["caption_prompt"].startswith("caption-1@") and row["caption_setting"] is None
    assert (row["caption_num_frames"], row["caption_num_windows"]) == (4, 1)
    assert (row["caption_first_frame_s"], row["caption_last_frame_s"]) == (0.0, 3.0)
    assert (row["caption_attempts"], row["caption_repaired"]) == (1, False)
    assert (row["caption_input_tokens"], row["caption_busy_s"]) == (7, 0.5)


@pytest.mark.parametrize("deed", ["rotate", "blind", "drop", "stranger", "twice"])
def test_a_backend_that_cannot_be_trusted_fails_the_whole_batch(deed: Deed, tmp_path: Path) -> None:
    rows, failures = outputs(stage_with(ScriptedSettings(deed=deed)), ROWS, tmp_path)
    assert rows == [] and {f.code for f in failures} == {"caption_gate"}
    assert {f.clip_id for f in failures} == {"a", "b", "c"} and failures[0].message


def test_one_clip_without_a_frame_fails_alone(tmp_path: Path) -> None:
    bare = row_of("bare", "red", sample_pts_s=[], sample_jpegs=None)
    rows, failures = outputs(stage_with(ScriptedSettings()), [*ROWS, bare], tmp_path)
    assert len(rows) == 3
    assert [(f.clip_id, f.code) for f in failures] == [("bare", "caption_invalid")]


def test_long_clips_are_described_in_windows_and_short_pictures(tmp_path: Path) -> None:
    stage = stage_with(ScriptedSettings(), window_s=4.0, max_frames=2, max_side_px=32)
    (row,), _ = outputs(stage, [row_of("long", "yellow", 10)], tmp_path)
    assert (row["caption_num_windows"], row["caption_num_frames"]) == (3, 6)
    assert row["caption_short"] == "Joined from 3 stretches."
    assert row["caption_last_frame_s"] == 9.0


def test_measured_facts_are_told_unless_forbidden(tmp_path: Path) -> None:
    facts = {"facts": ["score", "camera"]}
    told = {"camera_class": "static", "camera_confidence": 1.0}
    for wanted in (True, False):
        stage = stage_with(ScriptedSettings(), tell_facts=wanted, **facts)
        clip = stage.clip(dict.fromkeys(stage.reads.names) | told | ROWS[0])
        assert bool(clip.told) == wanted
        assert any("does not move" in sentence for sentence in clip.told) == wanted


def test_dense_frames_come_from_the_cut_clip(tmp_path: Path, make_video: Maker) -> None:
    storage = Storage(tmp_path)
    storage.put_file(make_video("cut.mp4", seconds=2.0), "media/ab/clip.mp4")
    stage = stage_with(ScriptedSettings(), frames="dense", fps=4.0, max_frames=99)
    row = row_of("a", "red", 2, media_path="media/ab/clip.mp4", sample_pts_s=[], sample_jpegs=[])
    (made,), failures = outputs(stage, [row], tmp_path)
    assert not failures and made["caption_num_frames"] == 8


def test_the_embedded_captioner_says_that_it_is_no_vlm(tmp_path: Path) -> None:
    stage = stage_with()
    assert "no vision-language model saw the clips" in stage.fallbacks()[0]
    rows, failures = outputs(stage, ROWS, tmp_path)
    assert not failures and rows[0]["caption_backend"] == "embedded"
    assert "red" in rows[0]["caption_medium"] and rows[0]["caption_prompt"] is None
    assert rows[0]["caption_input_tokens"] is None


@pytest.fixture
def base() -> CaptionClips:
    return CaptionClips.model_validate({"backend": {"kind": "openai", "model": "m"}})


def changed(base: CaptionClips, **fields: Any) -> CaptionClips:  # noqa: ANN401 - any field
    return CaptionClips.model_validate(base.model_dump() | fields)


def test_fingerprints_hold_what_decides_the_words(base: CaptionClips, tmp_path: Path) -> None:
    own = tmp_path / "own.md"
    own.write_text("# user\nWhat?\n")
    backend = base.backend.model_dump()
    differ = [
        changed(base, backend=backend | {"model": "n"}),
        changed(base, prompt=str(own)),
        changed(base, max_frames=3),
        changed(base, tell_facts=False),
    ]
    assert all(s.settings() != base.settings() for s in differ)
    first = differ[1].settings()
    own.write_text("# user\nWhat is it?\n")
    assert changed(base, prompt=str(own)).settings() != first
    same = [
        changed(base, batch_size=3),
        changed(base, backend=backend | {"concurrency": 2, "timeout_s": 5.0}),
    ]
    assert all(s.settings() == base.settings() for s in same)


def test_a_key_that_is_not_set_is_told_before_the_run(
    base: CaptionClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "OPENAI_API_KEY is not set" in " ".join(base.problems())
    monkeypatch.setenv("OPENAI_API_KEY", "secret-of-somebody")
    assert base.problems() == []
    assert "secret" not in json.dumps(base.settings())


def test_settings_are_those_of_a_known_backend() -> None:
    with pytest.raises(ValueError, match="kind"):
        CaptionClips.model_validate({"backend": {"kind": "crystal-ball"}})


def _rows(stage: CaptionClips) -> Iterator[str]:
    yield from stage.reads.names


def test_reads_follow_the_plan() -> None:
    assert "motion_per_s" in _rows(stage_with()) and "camera_class" not in _rows(stage_with())
    assert "media_path" in _rows(stage_with(frames="dense"))
