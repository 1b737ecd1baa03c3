"""Stages that write captions, checks and rewrites without a model, for tests of what reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pyarrow as pa

from curation.captions.tables import CAPTIONS, CHECKS, REWRITE_TEXTS, REWRITES
from curation.schema import FLOAT64, INT32, STRING, schema
from curation.stage import Grain, Output, Stage
from pipelines.config import CurateConfig

STAGES = [
    {"use": "curation.stages.subtitles:Subtitles"},
    *({"use": f"tests.shards.caption_stages:{name}"} for name in ("Write", "Check", "Rewrite")),
]
"""For the section ``stages`` of a configuration."""
EVIL = "<script>alert('c')</script>"


def without_captioning() -> dict[str, None]:
    """Sections of a configuration that keep the real captioning stages out."""
    known = ("subtitles", "caption", "check", "rewrite", "gate")
    return {name: None for name in known if name in CurateConfig.model_fields}


class Write(Stage):
    """Captions that say which clip they belong to."""

    name: ClassVar[str] = "write"
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32, end_s=FLOAT64)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"captions": CAPTIONS}

    backend: str = "embedded"
    model: str = "embedded:test"

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Two clips of three get a long caption, and the first of each video an odd one."""
        rows: list[dict[str, Any]] = []
        for row in batch.to_pylist():
            i = row["clip_index"]
            rows.append(
                {
                    "clip_id": row["clip_id"],
                    "caption_short": f"Clip {i}.",
                    "caption_medium": f"This is clip {i}. {EVIL}"
                    if i == 0
                    else f"This is clip {i}.",
                    "caption_long": f"A long text about clip {i}." if i % 3 else " ",
                    "caption_temporal": "0.0-0.5 s: it moves" if i % 2 else None,
                    "caption_subjects": ["a texture"],
                    "caption_camera": "still",
                    "caption_backend": self.backend,
                    "caption_model": self.model,
                    "caption_prompt": None
                    if self.backend == "embedded"
                    else "caption-1@0123456789ab",
                    "caption_num_frames": 2,
                    "caption_num_windows": 1,
                    "caption_attempts": 1 + (i == 0),
                    "caption_repaired": i == 1,
                    "caption_input_tokens": None if self.backend == "embedded" else 1000,
                    "caption_output_tokens": None if self.backend == "embedded" else 100 + i,
                    "caption_busy_s": 0.5,
                }
            )
        yield "captions", pa.Table.from_pylist(rows, schema=CAPTIONS)


class Check(Stage):
    """Finds fault with the first clip of each video."""

    name: ClassVar[str] = "found_fault"
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32, caption_medium=STRING)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"caption_checks": CHECKS}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """A flag and a contradiction for clip 0."""
        rows = [
            {
                "clip_id": row["clip_id"],
                "caption_flags": ["hedging"] if row["clip_index"] == 0 else [],
                "caption_num_flags": int(row["clip_index"] == 0),
                "caption_contradictions": (
                    [f"says night {EVIL}, measured bright"] if row["clip_index"] == 0 else []
                ),
                "caption_num_contradictions": int(row["clip_index"] == 0),
                "caption_language": "en",
                "caption_alignment": 0.1 * row["clip_index"],
                "caption_alignment_model": "tiny-clip",
            }
            for row in batch.to_pylist()
        ]
        yield "caption_checks", pa.Table.from_pylist(rows, schema=CHECKS)


class Rewrite(Stage):
    """Two styles, of which one is refused now and then."""

    name: ClassVar[str] = "restyle"
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32, caption_medium=STRING)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "rewrites": REWRITES,
        "rewrite_texts": REWRITE_TEXTS,
    }
    details: ClassVar[frozenset[str]] = frozenset({"rewrite_texts"})

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """``tags`` for all, ``poem`` refused for odd clips."""
        rows = [
            {"clip_id": row["clip_id"], "rewrite_model": "writer-1"} for row in batch.to_pylist()
        ]
        texts = [
            {
                "clip_id": row["clip_id"],
                "style": style,
                "text": f"{style} of clip {row['clip_index']}",
                "prompt": "rewrite-1@abc",
                "refused": "too long" if style == "poem" and row["clip_index"] % 2 else None,
            }
            for row in batch.to_pylist()
            for style in ("tags", "poem")
        ]
        yield "rewrites", pa.Table.from_pylist(rows, schema=REWRITES)
        yield "rewrite_texts", pa.Table.from_pylist(texts, schema=REWRITE_TEXTS)
