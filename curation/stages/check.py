"""Check: what is wrong with each caption, and how well it fits its clip.

Nothing is thrown away here: flags, contradictions and the cosine are columns, and rules on them
(``caption_num_flags: {max: 0}``, ``caption_num_contradictions: {max: 0}``, ``caption_alignment:
{min: 0.05, if_null: keep}``) decide. The vectors go to a table of their own, for the run's gate
(``curation/captions/gate.py``).
Cost: the texts about 10 ms a clip; ``tags`` 20 ms per frame looked at, 4 a clip at most, and about
10 s once per worker; ``joint`` a text of CLIP, and pictures only where ``embed`` stored none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.captions.alignment import (
    TAGS_WEIGHTS,
    Alignment,
    AlignmentMode,
    JointAlignment,
    Pair,
    TagsAlignment,
    joint_weights,
    tags_ready,
    text_of,
)
from curation.captions.answer import Caption, Event
from curation.captions.checks import Shown, WordLimits, text_flags
from curation.captions.contradictions import contradictions
from curation.captions.facts import FACTS
from curation.captions.language import language_of, wrong_language
from curation.captions.tables import CAPTIONS, CHECKS, VECTORS
from curation.models.embedders import MODELS, EmbedderName
from curation.models.registry import find_weights, how_to_get
from curation.models.weights import Weights
from curation.schema import DOUBLES, FLOAT64, STRING, schema
from curation.stage import Output, StageContext
from curation.stages.embed import vector_type
from curation.stages.model_stage import ModelStage

DIGITS = 4
READS = (
    *("caption_short", "caption_medium", "caption_long", "caption_events", "caption_camera"),
    *("caption_setting", "caption_light", "caption_style", "caption_subjects"),
    *("caption_num_frames", "caption_first_frame_s", "caption_last_frame_s"),
)
"""Columns of the stage ``caption``."""


class CheckCaptions(ModelStage):
    """Checks the captions of kept clips."""

    name: ClassVar[str] = "check"
    version: ClassVar[int] = 1
    adds: ClassVar[Mapping[str, pa.Schema]] = {"caption_checks": CHECKS, "caption_vectors": VECTORS}
    details: ClassVar[frozenset[str]] = frozenset({"caption_vectors"})

    language: str | None = Field(
        "en", description="ISO 639-1 of the captions; null: any language is fine"
    )
    words: WordLimits = Field(default_factory=WordLimits, description="fewest and most words")
    alignment: AlignmentMode = Field(
        "auto", description="joint (CLIP, SigLIP), tags (weak), off; auto: the best that is here"
    )
    model: EmbedderName | None = Field(
        None, description="model of `joint`; the plan takes that of the stage embed"
    )
    stored: bool = Field(
        False, description="the stage embed stores that model's vectors; the plan fills it in"
    )
    num_frames: int = Field(4, ge=1, description="frames looked at, spread over the clip")
    facts: tuple[str, ...] = Field((), description="whose measurements; the plan fills it in")

    _context: StageContext | None = PrivateAttr(default=None)
    _aligner: Alignment | None = PrivateAttr(default=None)

    @property
    def gated(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Only kept clips have captions."""
        return True

    @property
    def reads(self) -> pa.Schema:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Captions, measurements of the stages in ``facts``, and frames or stored vectors."""
        wanted = {name: CAPTIONS.field(name).type for name in READS}
        wanted |= {f.name: f.type for f in self._facts}
        if self.way == "joint" and self.stored and self.model is not None:
            wanted["embedding"] = vector_type(MODELS[self.model])
        elif self.way != "off":
            wanted |= {"sample_pts_s": DOUBLES, "sample_jpegs": pa.list_(pa.binary())}
        return schema(clip_id=STRING, duration_s=FLOAT64, **wanted)

    @cached_property
    def way(self) -> AlignmentMode:
        """The way that is taken: of ``auto`` the best whose weights are here, else off."""
        if self.alignment != "auto":
            return self.alignment
        if self._joint and _here(self._joint):
            return "joint"
        return "tags" if tags_ready() else "off"

    def weights(self) -> tuple[Weights, ...]:
        """Those of the way that is taken."""
        return {"joint": self._joint, "tags": TAGS_WEIGHTS}.get(self.way, ())

    def missing(self) -> list[Weights]:
        """Weights of a way that was asked for by name."""
        return super().missing() if self.alignment != "auto" else []

    def problems(self) -> list[str]:
        """A way that no setting of models allows."""
        if self.alignment == "joint" and not self._joint:
            names = ", ".join(key for key, model in MODELS.items() if model.joint_text)
            return [
                f"check: alignment: joint needs a model that knows texts, not {self.model}; "
                f"mend: embed.model (or check.model), one of {names}, or check.alignment: tags"
            ]
        return []

    def unknown(self) -> frozenset[str]:
        """Without a model the cosine is never known; the checks of texts are."""
        if self.ready and self.way != "off":
            return frozenset()
        return frozenset({"caption_alignment", "caption_alignment_model"})

    def fallbacks(self) -> list[str]:
        """The weak way in place of the good one, or none."""
        if self.alignment == "off" or (self.way == "joint" and self.ready):
            return []
        better = "embed with a model that knows texts, such as clip-vit-b-32"
        lost = [w for w in self._joint if find_weights(w) is None]
        if lost:
            better = " && ".join(how_to_get(w) for w in lost)
        if self.way == "tags" and self.ready:
            if self.alignment == "tags":
                return []
            return [f"check: captions are compared by tags, a weak way ({better})"]
        return [
            f"check: no model compares captions with clips, caption_alignment is null ({better})"
        ]

    def settings(self) -> dict[str, object]:
        """The way that is taken, whether asked for or not."""
        return super().settings() | {"alignment": self.way if self.ready else "off"}

    def setup(self, context: StageContext) -> None:
        """Keep the heartbeat; models are loaded with the first batch."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Check a batch of clips."""
        rows = batch.to_pylist()
        pairs = self._pairs(rows)
        label = self._aligner.label if self._aligner else None
        checks = [self._row(row, pair, label) for row, pair in zip(rows, pairs, strict=True)]
        yield "caption_checks", pa.Table.from_pylist(checks, schema=CHECKS)
        vectors = [
            {
                "clip_id": row["clip_id"],
                "text_vector": pair.text.tolist(),
                "clip_vector": pair.clip.tolist(),
            }
            for row, pair in zip(rows, pairs, strict=True)
            if pair is not None
        ]
        yield "caption_vectors", pa.Table.from_pylist(vectors, schema=VECTORS)

    @property
    def _joint(self) -> tuple[Weights, ...]:
        if self.model is None or not MODELS[self.model].joint_text:
            return ()
        return joint_weights(self.model)

    @property
    def _facts(self) -> list[pa.Field]:
        """Columns that a text is compared with: one value for each clip."""
        columns = [f for stage in self.facts for f in FACTS.get(stage, ())]
        return [f for f in columns if not pa.types.is_list(f.type)]

    def _pairs(self, rows: list[dict[str, Any]]) -> list[Pair | None]:
        if self.way == "off" or not self.ready:
            return [None] * len(rows)
        assert self._context is not None
        if self._aligner is None:
            if self.way == "joint":
                assert self.model is not None
                gpu = self.resources.num_gpus > 0
                self._aligner = JointAlignment(self.model, num_frames=self.num_frames, on_gpu=gpu)
            else:
                self._aligner = TagsAlignment(num_frames=self.num_frames)
        return self._aligner.vectors(rows, self._context.beat)

    def _row(self, row: dict[str, Any], pair: Pair | None, label: str | None) -> dict[str, Any]:
        caption = caption_in(row)
        shown = Shown(
            duration_s=row["duration_s"],
            num_frames=row["caption_num_frames"],
            first_s=row["caption_first_frame_s"],
            last_s=row["caption_last_frame_s"],
        )
        flags = text_flags(caption, limits=self.words, shown=shown)
        language = language_of(text_of(row))
        if self.language is not None and (wrong := wrong_language(language, self.language)):
            flags.append(wrong)
        against = contradictions(caption, {f.name: row[f.name] for f in self._facts})
        return {
            "clip_id": row["clip_id"],
            "caption_flags": flags,
            "caption_num_flags": len(flags),
            "caption_contradictions": against,
            "caption_num_contradictions": len(against),
            "caption_language": language.code,
            "caption_alignment": None if pair is None else round(pair.cosine, DIGITS),
            "caption_alignment_model": None if pair is None else label,
        }


def caption_in(row: Mapping[str, Any]) -> Caption:
    """The caption of a row, as it is: its texts are not held to the limits of an answer."""
    texts = ("short", "medium", "long", "camera", "setting", "light", "style")
    fields: dict[str, Any] = {name: row[f"caption_{name}"] or "" for name in texts}
    events = json.loads(row["caption_events"] or "[]")
    fields["events"] = tuple(Event.model_construct(**event) for event in events)
    fields["subjects"] = tuple(row["caption_subjects"] or ())
    return Caption.model_construct(**fields)


def _here(weights: tuple[Weights, ...]) -> bool:
    return all(find_weights(w) is not None for w in weights)
