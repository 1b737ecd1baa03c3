"""Caption: every kept clip in words, short to long and over time, by one of several backends.

What is asked, what is shown and who answers are settings; ids, canaries, retries and the form of
the answer are the captioner's (``curation/captions/captioner.py``). An answer that stays unusable
is an error row; a backend that mixes things up costs its whole batch, and the run stops.
Cost: milliseconds a clip for the embedded captioner, seconds for a vision-language model.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import Field, PrivateAttr

from curation.captions.asking import Answers, IntegrityError
from curation.captions.backends.any import AnyBackend
from curation.captions.backends.embedded import EmbeddedSettings
from curation.captions.backends.vllm_ray import VllmBackend, VllmSettings
from curation.captions.beating import beating
from curation.captions.captioner import AGAIN, MERGE, Captioner, Clip, Outcome
from curation.captions.facts import FACTS, facts_in_words
from curation.captions.frames import dense_frames, fit_frames, windows
from curation.captions.ledger import Ledger, ReadLedger
from curation.captions.prompts import Prompt, load_prompt
from curation.captions.request import Backend, Frame, Request
from curation.captions.tables import CAPTIONS
from curation.errors import ErrorCode, MediaError
from curation.schema import DOUBLES, FLOAT64, STRING, schema
from curation.stage import Failure, Grain, Output, Stage, StageContext

ALWAYS = ("probe", "signals", "score", "technical", "camera")
"""Stages that every plan has."""


class CaptionClips(Stage):
    """Writes captions of kept clips."""

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    adds: ClassVar[Mapping[str, pa.Schema]] = {"captions": CAPTIONS}
    operational: ClassVar[frozenset[str]] = Stage.operational | {"canaries"}

    batch_size: int = Field(
        16, ge=1, description="clips of one video per batch, canaries not counted"
    )
    backend: AnyBackend = Field(
        default_factory=lambda: EmbeddedSettings(tagger="off", detector="off"),  # pyright: ignore[reportCallIssue]
        description="who writes: embedded, transformers, vllm or openai",
        discriminator="kind",
    )
    prompt: str = Field("caption-1", description="a prompt of curation/captions/prompts, or a path")
    frames: Literal["samples", "dense"] = Field(
        "samples", description="stored sampled frames, or the cut clip decoded at `fps`"
    )
    fps: float = Field(2.0, gt=0, description="frames per second of dense frames")
    max_frames: int = Field(16, ge=1, description="most frames of one window")
    max_side_px: int = Field(512, ge=28, description="most pixels of a frame's longer side")
    token_budget: int | None = Field(
        None, ge=64, description="most tokens of a window's pictures; see captions/frames.py"
    )
    window_s: float | None = Field(30.0, gt=0, description="longest stretch described at a time")
    tell_facts: bool = Field(True, description="put what was measured into the prompt")
    facts: tuple[str, ...] = Field(ALWAYS, description="whose measurements; the plan fills it in")
    attempts: int = Field(3, ge=1, description="answers asked for until one is usable")
    canaries: int = Field(2, ge=0, description="pictures of known content in every batch; 0: none")
    max_tokens: int = Field(1024, ge=16, description="most tokens of an answer")

    _context: StageContext | None = PrivateAttr(default=None)
    _captioner: Captioner | None = PrivateAttr(default=None)

    @property
    def reads(self) -> pa.Schema:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Frames, and the measurements of the stages in ``facts``."""
        wanted = {f.name: f.type for f in self._told}
        if self.frames == "dense":
            wanted["media_path"] = STRING
        return schema(
            clip_id=STRING,
            duration_s=FLOAT64,
            sample_pts_s=DOUBLES,
            sample_jpegs=pa.list_(pa.binary()),
            **wanted,
        )

    @property
    def _told(self) -> list[pa.Field]:
        """Columns of measurements that reach the captioner."""
        if self.backend.prompted and not self.tell_facts:
            return []
        return [f for stage in self.facts for f in FACTS.get(stage, ())]

    @cached_property
    def _prompt(self) -> Prompt | None:
        return load_prompt(self.prompt) if self.backend.prompted else None

    def settings(self) -> dict[str, object]:
        """What decides the text: the backend's identity and the prompt's hash stand for them."""
        fields = super().settings() | {"backend": self.backend.identity()}
        if self._prompt is None:
            return fields | {"prompt": None}
        prompts = (self._prompt, load_prompt(AGAIN), load_prompt(MERGE))
        return fields | {"prompt": [p.sha256 for p in prompts]}

    def model_checksums(self) -> dict[str, str]:
        """Local weights of the backend."""
        return dict(self.backend.checksums())

    def problems(self) -> list[str]:
        """What the backend lacks on this machine."""
        return self.backend.problems()

    def fallbacks(self) -> list[str]:
        """Says when no vision-language model looks at the clips."""
        told = [f"caption: {text}" for text in self.backend.fallbacks()]
        if not self.backend.prompted:
            told.insert(
                0,
                f"caption: written by {self.backend.model_name} from measurements; "
                "no vision-language model saw the clips",
            )
        return told

    def setup(self, context: StageContext) -> None:
        """Keep the storage; the backend is loaded with the first batch."""
        self._context = context

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Caption a batch; when the backend cannot be trusted, all of it fails."""
        assert self._context is not None
        captioner = self._load()
        clips, made = [], {}
        for row in batch.to_pylist():
            try:
                made[row["clip_id"]] = clip = self.clip(row)
            except MediaError as exc:
                yield Failure(clip_id=row["clip_id"], code=exc.code, message=exc.message)
                continue
            clips.append(clip)
        try:
            outcomes = list(captioner.caption(clips, self._context.beat))
        except IntegrityError as exc:
            for clip in clips:
                yield Failure(clip_id=clip.clip_id, code=ErrorCode.CAPTION_GATE, message=str(exc))
            return
        for outcome in outcomes:
            yield self._output(made[outcome.clip_id], outcome)

    def clip(self, row: Mapping[str, Any]) -> Clip:
        """What is shown and told of a clip.

        Args:
            row: The columns of ``reads``.

        Raises:
            MediaError: There is nothing to see of it.
        """
        frames = self._frames(row)
        if not frames and self.backend.prompted:
            raise MediaError(
                ErrorCode.CAPTION_INVALID,
                "no frame was sampled inside the clip; caption.frames=dense looks at the cut clip",
            )
        # From measurements a clip of any length is described whole.
        window_s = self.window_s if self.backend.prompted else None
        facts = {f.name: row[f.name] for f in self._told}
        shown = [
            replace(
                w,
                frames=fit_frames(
                    w.frames,
                    max_frames=self.max_frames,
                    max_side_px=self.max_side_px,
                    token_budget=self.token_budget,
                ),
            )
            for w in windows(frames, row["duration_s"], window_s)
        ]
        told = facts_in_words(facts, row["duration_s"]) if self.tell_facts else []
        return Clip(
            clip_id=row["clip_id"],
            duration_s=row["duration_s"],
            windows=tuple(w for w in shown if w.frames or not self.backend.prompted),
            facts=facts,
            told=tuple(told) if self.backend.prompted else (),
        )

    @property
    def asked_ahead(self) -> bool:
        """True when all videos' questions are asked before the stage runs, on GPUs."""
        return self.backend.kind == "vllm"

    def wanted(self, batch: pa.Table) -> list[tuple[Request, str]]:
        """Questions about a batch that the ledger has no answer to, with their keys.

        After a pass over them there may be more: about answers that were of no use, and about
        the joining of windows.
        """
        assert self._context is not None
        backend = VllmBackend(self.backend) if isinstance(self.backend, VllmSettings) else None
        assert backend is not None, "only vllm is asked ahead"
        captioner = self._captioner_of(backend, ReadLedger(self._context.storage))
        clips = []
        for row in batch.to_pylist():
            with contextlib.suppress(MediaError):  # it will fail when its turn comes
                clips.append(self.clip(row))
        with contextlib.suppress(IntegrityError):  # likewise
            list(captioner.caption(clips, self._context.beat))
        return [(r, r.key(backend.identity())) for r in backend.wanted]

    def _frames(self, row: Mapping[str, Any]) -> list[Frame]:
        if self.frames == "dense":
            assert self._context is not None
            with tempfile.TemporaryDirectory(prefix="clipmill-caption-") as folder:
                path = self._context.storage.local_copy(row["media_path"], Path(folder))
                return dense_frames(path, self.fps, self.max_side_px, self._context.beat)
        pairs = zip(row["sample_pts_s"] or [], row["sample_jpegs"] or [], strict=True)
        return [Frame(round(time_s, 3), jpeg) for time_s, jpeg in pairs]

    def _load(self) -> Captioner:
        assert self._context is not None
        if self._captioner is None:
            ledger = Ledger(self._context.storage) if self.backend.paid else None
            with beating(self._context.beat):  # a large model takes minutes to load
                backend = self.backend.make()
            self._captioner = self._captioner_of(backend, ledger)
        return self._captioner

    def _captioner_of(self, backend: Backend, ledger: Answers | None) -> Captioner:
        return Captioner(
            backend,
            self._prompt,
            attempts=self.attempts,
            num_canaries=self.canaries,
            max_tokens=self.max_tokens,
            ledger=ledger,
        )

    def _output(self, clip: Clip, outcome: Outcome) -> Output:
        caption = outcome.caption
        if caption is None:
            code = outcome.code or ErrorCode.CAPTION_INVALID
            return Failure(clip_id=clip.clip_id, code=code, message=outcome.message)
        times_s = [w.start_s + f.time_s for w in clip.windows for f in w.frames]
        events = [e.model_dump() for e in caption.events]
        row = {
            "clip_id": clip.clip_id,
            "caption_short": caption.short,
            "caption_medium": caption.medium,
            "caption_long": caption.long,
            "caption_temporal": caption.temporal() or None,
            "caption_events": json.dumps(events, ensure_ascii=False),
            "caption_camera": caption.camera or None,
            "caption_subjects": list(caption.subjects),
            "caption_setting": caption.setting or None,
            "caption_light": caption.light or None,
            "caption_style": caption.style or None,
            "caption_backend": self.backend.kind,
            "caption_model": self.backend.model_name,
            "caption_prompt": self._prompt.label if self._prompt else None,
            "caption_num_frames": len(times_s),
            "caption_first_frame_s": round(min(times_s), 3) if times_s else None,
            "caption_last_frame_s": round(max(times_s), 3) if times_s else None,
            "caption_num_windows": len(clip.windows),
            "caption_attempts": outcome.attempts,
            "caption_repaired": outcome.repaired,
            "caption_input_tokens": outcome.input_tokens,
            "caption_output_tokens": outcome.output_tokens,
            "caption_busy_s": round(outcome.busy_s, 3),
        }
        return "captions", pa.Table.from_pylist([row], schema=CAPTIONS)
