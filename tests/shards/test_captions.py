"""Captions of samples: which texts a clip has, their weights, the default, and the draw."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curation.catalog.catalog import Catalog
from curation.shards.captions import (
    DEFAULT_WEIGHTS,
    captions_of,
    default_of,
)
from curation.shards.index import read_index
from curation.shards.samples import kept_samples
from curation.shards.settings import ShardSettings
from curation.shards.tar import Sample
from curation.shards.writer import write_shards
from curation.storage import Storage
from tests.faults.helpers import catalog_of, make_videos, query, run
from tests.shards.caption_stages import STAGES, without_captioning
from training.data.captions import choose_caption

GIVEN = "words of a person"


def packing(**fields: Any) -> ShardSettings:  # noqa: ANN401 - any field
    return ShardSettings(**fields)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos: a manifest's caption, a sidecar's with subtitles, and neither."""
    folder = tmp_path_factory.mktemp("captioned")
    videos = make_videos(folder / "in", 3)
    videos[1].with_suffix(".txt").write_text("beside the video\n")
    videos[1].with_suffix(".en.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello.\n")
    manifest = folder / "list.jsonl"
    rows = [{"uri": str(videos[0]), "caption": GIVEN}, *({"uri": str(v)} for v in videos[1:])]
    manifest.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert run(manifest, folder / "out", stages=STAGES, **without_captioning()).balanced
    return folder / "out"


@pytest.fixture
def catalog(root: Path) -> Catalog:
    return catalog_of(root)


def by_place(samples: list[Sample], catalog: Catalog) -> dict[tuple[str, int], dict[str, Any]]:
    """Records by file and number of the clip."""
    clips = query(Path(catalog.storage.root), "SELECT clip_id, clip_index FROM clips")
    place = {c["clip_id"]: c["clip_index"] for c in clips}
    return {(s.record["file"], place[s.clip_id]): s.record for s in samples}


def test_a_sample_has_every_usable_text_with_weight_and_origin(catalog: Catalog) -> None:
    records = by_place(list(kept_samples(catalog)), catalog)
    written = {"source": "captioner", "model": "embedded:test", "scope": "clip"}
    style = {"source": "rewriter", "model": "writer-1", "scope": "clip", "prompt": "rewrite-1@abc"}
    assert records["v1.mp4", 1]["captions"] == [
        {
            "kind": "given",
            "text": "beside the video",
            "weight": 1.0,
            "source": "sidecar",
            "model": None,
            "scope": "video",
        },
        {"kind": "short", "text": "Clip 1.", "weight": 1.0} | written,
        {"kind": "medium", "text": "This is clip 1.", "weight": 1.0} | written,
        {"kind": "long", "text": "A long text about clip 1.", "weight": 1.0} | written,
        {"kind": "temporal", "text": "0.0-0.5 s: it moves", "weight": 0.5} | written,
        {
            "kind": "speech",
            "text": "Hello.",
            "weight": 0.0,
            "source": "sidecar",
            "model": None,
            "language": "en",
            "scope": "clip",
        },
        {"kind": "style:tags", "text": "tags of clip 1", "weight": 1.0} | style,
    ]
    kinds = [e["kind"] for e in records["v2.mp4", 0]["captions"]]
    assert kinds == ["short", "medium", "style:poem", "style:tags"], "no empty or refused text"
    assert records["v0.mp4", 2]["captions"][0]["source"] == "manifest"


def test_the_default_is_the_users_own_text_where_there_is_one(catalog: Catalog) -> None:
    records = by_place(list(kept_samples(catalog)), catalog)
    told = {k: records[k, 1] for k in ("v0.mp4", "v1.mp4", "v2.mp4")}
    assert [r["caption"] for r in told.values()] == [GIVEN, "beside the video", "This is clip 1."]
    assert [r["caption_kind"] for r in told.values()] == ["given", "given", "medium"]
    assert [r["caption_source"] for r in told.values()] == ["manifest", "sidecar", "captioner"]
    order = packing(caption_default=["long", "style:*", "given"])
    again = by_place(list(kept_samples(catalog, order)), catalog)
    assert again["v0.mp4", 1]["caption"] == "A long text about clip 1."
    assert again["v0.mp4", 0]["caption"] == "poem of clip 0"
    silent = list(kept_samples(catalog, packing(caption_default=[])))
    assert {(s.caption, s.record["caption_kind"]) for s in silent} == {("", None)}


def test_faults_stay_with_the_clip(catalog: Catalog) -> None:
    records = by_place(list(kept_samples(catalog)), catalog)
    checks = records["v0.mp4", 0]["caption_checks"]
    assert checks["flags"] == ["hedging"] and len(checks["contradictions"]) == 1
    assert records["v0.mp4", 3]["caption_checks"] == {
        "flags": [],
        "contradictions": [],
        "language": "en",
        "alignment": 0.3,
        "model": "tiny-clip",
    }


def test_columns_about_captions_are_no_scores(catalog: Catalog) -> None:
    for sample in kept_samples(catalog):
        assert not any(n.startswith(("caption_", "subtitle_", "rewrite_")) for n in _scores(sample))
        assert "luma_mean" in _scores(sample)


def _scores(sample: Sample) -> dict[str, Any]:
    return sample.record["scores"]


def test_weights_travel_and_missing_kinds_keep_their_defaults(catalog: Catalog) -> None:
    settings = packing(caption_weights={"long": 3, "style:tags": 0.25})
    assert settings.caption_weights == DEFAULT_WEIGHTS | {"long": 3.0, "style:tags": 0.25}
    record = by_place(list(kept_samples(catalog, settings)), catalog)["v0.mp4", 2]
    weights = {e["kind"]: e["weight"] for e in record["captions"]}
    wanted = {"given": 1.0, "short": 1.0, "medium": 1.0, "long": 3.0}
    assert weights == wanted | {"style:poem": 1.0, "style:tags": 0.25}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"caption_weights": {"long": -1}}, "weight of long is -1: it must be 0 or more"),
        ({"caption_weights": {"long": float("nan")}}, "weight of long is nan"),
        ({"caption_weights": {"longg": 1}}, "no caption is of kind 'longg'"),
        ({"caption_weights": {"style:": 1}}, "no caption is of kind 'style:'"),
        ({"caption_default": ["given", "first"]}, "no caption is of kind 'first'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        packing(**fields)


def test_shards_are_the_same_bytes_again_and_new_when_weights_change(
    root: Path, tmp_path: Path
) -> None:
    storage = Storage(shutil.copytree(root, tmp_path / "out"))
    catalog = Catalog(storage)

    def pack(settings: ShardSettings) -> tuple[bool, dict[str, bytes]]:
        report = write_shards(storage, lambda: kept_samples(catalog, settings), settings)
        return report.reused, {n: storage.read_bytes(n) for n in storage.walk("shards")}

    _, first = pack(packing())
    assert pack(packing())[0]
    reused, other = pack(packing(caption_weights={"short": 2}))
    assert not reused and other.keys() == first.keys() and other != first
    assert pack(packing())[1] == first, "the way there leaves no trace"
    index = read_index(storage)
    assert index is not None
    assert set(index.column("num_captions").to_pylist()) >= {4, 7}
    assert index.schema.metadata[b"clipmill.shard_format"] == b"4"


def test_a_dataset_of_an_older_version_still_gives_its_text(root: Path, tmp_path: Path) -> None:
    storage = Storage(shutil.copytree(root, tmp_path / "out"))
    Catalog(storage).dataset("sources").drop_columns(["caption_origin"])
    records = by_place(list(kept_samples(Catalog(storage))), Catalog(storage))
    given = records["v0.mp4", 1]["captions"][0]
    assert (given["text"], given["source"]) == (GIVEN, "input")


def test_a_plan_without_captioning_has_the_given_text_alone(tmp_path: Path) -> None:
    (video,) = make_videos(tmp_path / "in", 1)
    video.with_suffix(".txt").write_text("a text")
    assert run(video, tmp_path / "out", **without_captioning()).balanced
    samples = list(kept_samples(catalog_of(tmp_path / "out")))
    assert samples
    for sample in samples:
        assert [e["kind"] for e in sample.record["captions"]] == ["given"]
        assert "caption_checks" not in sample.record and sample.caption == "a text"


def record(**weights: float) -> dict[str, Any]:
    entries = [{"kind": k, "text": f"the {k}", "weight": w} for k, w in weights.items()]
    return {"captions": entries, "caption": "the default", "caption_kind": "medium"}


def test_a_draw_follows_the_weights() -> None:
    told = record(given=1, short=0, medium=2, temporal=0.5)
    n = 7000
    counts = Counter(choose_caption(told, i / n)[0] for i in range(n))
    assert counts == {"given": 2000, "medium": 4000, "temporal": 1000}
    assert choose_caption(told, 0.5) == choose_caption(told, 0.5) == ("medium", "the medium")


def test_the_ends_of_the_range_are_drawn_too() -> None:
    told = record(**{k: 0.1 for k in ("given", "short", "medium")})
    assert choose_caption(told, 0.0)[0] == "given"
    assert choose_caption(told, 1 - 2**-53)[0] == "medium"
    for draw in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="draw must be in"):
            choose_caption(told, draw)


def test_without_a_weight_the_default_is_taken() -> None:
    assert choose_caption(record(speech=0), 0.3) == ("medium", "the default")
    assert choose_caption({"captions": [], "caption": ""}, 0.3) == ("", "")
    old = {"caption": "of an older shard", "caption_source": "input"}
    assert choose_caption(old, 0.3) == ("given", "of an older shard")


def test_every_drawn_text_is_one_of_the_sample(catalog: Catalog) -> None:
    for i, sample in enumerate(kept_samples(catalog)):
        kind, text = choose_caption(sample.record, (i * 0.37) % 1)
        assert {"kind": kind, "text": text} in [
            {"kind": e["kind"], "text": e["text"]} for e in sample.record["captions"]
        ]
        assert kind != "speech"


def test_equal_kinds_keep_their_order() -> None:
    rewrites = [{"style": "a", "text": t, "prompt": None} for t in ("one", "two")]
    entries = captions_of({"caption": None, "rewrites": rewrites}, DEFAULT_WEIGHTS)
    assert [e["text"] for e in entries] == ["one", "two"]
    assert default_of(entries, ["style:a"])["text"] == "one"
    assert "prompt" not in entries[0] and default_of(entries, ["given"]) == {}
