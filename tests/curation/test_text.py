"""The text stage with the real detector: what it finds, what it calls it, and what it leaves out.

Drawn text over a drawn camera, so that it runs everywhere; ``tests/bench/text.py`` does the same at
length over real footage.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from curation.models.registry import find_weights
from curation.models.weights import PP_OCR_DET, PP_OCR_REC, Weights
from curation.signals.text_kinds import Judged
from curation.signals.text_pictures import Line
from curation.signals.text_tracks import Track
from curation.stages.text import Clip, OverlayText
from tests.bench.text import is_covered, measure
from tests.bench.text_footage import (
    TextClip,
    background,
    clip,
    credits_,
    drawn_background,
    logo,
    put_line,
    scene_clip,
    subtitle,
    title,
)
from tests.curation.chain import run_stage

needs_weights = pytest.mark.skipif(
    find_weights(PP_OCR_DET) is None or find_weights(PP_OCR_REC) is None,
    reason="rapidocr is not installed",
)
SIZE_PX = (854, 480)
PAN = drawn_background(seed=2, moving=True, num=4, size=SIZE_PX)
REST = drawn_background(seed=3, moving=False, num=4, size=SIZE_PX)


def stage_of(**fields: object) -> OverlayText:
    return OverlayText.model_validate(fields)


def rows_of(stage: OverlayText, *clips: TextClip) -> tuple[list[dict], list[dict]]:
    tables, failures = run_stage(stage, [c.row() for c in clips])
    assert not failures
    return tables["scores_text"].to_pylist(), tables["text_boxes"].to_pylist()


MADE: dict[str, Callable[[], TextClip]] = {
    "none": lambda: clip("none", "none", PAN),
    "subtitle": lambda: clip("subtitle", "subtitle", PAN, subtitle(0.06)),
    "logo": lambda: clip("logo", "logo", REST, logo(0.08, alpha=0.5)),
    "credits": lambda: clip("credits", "credits", PAN, credits_(0.06, card=True)),
    "title": lambda: clip("title", "title", PAN, title(0.12, card=False)),
    "scene": lambda: scene_clip("scene", PAN[0], 0.06, "pan"),
    "mixed": lambda: clip("mixed", "mixed", PAN, logo(0.08), subtitle(0.06)),
}


@needs_weights
@pytest.mark.parametrize("kind", list(MADE))
def test_found_and_named(kind: str) -> None:
    made = MADE[kind]()
    report = measure([made], stage_of(num_frames=8 if kind == "scene" else 4))
    (_, row) = report.clips[0]
    assert row["text_kind"] == kind
    if kind == "none":
        assert (
            row["text_area_fraction"] == row["text_num_boxes"] == row["overlay_text_fraction"] == 0
        )
        assert row["text_box_left_fraction"] is None
        assert row["text_free_bottom_fraction"] == 1
        return
    assert report.recall()[0] >= 0.9
    assert row["text_max_area_fraction"] >= row["text_area_fraction"] > 0
    laid_over = row["overlay_text_fraction"]
    assert laid_over == 0 if kind == "scene" else laid_over > 0.9 * row["text_area_fraction"]


@needs_weights
def test_the_proposed_crop_leaves_the_subtitle_out() -> None:
    made = MADE["subtitle"]()
    (row,), boxes = rows_of(stage_of(num_frames=4), made)
    crop = [row[f"text_free_{s}_fraction"] for s in ("left", "top", "right", "bottom")]
    assert crop[:3] == [0, 0, 1]
    assert 0.75 < crop[3] < min(b[1] for lines in made.boxes for b in lines)
    assert row["text_box_top_fraction"] == pytest.approx(crop[3], abs=1e-4)
    # The boxes table tells where it is in each frame.
    for second, lines in enumerate(made.boxes):
        mine = [b for b in boxes if b["time_s"] == second]
        found = np.array([[b[s] for s in ("left", "top", "right", "bottom")] for b in mine])
        assert all(is_covered(np.array(line), found.reshape(-1, 4)) for line in lines)
    # A picture full of text is not cropped.
    (full,), _ = rows_of(stage_of(num_frames=1), MADE["credits"]())
    assert full["text_free_left_fraction"] is None


@needs_weights
def test_scores_do_not_depend_on_neighbours_size_or_threads() -> None:
    one, two = MADE["subtitle"](), MADE["logo"]()
    both, boxes = rows_of(stage_of(num_frames=2), one, two)
    alone, _ = rows_of(stage_of(num_frames=2, threads=2), two)
    assert both[1] == alone[0]
    assert {b["clip_id"] for b in boxes} == {"subtitle", "logo"}
    # The same footage at half the size: shares of the picture stay.
    source = [p[::2, ::2].copy() for p in PAN]
    (small,), _ = rows_of(stage_of(num_frames=2), clip("s", "subtitle", source, subtitle(0.06)))
    for name in ("text_area_fraction", "text_box_top_fraction", "text_box_left_fraction"):
        assert small[name] == pytest.approx(both[0][name], abs=0.02), name


@needs_weights
def test_more_and_larger_text_covers_more() -> None:
    def area(height: float) -> float:
        made = clip("title", "title", REST[:1], title(height, card=True))
        return rows_of(stage_of(), made)[0][0]["text_area_fraction"]

    areas = [area(h) for h in (0.05, 0.1, 0.2)]
    assert areas[0] < areas[1] < areas[2]
    # Twice the height is about four times the area: the boxes follow the letters.
    assert areas[2] / areas[1] == pytest.approx(4, rel=0.25)


@needs_weights
def test_personal_text_is_counted_but_kept_only_when_asked() -> None:
    card = np.full((480, 854, 3), 30, np.uint8)
    for i, text in enumerate(("Call +49 30 1234567", "anna.berg@example.org", "The long river")):
        card, _ = put_line(card, text, height=0.08, centre=(0.5, 0.3 + 0.2 * i), style="plain")
    made = TextClip(name="card", kind="title", pictures=[card] * 2, boxes=[[], []])
    (row,), boxes = rows_of(stage_of(read=True, num_frames=2), made)
    assert row["personal_text_count"] == 2  # each line once, however long it stands there
    assert [b["personal"] for b in boxes[:3]] == [["phone"], ["email"], []]
    assert all(b["text"] is None for b in boxes)
    _, kept = rows_of(stage_of(read=True, keep_text=True, num_frames=1), made)
    assert kept[2]["text"].replace(" ", "").lower() == "thelongriver"
    (row,), boxes = rows_of(stage_of(num_frames=1), made)
    assert row["personal_text_count"] is None
    assert boxes[0]["personal"] is None


@needs_weights
def test_what_was_read_is_told_once_without_personal_data() -> None:
    card = np.full((480, 854, 3), 30, np.uint8)
    for i, text in enumerate(("The long river", "anna.berg@example.org", "Second part")):
        card, _ = put_line(card, text, height=0.08, centre=(0.5, 0.3 + 0.2 * i), style="plain")
    made = TextClip(name="card", kind="title", pictures=[card] * 2, boxes=[[], []])

    def lines(**fields: object) -> list[str]:
        (row,), _ = rows_of(stage_of(num_frames=2, **fields), made)
        return [line.replace(" ", "") for line in row["text_read"].split(" | ")]

    assert lines(read=True) == ["Thelongriver", "Secondpart"]
    assert lines(read=True, keep_text=True) == [
        "Thelongriver",
        "anna.berg@example.org",
        "Secondpart",
    ]
    assert lines(read=True, min_sure_score=1.0) == [""]
    nothing = TextClip(name="none", kind="none", pictures=PAN[:1], boxes=[[]])
    (row,), _ = rows_of(stage_of(read=True), nothing)
    assert row["text_read"] == ""
    (row,), _ = rows_of(stage_of(), nothing)
    assert row["text_read"] is None


def test_text_read_holds_whole_lines_in_order_of_first_sight() -> None:
    texts = {
        (0, 0): "second", (0, 1): "First line", (1, 0): "SECOND", (1, 1): "x", (2, 0): "unsure",
    }  # fmt: skip
    sure = {(0, 0): 0.95, (0, 1): 0.99, (1, 0): 0.99, (1, 1): 0.99, (2, 0): 0.8}

    def track(top: float, *places: tuple[int, int]) -> Judged:
        lines = [
            Line(at=at, box=np.array([0.1, top, 0.9, top + 0.1]), score=0.9, slot=slot)
            for at, slot in places
        ]
        return Judged(Track(lines=lines), "title", 0.9)

    judged = [track(0.5, (0, 0), (1, 0)), track(0.1, (0, 1)), track(0.7, (1, 1)), track(0, (2, 0))]
    clip_ = Clip([0.0, 1.0, 2.0], judged, texts, sure)
    assert clip_.surely_read(0.93) == ["First line", "SECOND"]


@needs_weights
def test_a_clip_without_frames_has_nulls() -> None:
    empty = {"clip_id": "e", "video_id": "v", "sample_pts_s": [], "sample_jpegs": []}
    tables, failures = run_stage(stage_of(), [empty])
    assert not failures
    (row,) = tables["scores_text"].to_pylist()
    assert row == {"clip_id": "e"} | dict.fromkeys(set(row) - {"clip_id"})


def test_without_weights_scores_are_null() -> None:
    class Elsewhere(OverlayText):
        def weights(self) -> tuple[Weights, ...]:
            return (Weights(key="x", name="X", purpose="", file="x.onnx", licence="", source=""),)

    stage = Elsewhere.model_validate({"if_missing": "skip"})
    batch = pa.table(
        {"clip_id": ["a", "b"], "sample_pts_s": [[0.0]] * 2, "sample_jpegs": [[b""]] * 2}
    )
    ((table, rows),) = stage.process(batch)  # pyright: ignore[reportAssignmentType, reportGeneralTypeIssues]
    assert table == "scores_text"
    assert rows.column("clip_id").to_pylist() == ["a", "b"]
    assert all(rows.column(n).null_count == 2 for n in rows.column_names if n != "clip_id")
    assert "its scores are null" in stage.fallbacks()[0]


@needs_weights
@pytest.mark.slow
def test_real_footage(assets: object) -> None:
    """No text is found in footage without any, and nearly all of that which is drawn on it."""
    for name in ("crystal.mp4", "02_cups.mp4", "bottle-detection.mp4", "flower.mp4"):
        source = background(name)
        (row,), _ = rows_of(stage_of(), clip(name, "none", source))
        assert row["text_kind"] == "none", name
        report = measure([clip(name, "subtitle", source, subtitle(0.05))], stage_of())
        assert report.recall()[0] >= 0.9
        assert report.accuracy() == 1
