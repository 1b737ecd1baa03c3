"""Text in the picture: how much, where, and whether it was laid over it, from the sampled frames.

Lines are found by PP-OCR's detector (PaddleOCR, arXiv 2009.09941, DBNet) in up to ``num_frames``
stored frames, followed from frame to frame, and told apart by whether they move with the scene:
subtitles, logos, titles, credits, scene text. Areas are shares of the picture, 0-1. No threshold
is learned; ``tests/bench/text.py`` measures what is found. Letters below 3.5 % of the picture's
height get lost (stored frames are 512 px long). Where the camera stands still, text of the scene
cannot be told from text laid over: it is ``unclear`` unless it stands where subtitles and logos do.
Cost: about 160 ms per frame looked at on one core, so at most that per second of video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.models.ocr import Found, TextDetector, TextReader
from curation.models.registry import file_sha256, require_weights
from curation.models.weights import PP_OCR_DET, PP_OCR_REC, Weights
from curation.schema import DOUBLES, FLOAT32, FLOAT64, INT32, STRING, schema
from curation.signals.personal_text import personal_kinds
from curation.signals.text_area import covered, largest_free
from curation.signals.text_kinds import OVERLAY, Judged, judge_tracks, kind_of_clip
from curation.signals.text_pictures import Line, Pictures
from curation.signals.text_tracks import Track, follow
from curation.stage import Output, StageContext
from curation.stages.model_stage import ModelStage
from curation.stages.sampled import picture, spread

DIGITS = 4
LEAST_FREE_AREA = 0.5
"""A crop that loses more than half is no proposal."""
SIDES = ("left", "top", "right", "bottom")
BETWEEN_LINES, MAX_READ = " | ", 300
"""In ``text_read``, and its greatest length: the rest of a page of text is left out."""
MIN_LETTERS = 2
"""Letters or digits of a line in ``text_read``: single ones are mostly no letters."""


class OverlayText(ModelStage):
    """Finds text in clips and says what kind it is."""

    name: ClassVar[str] = "text"
    version: ClassVar[int] = 2
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING, sample_pts_s=DOUBLES, sample_jpegs=pa.list_(pa.binary())
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_text": schema(
            clip_id=STRING,
            text_area_fraction=FLOAT32,  # mean share of the picture inside boxes of text
            text_max_area_fraction=FLOAT32,  # the same in the frame that has most
            text_num_boxes=FLOAT32,  # mean number of lines in a frame
            overlay_text_fraction=FLOAT32,  # mean share inside text laid over the picture
            unclear_text_fraction=FLOAT32,  # ... inside text that may be laid over or not
            subtitle_share=FLOAT32,  # share of the frames with subtitles
            logo_share=FLOAT32,  # ... with a small text standing in a corner
            title_share=FLOAT32,  # ... with other text laid over
            credits_share=FLOAT32,  # ... with many lines, scrolling or on a plain card
            text_kind=STRING,  # none subtitle logo credits title scene unclear mixed
            text_kind_confidence=FLOAT32,  # 0-1; see signals/text_kinds.py
            # Around all text laid over; fractions of the picture, null without such text.
            **{f"text_box_{side}_fraction": FLOAT32 for side in SIDES},
            # The largest crop without it; null when that loses more than half of the picture.
            **{f"text_free_{side}_fraction": FLOAT32 for side in SIDES},
            personal_text_count=INT32,  # lines with an address, number or plate; null: not read
            text_read=STRING,  # sure lines in order of first sight, " | " between; null: not read
            text_model=STRING,
        ),
        "text_boxes": schema(
            clip_id=STRING,
            time_s=FLOAT64,  # from the clip's start
            **{side: FLOAT32 for side in SIDES},  # fractions of the picture
            score=FLOAT32,
            track=INT32,  # the same line in other frames has the same number
            kind=STRING,
            personal=pa.list_(STRING),  # email url phone plate; null: not read
            text=STRING,  # null unless keep_text
        ),
    }
    details: ClassVar[frozenset[str]] = frozenset({"text_boxes"})
    operational: ClassVar[frozenset[str]] = ModelStage.operational | {"threads"}

    num_frames: int = Field(8, ge=1, description="frames looked at, spread over the clip")
    input_px: int = Field(416, ge=64, le=2048, description="longer side of what the network sees")
    min_score: float = Field(0.5, ge=0, le=1, description="probability of a box; rapidocr's value")
    min_lone_score: float = Field(
        0.65, ge=0, le=1, description="the same for a box found in one frame of three or more"
    )
    read: bool = Field(False, description="read the text, to count personal data in it")
    min_read_score: float = Field(0.6, ge=0, le=1, description="mean probability of read letters")
    min_sure_score: float = Field(
        # Half read lines and things taken for letters score 0.6-0.9.
        0.93,
        ge=0,
        le=1,
        description="mean probability of the letters of a line in `text_read`",
    )
    keep_text: bool = Field(
        False, description="store what was read of every line, personal data too"
    )
    threads: int = Field(1, ge=1, description="CPU threads of the network")

    _context: StageContext | None = PrivateAttr(default=None)
    _detector: TextDetector | None = PrivateAttr(default=None)
    _reader: TextReader | None = PrivateAttr(default=None)

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat; the networks are loaded with the first clip."""
        self._context = context

    def weights(self) -> tuple[Weights, ...]:
        """The detector, and the reader where text is read."""
        return (PP_OCR_DET, PP_OCR_REC) if self.read else (PP_OCR_DET,)

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Score a batch of clips."""
        if not self.ready:
            yield "scores_text", self.nulls(batch, self.adds["scores_text"])
            return
        self._load()
        scores, boxes = [], []
        for row in batch.to_pylist():
            jpegs, times_s = row["sample_jpegs"] or [], row["sample_pts_s"] or []
            at = spread(len(jpegs), self.num_frames)
            clip = self._look([(times_s[i], picture(jpegs[i])) for i in at])
            scores.append({"clip_id": row["clip_id"], **self._scores(clip)})
            boxes += [{"clip_id": row["clip_id"], **box} for box in _box_rows(clip, self.keep_text)]
        yield "scores_text", pa.Table.from_pylist(scores, schema=self.adds["scores_text"])
        yield "text_boxes", pa.Table.from_pylist(boxes, schema=self.adds["text_boxes"])

    def _load(self) -> None:
        if self._detector is None:
            self._detector = TextDetector(
                require_weights(PP_OCR_DET),
                threads=self.threads,
                input_px=self.input_px,
                min_score=self.min_score,
            )
        if self.read and self._reader is None:
            self._reader = TextReader(require_weights(PP_OCR_REC), threads=self.threads)

    def _look(self, frames: list[tuple[float, np.ndarray]]) -> Clip:
        """Find, follow, judge and read the text of a clip.

        Args:
            frames: Times and BGR pictures.
        """
        assert self._detector is not None
        found: list[list[Found]] = []
        for _, frame in frames:
            found.append(self._detector.find(frame))
            if self._context is not None:
                self._context.beat()
        lines = [
            [_line(i, j, f, frame.shape) for j, f in enumerate(found[i])]
            for i, (_, frame) in enumerate(frames)
        ]
        pictures = Pictures([cv2.cvtColor(f, cv2.COLOR_BGR2GRAY) for _, f in frames], lines)
        tracks = follow(pictures, lines)
        if len(frames) >= 3:
            tracks = [t for t in tracks if t.steps or t.lines[0].score >= self.min_lone_score]
        clip = Clip([t for t, _ in frames], judge_tracks(pictures, tracks))
        if self._reader is not None:
            clip.texts = {}
            for judged in clip.judged:
                for line in judged.track.lines:
                    quad = found[line.at][line.slot].quad_px
                    text, sure = self._reader.read(frames[line.at][1], quad)
                    clip.texts[line.at, line.slot] = text if sure >= self.min_read_score else ""
                    clip.sure[line.at, line.slot] = sure
        return clip

    def _scores(self, clip: Clip) -> dict[str, Any]:
        """The columns of ``scores_text`` after ``clip_id``; null without frames."""
        num = len(clip.times_s)
        if not num:
            return {}
        areas = clip.areas()
        kind, confidence = kind_of_clip(clip.judged, num)
        laid_over = clip.boxes(OVERLAY)
        row: dict[str, Any] = {
            "text_area_fraction": float(np.mean(areas)),
            "text_max_area_fraction": float(np.max(areas)),
            "text_num_boxes": len(clip.boxes()) / num,
            "overlay_text_fraction": float(np.mean(clip.areas(OVERLAY))),
            "unclear_text_fraction": float(np.mean(clip.areas({"unclear"}))),
            **{f"{k}_share": clip.share(k) for k in ("subtitle", "logo", "title", "credits")},
            "text_kind_confidence": confidence,
            **_sides("text_box", _around(laid_over)),
        }
        free, area = largest_free(laid_over)
        row |= _sides("text_free", free if area >= LEAST_FREE_AREA else None)
        row = {k: v if v is None else round(v, DIGITS) for k, v in row.items()}
        row |= {"text_kind": kind, "text_model": self._model()}
        if clip.texts is not None:
            row["personal_text_count"] = sum(bool(personal_kinds(t)) for t in clip.once_read())
            row["text_read"] = self._read(clip)
        return row

    def _read(self, clip: Clip) -> str:
        """The sure lines as one text, without personal data unless it is to be kept."""
        lines = clip.surely_read(self.min_sure_score)
        public = [t for t in lines if self.keep_text or not personal_kinds(t)]
        kept, length = [], 0
        for line in public:
            length += len(line) + len(BETWEEN_LINES) * bool(kept)
            if length > MAX_READ:
                break
            kept.append(line)
        return BETWEEN_LINES.join(kept)

    def _model(self) -> str:
        return "+".join(f"{w.key}@{file_sha256(require_weights(w))[:12]}" for w in self.weights())


@dataclass
class Clip:
    """What was found in a clip.

    Attributes:
        times_s: Times of the frames.
        judged: Every track, and what it is.
        texts: What was read, by frame and slot; None: nothing was.
        sure: How sure the reader was of it, 0-1.
    """

    times_s: list[float]
    judged: list[Judged]
    texts: dict[tuple[int, int], str] | None = None
    sure: dict[tuple[int, int], float] = field(default_factory=dict)

    def boxes(self, kinds: Collection[str] | None = None, at: int | None = None) -> np.ndarray:
        """Boxes [n, 4] of some kinds, in all frames or one."""
        found = [
            line.box
            for j in self.judged
            if kinds is None or j.kind in kinds
            for line in j.track.lines
            if at is None or line.at == at
        ]
        return np.array(found).reshape(-1, 4)

    def areas(self, kinds: Collection[str] | None = None) -> list[float]:
        """Share of each frame that boxes of some kinds cover together."""
        return [covered(self.boxes(kinds, at)) for at in range(len(self.times_s))]

    def share(self, kind: str) -> float:
        """Share of the frames with a kind of text."""
        at = {line.at for j in self.judged if j.kind == kind for line in j.track.lines}
        return len(at) / len(self.times_s)

    def once_read(self) -> list[str]:
        """Each different text of each track."""
        assert self.texts is not None
        return [
            text
            for j in self.judged
            for text in dict.fromkeys(self.texts[line.at, line.slot] for line in j.track.lines)
        ]

    def surely_read(self, min_score: float) -> list[str]:
        """The best reading of each track, each text once, in order of first sight.

        Args:
            min_score: Mean probability of the letters, from which a track counts: the median
                of its frames, since a wrong reading now and then is sure of itself.
        """
        assert self.texts is not None
        tracks = sorted((j.track for j in self.judged), key=lambda t: (t.lines[0].at, _top(t)))
        found: dict[str, str] = {}
        for track in tracks:
            places = [(line.at, line.slot) for line in track.lines]
            best = max(places, key=lambda p: self.sure[p])
            text = self.texts[best].replace(BETWEEN_LINES.strip(), " ").replace("□", " ")
            key = "".join(c for c in text.casefold() if c.isalnum())
            sure = float(np.median([self.sure[p] for p in places])) >= min_score
            if sure and len(key) >= MIN_LETTERS and not any(key in other for other in found):
                found[key] = " ".join(text.split())
        return list(found.values())


def _top(track: Track) -> float:
    """Where a track's first line begins, for the order of reading."""
    return float(track.lines[0].box[1])


def _line(at: int, slot: int, found: Found, shape: tuple[int, ...]) -> Line:
    """A found line as the upright box around it, in fractions."""
    size = np.array([shape[1], shape[0]], np.float64)
    low, high = found.quad_px.min(0) / size, found.quad_px.max(0) / size
    return Line(at=at, box=np.concatenate([low, high]), score=found.score, slot=slot)


def _around(boxes: np.ndarray) -> np.ndarray | None:
    """The box around all boxes."""
    if not len(boxes):
        return None
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def _sides(prefix: str, box: np.ndarray | None) -> dict[str, float | None]:
    values = [None] * 4 if box is None else [float(v) for v in box]
    return {f"{prefix}_{s}_fraction": v for s, v in zip(SIDES, values, strict=True)}


def _box_rows(clip: Clip, keep_text: bool) -> Iterator[dict[str, Any]]:
    """Rows of ``text_boxes``, in order of time."""
    placed = [(line, i, j) for i, j in enumerate(clip.judged) for line in j.track.lines]
    for line, i, judged in sorted(placed, key=lambda p: (p[0].at, p[0].slot)):
        text = None if clip.texts is None else clip.texts[line.at, line.slot]
        yield {
            "time_s": clip.times_s[line.at],
            **{s: round(float(v), DIGITS) for s, v in zip(SIDES, line.box, strict=True)},
            "score": round(line.score, DIGITS),
            "track": i,
            "kind": judged.kind,
            "personal": None if text is None else personal_kinds(text),
            "text": text if keep_text else None,
        }
