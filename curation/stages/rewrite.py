"""Rewrite: captions of kept clips told in other styles and lengths by a language model.

Any backend that reads a prompt will do; a model of text is enough. What is outside of the wanted
length, invents numbers or denials, or no longer means the same is refused: it stays in the table
``rewrite_texts`` with its reason, and ships nowhere. See ``curation/captions/rewrite.py``.
Cost: one answer per clip and style, 10 to 100 words each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field, PrivateAttr, field_validator

from curation.captions.asking import Answers, IntegrityError
from curation.captions.backends.any import AnyBackend
from curation.captions.backends.vllm_ray import VllmBackend, VllmSettings
from curation.captions.beating import beating
from curation.captions.ledger import Ledger, ReadLedger
from curation.captions.prompts import Prompt, load_prompt
from curation.captions.request import Backend, Request
from curation.captions.rewrite import STYLES, Rewriter, Rewriting, Style
from curation.captions.rewrite_checks import num_words
from curation.captions.tables import REWRITE_TEXTS, REWRITES
from curation.errors import ErrorCode
from curation.models.registry import file_sha256, find_weights, how_to_get
from curation.models.weights import MINILM_L6, MINILM_TOKENIZER, Weights
from curation.schema import STRING, schema
from curation.stage import Failure, Grain, Output, Stage, StageContext


class Rewrite(Stage):
    """Rewrites captions of kept clips."""

    name: ClassVar[str] = "rewrite"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, caption_long=STRING, caption_medium=STRING)
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "rewrites": REWRITES,
        "rewrite_texts": REWRITE_TEXTS,
    }
    details: ClassVar[frozenset[str]] = frozenset({"rewrite_texts"})

    batch_size: int = Field(16, ge=1, description="clips per batch, each asked about in all styles")
    backend: AnyBackend = Field(
        description="who rewrites: transformers, vllm or openai", discriminator="kind"
    )
    prompt: str = Field("rewrite-1", description="a prompt of curation/captions/prompts, or a path")
    styles: tuple[Style, ...] = Field(STYLES, min_length=1, description="ways to tell a caption")
    attempts: int = Field(3, ge=1, description="answers asked for until one is usable")
    min_similarity: float = Field(
        0.6, ge=-1, le=1, description="least cosine of caption and rewriting, by all-MiniLM-L6-v2"
    )

    _context: StageContext | None = PrivateAttr(default=None)
    _rewriter: Rewriter | None = PrivateAttr(default=None)

    @field_validator("backend")
    @classmethod
    def _reads_prompts(cls, backend: AnyBackend) -> AnyBackend:
        if not backend.prompted:
            raise ValueError(
                f"the backend {backend.kind} writes from measurements and cannot rewrite; use"
                " transformers, vllm or openai"
            )
        return backend

    @field_validator("styles")
    @classmethod
    def _different(cls, styles: tuple[Style, ...]) -> tuple[Style, ...]:
        if len({s.name for s in styles}) < len(styles):
            raise ValueError("two styles have the same name")
        return styles

    @cached_property
    def _prompt(self) -> Prompt:
        return load_prompt(self.prompt)

    def weights(self) -> tuple[Weights, ...]:
        """What meaning is compared with."""
        return (MINILM_L6, MINILM_TOKENIZER)

    @cached_property
    def compares(self) -> bool:
        """False when the weights of MiniLM are not here and meaning is not compared."""
        return all(find_weights(w) is not None for w in self.weights())

    def settings(self) -> dict[str, object]:
        """What decides the text: the backend's identity and the prompt's hash stand for them."""
        fields = super().settings()
        return fields | {"backend": self.backend.identity(), "prompt": self._prompt.sha256}

    def model_checksums(self) -> dict[str, str]:
        """Local weights of the backend, and of MiniLM."""
        found = dict(self.backend.checksums())
        if self.compares:
            paths = {w.key: find_weights(w) for w in self.weights()}
            found |= {key: file_sha256(path) for key, path in paths.items() if path}
        return found

    def problems(self) -> list[str]:
        """What the backend lacks on this machine."""
        return self.backend.problems()

    def fallbacks(self) -> list[str]:
        """Says when nothing checks that a rewriting means the same."""
        told = [f"rewrite: {text}" for text in self.backend.fallbacks()]
        if not self.compares:
            lost = next(w for w in self.weights() if find_weights(w) is None)
            told.append(
                f"rewrite: {MINILM_L6.name} is not here, the meaning of rewritings is not compared"
                f" with their captions ({how_to_get(lost)})"
            )
        return told

    def setup(self, context: StageContext) -> None:
        """Keep the storage; the models are loaded with the first batch."""
        self._context = context

    @property
    def asked_ahead(self) -> bool:
        """True when all videos' questions are asked before the stage runs, on GPUs."""
        return self.backend.kind == "vllm"

    def wanted(self, batch: pa.Table) -> list[tuple[Request, str]]:
        """Questions about a batch that the ledger has no answer to, with their keys.

        After a pass over them there may be more, about answers that were refused.
        """
        assert self._context is not None and isinstance(self.backend, VllmSettings)
        backend = VllmBackend(self.backend)
        rewriter = self._rewriter_of(backend, ReadLedger(self._context.storage))
        with contextlib.suppress(IntegrityError):  # it will come up when the batch's turn comes
            rewriter.rewrite(self._work(batch), self._context.beat)
        return [(r, r.key(backend.identity())) for r in backend.wanted]

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Rewrite a batch; when the backend cannot be trusted, all of it fails."""
        assert self._context is not None
        clip_ids: list[str] = batch.column("clip_id").to_pylist()
        work = self._work(batch)
        try:
            self._load().rewrite(work, self._context.beat)
        except IntegrityError as exc:
            for clip_id in clip_ids:
                yield Failure(clip_id=clip_id, code=ErrorCode.CAPTION_GATE, message=str(exc))
            return
        for clip_id in clip_ids:
            yield from self._outputs(clip_id, [w for w in work if w.clip_id == clip_id])

    def _work(self, batch: pa.Table) -> list[Rewriting]:
        return [
            Rewriting(clip_id=row["clip_id"], style=style, source=source)
            for row in batch.to_pylist()
            for style in self.styles
            if (source := row[f"caption_{style.source}"])
        ]

    def _load(self) -> Rewriter:
        assert self._context is not None
        if self._rewriter is None:
            ledger = Ledger(self._context.storage) if self.backend.paid else None
            with beating(self._context.beat):  # loading takes minutes and tells nothing
                self._rewriter = self._rewriter_of(self.backend.make(), ledger)
        return self._rewriter

    def _rewriter_of(self, backend: Backend, ledger: Answers | None) -> Rewriter:
        embedder = None
        if self.compares:
            from curation.models.minilm import MiniLM

            embedder = MiniLM()
        return Rewriter(
            backend,
            self._prompt,
            attempts=self.attempts,
            min_similarity=self.min_similarity,
            embedder=embedder,
            ledger=ledger,
        )

    def _outputs(self, clip_id: str, work: Sequence[Rewriting]) -> Iterator[Output]:
        """The rows of a clip, or its failure: a backend that gave no answer may give one later.

        Where it never will (a content filter, a question too long), that style alone is refused:
        the clip's caption and its other styles are as good as before.
        """
        if not work:
            message = "the clip has no caption"
            yield Failure(clip_id=clip_id, code=ErrorCode.MISSING_INPUT, message=message)
            return
        if failed := next((w for w in work if w.failed), None):
            code = failed.code or ErrorCode.CAPTION_BACKEND
            yield Failure(clip_id=clip_id, code=code, message=failed.message)
            return
        texts = [
            {
                "clip_id": clip_id,
                "style": w.style.name,
                "text": w.text,
                "num_words": num_words(w.text or ""),
                "similarity": w.similarity,
                "prompt": self._prompt.label,
                "refused": w.refused,
            }
            for w in work
        ]
        kept = sum(w.refused is None for w in work)
        row: dict[str, Any] = {
            "clip_id": clip_id,
            "rewrite_model": self.backend.model_name,
            "rewrite_num_kept": kept,
            "rewrite_num_refused": len(work) - kept,
            "rewrite_input_tokens": _total([w.input_tokens for w in work]),
            "rewrite_output_tokens": _total([w.output_tokens for w in work]),
            "rewrite_busy_s": round(sum(w.busy_s for w in work), 3),
        }
        yield "rewrites", pa.Table.from_pylist([row], schema=REWRITES)
        yield "rewrite_texts", pa.Table.from_pylist(texts, schema=REWRITE_TEXTS)


def _total(counts: Sequence[int | None]) -> int | None:
    """The sum; None when nothing was counted."""
    known = [c for c in counts if c is not None]
    return sum(known) if known else None
