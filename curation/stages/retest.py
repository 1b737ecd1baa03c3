"""Retest: every cut clip is decoded again and looked through for a change of shot.

What the detector missed in the source, a wrong boundary, a copy that begins a frame early: all
show here, on the very file that would ship. A clip with a transition inside gets
``residual_cut``; the default rules reject it, so it is never sharded.
Cost: a decode of the clip and about 1 ms a frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.errors import ErrorCode, MediaError
from curation.models.lazy import LazyTransNet
from curation.models.registry import TRANSNET_V2, file_sha256, find_weights, require_weights
from curation.schema import BOOL, FLOAT64, INT32, STRING, schema
from curation.signals.changes import ChangeMeter, TransNetMode
from curation.signals.recheck import transitions_inside
from curation.signals.shotnet import WEIGHTS_PATH, ShotNet
from curation.signals.transitions import ShotSettings
from curation.stage import Grain, Output, Stage, StageContext
from curation.stages.each_clip import each_clip


class Retest(Stage):
    """Looks for transitions inside the media of cut clips."""

    name: ClassVar[str] = "retest"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, media_path=STRING, media_num_frames=INT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "retests": schema(
            clip_id=STRING,
            residual_cut=BOOL,
            residual_kind=STRING,  # of the most confident transition inside; null without one
            residual_confidence=FLOAT64,  # its confidence, 0-1; 0 without one
            residual_s=FLOAT64,  # where in the clip it begins, seconds; null without one
        )
    }

    confidence: float = Field(0.5, ge=0, le=1, description="from which a transition counts")
    transnet: TransNetMode = Field("ambiguous", description="as in signals")

    _context: StageContext | None = PrivateAttr(default=None)
    _net: ShotNet | None = PrivateAttr(default=None)
    _transnet: LazyTransNet | None = PrivateAttr(default=None)

    def setup(self, context: StageContext) -> None:
        """Load the shot network."""
        self._context, self._net = context, ShotNet()
        if self.transnet != "off" and find_weights(TRANSNET_V2) is not None:
            self._transnet = LazyTransNet(threads=1, on_gpu=self.resources.num_gpus > 0)

    def model_checksums(self) -> dict[str, str]:
        """The networks that run."""
        sums = {"shotnet": file_sha256(WEIGHTS_PATH)}
        if self.transnet != "off" and find_weights(TRANSNET_V2) is not None:
            sums["transnet_v2"] = file_sha256(require_weights(TRANSNET_V2))
        return sums

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Look through clips one by one."""
        assert self._context is not None
        yield from each_clip(batch, self._look, self._context, self.adds)

    def _look(self, row: dict[str, Any], context: StageContext) -> dict[str, Any]:
        assert self._net is not None
        meter = ChangeMeter(self._net, self._transnet, self.transnet)
        settings = ShotSettings(detector="auto", confidence=self.confidence)
        with tempfile.TemporaryDirectory(prefix="clipmill-retest-") as folder:
            path = context.storage.local_copy(row["media_path"], Path(folder))
            transitions, time_s = transitions_inside(path, meter, settings)
        if len(time_s) != row["media_num_frames"]:
            raise MediaError(
                ErrorCode.DECODE_FAILED,
                f"of {row['media_num_frames']} written frames {len(time_s)} decode",
            )
        worst = max(transitions, key=lambda t: t.confidence, default=None)
        return {
            "clip_id": row["clip_id"],
            "residual_cut": worst is not None,
            "residual_kind": worst.kind if worst else None,
            "residual_confidence": worst.confidence if worst else 0.0,
            "residual_s": round(float(time_s[worst.start_frame]), 6) if worst else None,
        }
