"""Which of a clip's scores travel in its ``.json``: those known before it is cut, but no lists."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from curation.catalog.catalog import Catalog, PlanRecord
from curation.shards.samples import kept_samples
from tests.faults.helpers import catalog_of, make_videos, run


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """One video whose kept clips were embedded behind the judge."""
    folder = tmp_path_factory.mktemp("scored")
    (video,) = make_videos(folder / "in", 1)
    stages = [{"use": "curation.stages.embed:Embed", "cascade": True, "num_frames": 1}]
    assert run(video, folder / "out", stages=stages).balanced
    return catalog_of(folder / "out")


def test_scores_of_a_cascade_travel_and_vectors_stay(catalog: Catalog) -> None:
    samples = list(kept_samples(catalog))
    assert samples
    for sample in samples:
        scores = sample.record["scores"]
        assert {"luma_mean", "embedding_model", "embedding_spread"} <= set(scores)
        assert not {"embedding", "embedding_frames", "fingerprint", "clip_id"} & set(scores)
        assert not {"residual_cut", "media_bytes"} & set(scores)  # of the cut clip, not of the shot
        assert not any(isinstance(v, list | bytes | dict) for v in scores.values())
    assert any(s.record["scores"]["embedding_model"] for s in samples)


def test_a_record_of_an_older_version_still_gives_its_scores(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = asdict(catalog.current())
    del record["score_tables"]
    monkeypatch.setattr(catalog, "current", lambda: PlanRecord(**record))
    scores = next(iter(kept_samples(catalog))).record["scores"]
    assert "luma_mean" in scores and "embedding_spread" not in scores
