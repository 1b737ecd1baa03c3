"""Faces: how many, how large and for how much of a clip, from the stored sampled frames.

Counts and shares of the picture, found by YuNet (Wu, Peng and Yu 2023; Apache-2.0).
Cost: 7 ms per frame looked at, of 512x288 pixels; at most 8 frames a clip.

What to do with clips that show faces:
- reject: a rule, such as ``face_count_max: {max: 0}`` or ``largest_face_fraction: {max: 0.2}``;
- blur: ``cut.blur_faces: true`` makes faces in the written clips unrecognisable;
- keep: no rule.

Sampled frames in the catalog, and the pictures that reports draw from them, show faces as they are
whatever is decided here. Faces below about 10 pixels of the sampled frame are not found. Number
plates are not looked for: no small detector of them with a clear licence is known to us. Where they
matter, add a stage of your own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.models.weights import YUNET, Weights
from curation.models.yunet import Face, FaceFinder
from curation.schema import FLOAT32, FLOAT64, INT32, STRING, schema
from curation.stage import Output, StageContext
from curation.stages.model_stage import ModelStage
from curation.stages.sampled import picture, spread

DIGITS = 4
SCORES = schema(
    clip_id=STRING,
    face_count_max=INT32,  # most faces in one frame
    face_count_mean=FLOAT32,  # faces per frame looked at
    face_time_fraction=FLOAT32,  # 0-1, share of the frames looked at with a face
    largest_face_fraction=FLOAT32,  # 0-1, height of the largest face over the picture's; 0: none
    face_area_fraction=FLOAT32,  # 0-1, share of the picture inside boxes of faces, mean
    faces_model=STRING,  # null: no model was here
)
BOXES = schema(
    clip_id=STRING,
    face_time_s=FLOAT64,  # from the start of the clip
    face_x=FLOAT32,  # shares of the picture's width and height, as displayed
    face_y=FLOAT32,
    face_width=FLOAT32,
    face_height=FLOAT32,
    face_confidence=FLOAT32,  # 0-1
)


class Faces(ModelStage):
    """Looks for faces in the sampled frames of clips."""

    name: ClassVar[str] = "faces"
    version: ClassVar[int] = 1
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING, sample_pts_s=pa.list_(FLOAT64), sample_jpegs=pa.list_(pa.binary())
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {"scores_faces": SCORES, "face_boxes": BOXES}
    details: ClassVar[frozenset[str]] = frozenset({"face_boxes"})

    num_frames: int = Field(8, ge=1, description="frames looked at, spread over the clip")
    min_confidence: float = Field(
        # On 295 labelled frames (tests/bench/faces.py): precision 0.85, recall 0.94; what is false
        # are animals, toys and backs of heads. OpenCV's default, 0.9, gives 1.00 and 0.57.
        0.7,
        ge=0.05,
        le=1,
        description="from which a face counts",
    )
    min_face_fraction: float = Field(
        # YuNet's smallest faces, 10 pixels, in a frame of 512x288.
        0.03,
        ge=0,
        le=1,
        description="height over the picture's height, from which a face counts",
    )

    _finder: FaceFinder | None = PrivateAttr(default=None)

    def weights(self) -> tuple[Weights, ...]:
        """YuNet."""
        return (YUNET,)

    def setup(self, context: StageContext) -> None:
        """Load the detector."""
        if self.ready:
            self._finder = FaceFinder(self.min_confidence)

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Look for faces in a batch of clips."""
        if self._finder is None:
            yield "scores_faces", self.nulls(batch, SCORES)
            return
        scores, boxes = [], []
        for row in batch.to_pylist():
            seen = self._look(row, self._finder)
            scores.append({"clip_id": row["clip_id"], **summary([faces for _, faces in seen])})
            boxes += [_box(row["clip_id"], at_s, face) for at_s, faces in seen for face in faces]
        yield "scores_faces", pa.Table.from_pylist(scores, schema=SCORES)
        yield "face_boxes", pa.Table.from_pylist(boxes, schema=BOXES)

    def _look(self, row: dict[str, Any], finder: FaceFinder) -> list[tuple[float, list[Face]]]:
        """Times and faces of the frames looked at."""
        seen = []
        for i in spread(len(row["sample_jpegs"]), self.num_frames):
            faces = finder(picture(row["sample_jpegs"][i]))
            counted = [f for f in faces if f.height >= self.min_face_fraction]
            seen.append((row["sample_pts_s"][i], counted))
        return seen


def summary(frames: list[list[Face]]) -> dict[str, Any]:
    """The scores of a clip from the faces of each frame; null without any frame."""
    if not frames:
        return {"faces_model": YUNET.key}
    counts = [len(faces) for faces in frames]
    heights = [face.height for faces in frames for face in faces]
    return {
        "face_count_max": max(counts),
        "face_count_mean": round(float(np.mean(counts)), DIGITS),
        "face_time_fraction": round(float(np.mean([n > 0 for n in counts])), DIGITS),
        "largest_face_fraction": round(max(heights, default=0.0), DIGITS),
        "face_area_fraction": round(float(np.mean([covered(faces) for faces in frames])), DIGITS),
        "faces_model": YUNET.key,
    }


def covered(faces: list[Face]) -> float:
    """Share of a picture that lies inside at least one box, on a grid of 256x256 points."""
    grid = np.zeros((256, 256), bool)
    for face in faces:
        x0, x1 = round(face.x * 256), round((face.x + face.width) * 256)
        y0, y1 = round(face.y * 256), round((face.y + face.height) * 256)
        grid[y0:y1, x0:x1] = True
    return float(grid.mean())


def _box(clip_id: str, time_s: float, face: Face) -> dict[str, Any]:
    return {
        "clip_id": clip_id,
        "face_time_s": round(time_s, 6),
        "face_x": round(face.x, DIGITS),
        "face_y": round(face.y, DIGITS),
        "face_width": round(face.width, DIGITS),
        "face_height": round(face.height, DIGITS),
        "face_confidence": round(face.confidence, DIGITS),
    }
