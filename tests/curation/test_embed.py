"""Embed: one vector per clip from its sampled frames, the same in any company."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest

from curation.errors import ConfigError, MediaError
from curation.models.embedders import MODELS
from curation.stages.embed import Embed, mean_vector, spread_evenly
from tests.curation.chain import run_stage
from tests.curation.embed_parts import Row, clip_row, footage, plan_with, resized
from tests.media import Recording, write_video

LITE = "efficientnet-lite0"
TABLE = "embeddings_efficientnet_lite0"


def embed_stage(**fields: Any) -> Embed:  # noqa: ANN401 - any field
    return Embed(**fields)


def embedded(rows: list[Row], **fields: Any) -> pa.Table:  # noqa: ANN401 - any field
    tables, failures = run_stage(embed_stage(**fields), rows)
    assert not failures
    return tables[TABLE]


def vectors(table: pa.Table) -> np.ndarray:
    return np.array(table.column("embedding").to_pylist(), np.float32)


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Two clips of the same drive (Carphone), and one of another film."""
    times, phone = footage("carphone_pristine.mp4", every_s=0.6)
    _, bunny = footage("bigbuckbunny.mp4", every_s=2)
    return [
        clip_row("a" * 32, phone[:3], times[:3]),
        clip_row("b" * 32, phone[3:6], times[3:6]),
        clip_row("c" * 32, bunny),
    ]


@pytest.fixture(scope="module")
def together(rows: list[Row]) -> pa.Table:
    """Their embeddings, made in one batch."""
    return embedded(rows)


def test_a_clip_of_the_same_video_is_nearer_than_others(together: pa.Table) -> None:
    first, second, other = vectors(together)
    assert first @ second > 0.8 > 0.6 > max(first @ other, second @ other)


def test_size_and_codec_matter_less_than_content(together: pa.Table, tmp_path: Path) -> None:
    _, bunny = footage("bigbuckbunny.mp4", every_s=2)
    how = Recording(fps=1, codec="mpeg4", crf=30)
    coded = write_video(tmp_path / "small.mp4", resized(bunny, 240), how)
    with av.open(str(coded)) as source:
        small = [f.to_ndarray(format="rgb24") for f in source.decode(video=0)]
    _, distorted = footage("carphone_distorted.mp4", every_s=0.5)  # as for quality measures
    copies = [
        clip_row("d" * 32, small),
        clip_row("e" * 32, bunny, quality=30),
        clip_row("f" * 32, distorted[:3]),
    ]
    first, second, bunny_vector = vectors(together)
    for copy in vectors(embedded(copies[:2])):
        assert bunny_vector @ copy > 0.9
        assert max(first @ copy, second @ copy) < 0.4
    worst = vectors(embedded(copies[2:]))[0]
    assert min(first @ worst, second @ worst) > bunny_vector @ worst + 0.2


def test_a_row_holds_what_the_schema_says(rows: list[Row]) -> None:
    table = embedded(rows, num_frames=2)
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 1280)
    for row in table.to_pylist():
        frames = np.array(row["embedding_frames"], np.float64)
        assert frames.shape == (2, 1280) and row["embedding_num_frames"] == 2
        np.testing.assert_allclose(np.linalg.norm(frames, axis=1), 1, atol=1e-4)
        mean, spread = mean_vector(frames)
        np.testing.assert_allclose(row["embedding"], mean, atol=1e-6)
        cosines = frames @ np.array(row["embedding"])
        assert row["embedding_spread"] == pytest.approx(1 - cosines.mean(), abs=2e-5)
        assert row["embedding_spread"] == pytest.approx(spread, abs=2e-5)
        assert row["embedding_model"] == "efficientnet-lite0@579344248a93"


def test_rows_do_not_depend_on_their_batch(rows: list[Row], together: pa.Table) -> None:
    assert together.equals(pa.concat_tables([embedded([row]) for row in rows]))
    assert together.equals(embedded(rows[::-1]).take([2, 1, 0]))


def test_change_over_time_is_measured(rows: list[Row], together: pa.Table) -> None:
    still = clip_row("d" * 32, [footage("bikes.mp4", every_s=9)[1][0]] * 2)
    mixed = rows[0] | {
        "clip_id": "e" * 32,
        "sample_jpegs": rows[0]["sample_jpegs"][:1] + rows[2]["sample_jpegs"][:2],
    }
    still_spread, mixed_spread = embedded([still, mixed]).column("embedding_spread").to_pylist()
    assert still_spread == 0 < together.column("embedding_spread")[0].as_py() < mixed_spread


def test_without_a_frame_there_is_no_vector(rows: list[Row], together: pa.Table) -> None:
    empty = clip_row("d" * 32, [])
    lone = clip_row("e" * 32, footage("bikes.mp4", every_s=99)[1])
    table = embedded([empty, rows[0], empty | {"clip_id": "f" * 32}, lone])
    for i in (0, 2):
        row = table.slice(i, 1).to_pylist()[0]
        assert row["embedding"] is row["embedding_frames"] is row["embedding_model"] is None
        assert row["embedding_num_frames"] == 0 and row["embedding_spread"] is None
    assert table.slice(1, 1).equals(together.slice(0, 1))
    assert table.column("embedding_spread")[3].as_py() is None
    assert len(table.column("embedding_frames")[3].as_py()) == 1


def test_a_damaged_sample_is_an_error_not_a_vector() -> None:
    row = clip_row("d" * 32, []) | {"sample_pts_s": [0.0], "sample_jpegs": [b"no picture"]}
    with pytest.raises(MediaError, match="no picture"):
        embedded([row])


@pytest.mark.parametrize(
    ("times", "count", "picked"),
    [
        ([], 3, []),
        ([0.0], 3, [0]),
        ([0.0, 1.0, 2.0], 3, [0, 1, 2]),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 3, [0, 2, 4]),
        ([0.0, 1.0, 2.0, 3.0, 4.0], 1, [2]),
        ([0.0, 0.1, 0.2, 0.3, 5.0, 10.0], 3, [0, 4, 5]),  # by time, not by number
        ([0.0, 0.1, 0.2, 9.9, 10.0], 4, [0, 2, 3, 4]),
    ],
)
def test_frames_are_spread_over_time(times: list[float], count: int, picked: list[int]) -> None:
    assert spread_evenly(times, count) == picked


def test_missing_weights_stop_the_run_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    plan = plan_with(embed_stage(model="clip-vit-l-14"))
    plan.check()
    with pytest.raises(ConfigError, match="clipmill models pull clip-vit-l-14") as caught:
        plan.require_models()
    assert "CLIP ViT-L/14 (clip-vit-l-14-openai.safetensors) for embed" in str(caught.value)


def test_a_declared_fallback_runs_and_is_recorded(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    stage = embed_stage(model="clip-vit-l-14", fallback=LITE)
    plan_with(stage).require_models()
    assert stage.fallbacks() == [
        "embed: CLIP ViT-L/14 is not here, EfficientNet-lite0 runs instead"
        " (clipmill models pull clip-vit-l-14)"
    ]
    tables, _ = run_stage(stage, rows[:1])
    assert tables[TABLE].column("embedding_model")[0].as_py().startswith(LITE)
    # The same work has the same name, asked for or fallen back to.
    direct = plan_with(embed_stage(model=LITE))
    assert plan_with(stage).fingerprints()["embed"] == direct.fingerprints()["embed"]
    assert embed_stage(model=LITE, fallback="clip-vit-b-32").fallbacks() == []


def test_a_fallback_that_is_missing_too_is_no_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match="CLIP ViT-L/14"):
        plan_with(embed_stage(model="clip-vit-l-14", fallback="clip-vit-b-32")).require_models()


def test_vectors_may_be_left_null(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    stage = embed_stage(model="clip-vit-b-32", if_missing="skip")
    plan = plan_with(stage)
    plan.check()
    plan.require_models()
    tables, _ = run_stage(stage, rows)
    (table,) = tables.values()
    assert table.num_rows == 3 and table.column("embedding").null_count == 3
    assert "its scores are null" in stage.fallbacks()[0]


def test_the_table_follows_the_model_and_survives_pickling() -> None:
    for key, model in MODELS.items():
        stage = embed_stage(model=key, if_missing="skip")
        plan = plan_with(pickle.loads(pickle.dumps(stage)))
        assert plan.check().field("embedding").type == pa.list_(pa.float32(), model.dim)
        stored = plan.table_schemas()[f"embeddings_{key.replace('-', '_')}"]
        assert {"clip_id", "video_id", "fingerprint", "embedding"} <= set(stored.names)
    prints = {plan_with(embed_stage(num_frames=n)).fingerprints()["embed"] for n in (4, 8)}
    assert len(prints) == 2
