"""The gate: right rows pass, mixed-up ones fail, and what cannot be told is said to be so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.captions.gate import run_gate
from curation.captions.shuffled import MAX_PER_VIDEO, alignment_gate, duplicate_share
from curation.captions.tables import CAPTIONS, CHECKS, VECTORS
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import GateError
from curation.plan import Plan
from curation.schema import with_keys
from curation.stages.caption import CaptionClips
from curation.stages.check import CheckCaptions
from tests.catalog.parts import default_plan, new_catalog

DIM = 64
RHO = 0.27
"""Of captions written by hand on real videos, compared by tags."""


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rows(
    num_videos: int, each: int = 1, *, rho: float = RHO, seed: int = 0, alike: float = 0.0
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Captions that have something of their clips; clips of a video have half in common.

    Args:
        num_videos: Videos.
        each: Clips of each.
        rho: What a caption has of its clip.
        seed: Of all that is drawn.
        alike: What all clips have in common.
    """
    rng = np.random.default_rng(seed)
    video = rng.normal(size=(num_videos, 1, DIM))
    own = rng.normal(size=(num_videos, each, DIM))
    scene = unit(rng.normal(size=DIM))
    clips = unit(unit(video + own).reshape(-1, DIM) * (1 - alike) + scene * alike)
    apart = clips - clips.mean(0)
    noise = unit(rng.normal(size=apart.shape)) * np.linalg.norm(apart, axis=1, keepdims=True)
    texts = unit(rho * apart + np.sqrt(1 - rho**2) * noise)
    return texts, clips, [f"v{i}" for i in range(num_videos) for _ in range(each)]


@pytest.mark.parametrize(("num_videos", "each"), [(30, 1), (10, 5), (1, 40), (200, 1)])
def test_right_rows_pass(num_videos: int, each: int) -> None:
    texts, clips, videos = rows(num_videos, each)
    found = alignment_gate(texts, clips, videos, seed=0)
    assert found.verdict == "passed", found
    assert found.num_pairs == len(videos)
    assert found.num_videos == num_videos
    assert found.p_value is not None
    assert found.p_value < 0.01
    assert found.mean_rank is not None
    assert found.mean_rank > 0.8
    assert found.shift is None
    assert alignment_gate(texts, clips, videos, seed=0) == found


@pytest.mark.parametrize(("num_videos", "each"), [(60, 1), (12, 6), (1, 60)])
def test_random_order_fails(num_videos: int, each: int) -> None:
    verdicts = []
    for seed in range(20):
        texts, clips, videos = rows(num_videos, each, seed=seed)
        order = np.random.default_rng(seed).permutation(len(videos))
        verdicts.append(alignment_gate(texts, clips[order], videos, seed=seed).verdict)
    assert verdicts.count("passed") <= 1
    assert verdicts.count("failed") >= 16


@pytest.mark.parametrize("by", [1, -1, 2, 5, 30])
def test_rotated_rows_fail(by: int) -> None:
    texts, clips, videos = rows(60)
    assert alignment_gate(texts, np.roll(clips, by, axis=0), videos, seed=0).verdict == "failed"


@pytest.mark.parametrize("by", [1, -1, 2])
def test_a_shift_within_videos_fails(by: int) -> None:
    """Most captions still stand on a clip of their own video, so the correlation is high."""
    texts, clips, videos = rows(6, 20)
    found = alignment_gate(texts, np.roll(clips, by, axis=0), videos, seed=0)
    assert found.verdict == "failed"
    assert found.shift == by
    assert "shifted" in found.reason


def test_one_caption_for_all_fails() -> None:
    texts, clips, videos = rows(30)
    found = alignment_gate(np.repeat(texts[:1], 30, axis=0), clips, videos, seed=0)
    assert found.verdict == "failed"
    assert "same" in found.reason


def test_what_cannot_be_told() -> None:
    few = alignment_gate(*rows(7), seed=0)
    assert few.verdict == "undecided"
    assert "too few" in few.reason
    assert alignment_gate(np.empty((0, 4)), np.empty((0, 4)), [], seed=0).verdict == "undecided"
    texts, clips, videos = rows(40, rho=0.0, alike=0.9)
    alike = alignment_gate(texts, clips, videos, seed=0)
    assert alike.verdict == "undecided"
    assert "alike" in alike.reason
    # Better than chance and far from good: part of a large run is mixed up, or it says little.
    texts, clips, videos = rows(900, rho=0.05)
    partly = alignment_gate(texts, clips, videos, seed=0)
    assert partly.verdict == "undecided"
    assert "part of them" in partly.reason


def test_large_runs_are_drawn_in_runs_of_neighbours() -> None:
    texts, clips, videos = rows(500, 4)
    found = alignment_gate(texts, clips, videos, seed=0, max_pairs=300)
    assert found.num_pairs == 300
    assert found.verdict == "passed"
    assert found.num_videos <= 300 / 4 + 2 * (300 / MAX_PER_VIDEO + 1)
    assert alignment_gate(texts, clips, videos, seed=1, max_pairs=300) != found
    moved = alignment_gate(texts, np.roll(clips, 1, axis=0), videos, seed=0, max_pairs=300)
    assert moved.verdict == "failed"


def test_duplicates() -> None:
    texts = ["A dog runs.", "a dog runs", "A cat sits.", "A cat sits.", "A car."]
    assert duplicate_share(texts, ["a", "b", "c", "c", "d"]) == pytest.approx(2 / 5)
    assert duplicate_share([], []) == 0


@pytest.fixture
def plan() -> Plan:
    """The default plan with captions and checks, whatever it holds itself."""
    base = default_plan()
    cheap = [s for s in base.stages if s.name not in ("caption", "check", "rewrite")]
    words = (CaptionClips.model_validate({}), CheckCaptions.model_validate({"alignment": "off"}))
    return Plan(stages=(*cheap, *words), rules=base.rules)


def catalog_with(
    root: Path,
    plan: Plan,
    data: tuple[np.ndarray, np.ndarray, list[str]],
    **columns: list[str],
) -> Catalog:
    """A dataset with captions, vectors and verdicts; ``columns`` replace those of captions."""
    catalog = new_catalog(root, plan)
    prints = plan.table_fingerprints()
    texts, clips, videos = data
    ids = [f"c{i:05d}" for i in range(len(videos))]

    def add(table: str, schema: pa.Schema, made: dict[str, list[Any]]) -> None:
        keys = {"video_id": videos, "fingerprint": [prints[table]] * len(videos)}
        full = {"clip_id": ids} | keys | made
        stored = catalog.dataset(table).schema
        chosen = pa.schema([stored.field(n) for n in with_keys(schema).names if n in full])
        catalog.append(table, pa.table({f.name: full[f.name] for f in chosen}, schema=chosen))

    sources = catalog.dataset("sources").schema
    unique = list(dict.fromkeys(videos))
    named = [{"source_id": v, "uri": f"/in/{v}.mp4", "etag": "e"} for v in unique]
    catalog.append("sources", pa.Table.from_pylist(named, schema=sources))
    known = catalog.dataset("identities").schema
    named = [{"source_id": v, "etag": "e", "video_id": v} for v in unique]
    catalog.append("identities", pa.Table.from_pylist(named, schema=known))
    add("clips", catalog.dataset("clips").schema, {"start_s": [float(i) for i in range(len(ids))]})
    words = {"caption_medium": [f"caption {i}" for i in range(len(ids))]}
    words["caption_backend"] = ["openai"] * len(ids)
    add("captions", CAPTIONS, words | columns)
    add("caption_checks", CHECKS, {"caption_alignment_model": ["some:joint"] * len(ids)})
    add("caption_vectors", VECTORS, {"text_vector": texts.tolist(), "clip_vector": clips.tolist()})
    verdicts = catalog.dataset("verdicts").schema
    judged = {"clip_id": ids, "video_id": videos, "verdict": ["kept"] * len(ids)}
    judged |= {"reasons": [[]] * len(ids), "margins": [[]] * len(ids)}
    judged |= {"split": [None] * len(ids), "fingerprint": [prints["verdicts"]] * len(ids)}
    catalog.replace("verdicts", pa.table(judged, schema=verdicts))
    return catalog


def test_a_dataset_that_passes(tmp_path: Path, plan: Plan) -> None:
    report = run_gate(Views(catalog_with(tmp_path / "out", plan, rows(12, 5))))
    assert report.alignment.verdict == "passed"
    assert report.alignment.num_pairs == 60
    assert report.num_captions == 60
    assert report.duplicate_share == 0
    assert report.model == "some:joint"
    report.raise_if_failed("out")
    assert report.as_dict()["alignment"]["rho"] == report.alignment.rho


def test_a_dataset_that_fails(tmp_path: Path, plan: Plan) -> None:
    texts, clips, videos = rows(12, 5)
    catalog = catalog_with(tmp_path / "out", plan, (texts, np.roll(clips, 1, axis=0), videos))
    report = run_gate(Views(catalog))
    assert report.alignment.shift == 1  # the order of the table is kept
    with pytest.raises(GateError, match="clipmill redo data/out caption"):
        report.raise_if_failed("data/out")


def test_one_caption_on_everything(tmp_path: Path, plan: Plan) -> None:
    same = ["A man, talking!", "a man talking"] * 10
    data = rows(20)
    report = run_gate(Views(catalog_with(tmp_path / "a", plan, data, caption_medium=same)))
    assert report.duplicate_share == 1
    with pytest.raises(GateError, match="100% of 20 captions also stand on clips of other videos"):
        report.raise_if_failed()
    # From measurements alike clips get alike captions, and nothing can be mixed up.
    told = {"caption_medium": same, "caption_backend": ["embedded"] * 20}
    texts, clips, videos = data
    moved = texts, np.roll(clips, 7, axis=0), videos
    report = run_gate(Views(catalog_with(tmp_path / "b", plan, moved, **told)))
    assert report.duplicate_share == 1
    assert not report.problems
    assert report.alignment.verdict == "undecided"


def test_reading_is_bounded(tmp_path: Path, plan: Plan) -> None:
    report = run_gate(Views(catalog_with(tmp_path / "out", plan, rows(60, 40))))
    assert report.num_captions == 2400
    assert report.alignment.num_pairs == 1024
    assert report.alignment.verdict == "passed"


def test_a_dataset_without_captions(tmp_path: Path) -> None:
    base = default_plan()
    named = ("caption", "check", "rewrite")
    cheap = Plan(stages=tuple(s for s in base.stages if s.name not in named), rules=base.rules)
    report = run_gate(Views(new_catalog(tmp_path / "out", cheap)))
    assert report.alignment.verdict == "undecided"
    assert not report.problems
