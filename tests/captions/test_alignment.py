"""Alignment: both ways run, nothing depends on neighbours, and right pairs beat shuffled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.captions.alignment import (
    JOINT_WORDS,
    JointAlignment,
    Pair,
    TagsAlignment,
    class_names,
    tags_ready,
    text_of,
)
from curation.captions.shuffled import alignment_gate
from curation.models.minilm import DIM, MiniLM
from curation.models.registry import find_weights
from curation.models.weights import MINILM_L6
from tests.bench.faces import samples
from tests.curation.embed_parts import clip_row, footage, tiny_clip

SHOWN: dict[str, str] = {
    "01_dog.mp4": "A woman plays with a spotted dog on a paved path.",
    "02_cups.mp4": "Hands move three red plastic cups around on a white table.",
    "bigbuckbunny.mp4": "A fat grey cartoon rabbit stretches outside its burrow.",
    "bottle-detection.mp4": "Three water bottles with blue caps stand in a row.",
    "car-detection.mp4": "A white car drives over a car park, seen from above.",
    "cityCC0.mpg": "Lit glass skyscrapers at night seen from below.",
    "crystal.mp4": "A glass lotus flower ornament lies on a wooden table.",
    "flower.mp4": "Time-lapse of a red flower opening its petals.",
    "frog.mp4": "A small green toy frog grows nearer on a wooden floor.",
    "nasa_13013.mp4": "Two astronauts train under water beside a spacecraft in the dark.",
    "video.mp4": "A grey-haired man stands before a lime green wall.",
}
"""Written after looking at the videos."""


def row(short: str = "A dog.", medium: str = "", **columns: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"caption_short": short, "caption_medium": medium, **columns}


def test_which_caption_is_compared() -> None:
    long = "word " * (JOINT_WORDS + 1)
    assert text_of(row("s", "m")) == "m"
    assert text_of(row("s", long), max_words=JOINT_WORDS) == "s"
    assert text_of(row("s", long)) == long
    assert text_of(row("", long), max_words=JOINT_WORDS) == long  # the tokenizer cuts it
    assert text_of({"caption_short": None, "caption_medium": None}) == ""


def test_names_of_classes() -> None:
    if not tags_ready():
        pytest.skip("no package with the names")
    names = class_names()
    assert len(names) == 1000
    assert names[0] == "tench"
    assert names[817] == "sports car"


def test_published_cosines() -> None:
    """Those that the authors of all-MiniLM-L6-v2 print for these sentences."""
    pytest.importorskip("transformers")
    if find_weights(MINILM_L6) is None:
        pytest.skip("no weights of MiniLM")
    texts = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    model = MiniLM()
    vectors = model.embed(texts)
    assert vectors.shape == (3, DIM)
    assert vectors.dtype == np.float32
    cosines = vectors @ vectors.T
    assert cosines[0, 1] == pytest.approx(0.6660, abs=1e-4)
    assert cosines[0, 2] == pytest.approx(0.1046, abs=1e-4)
    assert cosines[1, 2] == pytest.approx(0.1411, abs=1e-4)
    assert np.array_equal(model.embed(texts[:1])[0], vectors[0])
    assert np.allclose(model.embed_list([*texts, *texts[::-1]])[:3], vectors, atol=1e-6)
    assert model.embed([]).shape == (0, DIM)


def test_joint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real architecture with random weights: shapes, stored vectors, missing frames."""
    pytest.importorskip("open_clip")
    tiny_clip(tmp_path, monkeypatch, "clip-vit-b-32")
    way = JointAlignment("clip-vit-b-32", num_frames=2)
    assert way.label.startswith("clip-vit-b-32@")
    assert way.label.endswith(":joint")
    times_s, pictures = footage("bikes.mp4", every_s=2.0)
    seen = row("People ride bikes.") | clip_row("c", pictures, times_s)
    first, blind, wordless = way.vectors(
        [seen, row("A dog.", sample_pts_s=[], sample_jpegs=[]), seen | row("", "")]
    )
    assert first is not None
    assert blind is None
    assert wordless is None
    assert np.linalg.norm(first.text) == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(first.clip) == pytest.approx(1, abs=1e-4)
    stored = way.vectors([row("People ride bikes.", embedding=first.clip.tolist())])[0]
    assert stored is not None
    assert stored.cosine == pytest.approx(first.cosine, abs=1e-6)


def test_cosine() -> None:
    right = np.array([1, 0], np.float32)
    assert Pair(right, right).cosine == 1
    assert Pair(right, -right).cosine == -1


@pytest.mark.slow
def test_right_pairs_beat_shuffled_ones(assets: Path) -> None:
    """Captions written by hand on real videos: the gate passes them, and fails them shuffled."""
    if not tags_ready():
        pytest.skip("no weights for tags")
    rows = []
    for name, text in SHOWN.items():
        found = [(time_s, p) for time_s, p in samples(assets / "videos/real" / name, 2)][:4]
        times_s, pictures = [t for t, _ in found], [p[..., ::-1] for _, p in found]
        rows.append(row(text) | clip_row(name, pictures, times_s))
    way = TagsAlignment()
    pairs = way.vectors(rows)
    alone = way.vectors(rows[3:4])[0]
    assert alone is not None
    assert pairs[3] is not None
    assert np.array_equal(alone.clip, pairs[3].clip)
    texts = np.array([p.text for p in pairs if p is not None])
    clips = np.array([p.clip for p in pairs if p is not None])
    cosines, n = texts @ clips.T, len(rows)
    wrong = cosines[~np.eye(n, dtype=bool)]
    assert (np.diag(cosines)[:, None] > wrong[None]).mean() > 0.85  # 0.92 over 31 clips
    videos = list(SHOWN)
    assert alignment_gate(texts, clips, videos, seed=0).verdict == "passed"
    for by in range(1, n):
        moved = alignment_gate(texts, np.roll(clips, by, axis=0), videos, seed=0)
        assert moved.verdict != "passed", by
