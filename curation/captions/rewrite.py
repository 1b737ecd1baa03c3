"""Rewriting: one caption told in several styles and lengths, and only what still means the same.

A text-to-video model is asked in many ways, from five words to a paragraph; captions of one kind
teach it one way. A language model rewrites; its answer is cleaned and checked, asked for again
with the reason, and after the last attempt refused. Nothing here looks at the clip: a rewriting
can be no truer than its caption, only less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.captions.asking import Answers, Asker
from curation.captions.facts import disarmed
from curation.captions.prompts import Prompt
from curation.captions.request import Backend, Request
from curation.captions.rewrite_checks import cleaned, problem
from curation.errors import RETRYABLE, ErrorCode

TOKENS_PER_WORD = 3
"""Room for an answer: English has 1.3 tokens a word, and a text that is too long must be seen."""

MAX_REASON = 500
"""Letters of a refusal."""


class Style(BaseModel):
    """A way to tell a caption.

    Attributes:
        name: Stands in the column ``style``.
        min_words: Fewest words.
        max_words: Most words.
        instruction: What to do, one or two sentences for the prompt.
        source: The caption that is rewritten.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    min_words: int = Field(ge=1)
    max_words: int = Field(ge=1, le=400)
    instruction: str = Field(min_length=1, max_length=500)
    source: Literal["medium", "long"] = "long"

    @model_validator(mode="after")
    def _in_order(self) -> Style:
        if self.min_words > self.max_words:
            raise ValueError(f"style {self.name}: min_words is above max_words")
        return self


STYLES = (
    Style(
        name="brief",
        min_words=5,
        max_words=15,
        instruction="Say the main thing in one short plain sentence.",
        source="medium",
    ),
    Style(
        name="request",
        min_words=10,
        max_words=40,
        instruction="Word it as a person would type it who wants such a video made: subject first,"
        " then what happens, then the setting.",
    ),
    Style(
        name="plain",
        min_words=30,
        max_words=90,
        instruction="Tell the same in other words and simple sentences, in the same order.",
    ),
)


class Embeds(Protocol):
    """Texts to vectors of length 1."""

    def embed(self, texts: list[str]) -> np.ndarray:
        """Float32 [n, channels]."""
        ...


@dataclass(kw_only=True)
class Rewriting:
    """One caption in one style, and what became of it.

    Attributes:
        clip_id: Whose caption.
        style: How it is told.
        source: The caption.
        text: The last answer, cleaned; None: the backend gave none.
        refused: Why it is not used, be it that the backend will never answer; None: it is used.
        similarity: Cosine of source and text; None: no model for it.
        attempts: Answers asked for.
        code: Why the backend gave no answer; it is not asked again.
        message: The same in a sentence.
        input_tokens: Of all answers; None: not counted.
        output_tokens: Likewise.
        busy_s: Seconds of all answers.
    """

    clip_id: str
    style: Style
    source: str
    text: str | None = None
    refused: str | None = "not asked"
    similarity: float | None = None
    attempts: int = 0
    code: str | None = None
    message: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    busy_s: float = 0.0

    @property
    def failed(self) -> bool:
        """True when there is no answer now and there may be one in the next run."""
        return self.code in RETRYABLE

    def unanswered(self, code: str | None, message: str) -> None:
        """Note that the backend gave no answer; one that it never will give is a refusal."""
        self.code, self.message = code or str(ErrorCode.CAPTION_BACKEND), message
        self.text = self.similarity = None
        self.refused = f"no answer: {self.code}: {message}"[:MAX_REASON]


class Rewriter:
    """Rewrites batches of captions with one backend.

    Args:
        backend: Who answers.
        prompt: What is asked; fields ``instruction``, ``min_words``, ``max_words``, ``text`` and
            ``again``.
        attempts: Answers to ask for at most, per clip and style.
        min_similarity: Least cosine of caption and rewriting.
        embedder: For that; None: meaning is not compared.
        ledger: Where paid answers are kept; None: nowhere.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt,
        *,
        attempts: int,
        min_similarity: float,
        embedder: Embeds | None = None,
        ledger: Answers | None = None,
    ) -> None:
        self._prompt, self._attempts = prompt, attempts
        self._min_similarity, self._embedder = min_similarity, embedder
        self._asker = Asker(backend, num_canaries=0, ask_of=_no_canary, ledger=ledger)

    def rewrite(self, work: Sequence[Rewriting], beat: Callable[[], None] = lambda: None) -> None:
        """Fill in what becomes of each.

        Raises:
            IntegrityError: The backend answered what was not asked, or not all of it.
        """
        for attempt in range(1, self._attempts + 1):
            waiting = {
                self._request_id(item, attempt): item
                for item in work
                if item.refused is not None and item.code is None
            }
            if not waiting:
                return
            asked = [self._request(item, attempt) for item in waiting.values()]
            # The asker has checked that every id comes back, and exactly once.
            replies = self._asker.ask(asked, beat)
            for request_id, item in waiting.items():
                reply = replies[request_id]
                item.attempts, item.busy_s = attempt, item.busy_s + reply.busy_s
                for name in ("input_tokens", "output_tokens"):
                    if (count := getattr(reply, name)) is not None:
                        setattr(item, name, (getattr(item, name) or 0) + count)
                if reply.text is None:
                    item.unanswered(reply.code, reply.message)
                    continue
                item.text = cleaned(reply.text)
                self._judge(item)
                beat()

    def _judge(self, item: Rewriting) -> None:
        """Set ``refused`` and ``similarity`` of an answer."""
        assert item.text is not None
        item.similarity = None
        words = item.style.min_words, item.style.max_words
        item.refused = problem(item.text, item.source, words=words)
        if self._embedder is None or not item.text:
            return
        one, two = self._embedder.embed([item.source, item.text])
        item.similarity = round(float(one @ two), 4)
        if item.refused is None and item.similarity < self._min_similarity:
            item.refused = f"meaning: similarity {item.similarity:.2f} < {self._min_similarity:g}"

    def _request_id(self, item: Rewriting, attempt: int) -> str:
        return f"{item.clip_id}/{item.style.name}/{attempt}"

    def _request(self, item: Rewriting, attempt: int) -> Request:
        style, again = item.style, ""
        if attempt > 1:
            again = f" Your last answer could not be used ({item.refused}); write another one."
        system, prompt = self._prompt.fill(
            instruction=style.instruction,
            min_words=style.min_words,
            max_words=style.max_words,
            again=again,
            text=disarmed(item.source),
        )
        return Request(
            request_id=self._request_id(item, attempt),
            system=system,
            prompt=prompt,
            max_tokens=style.max_words * TOKENS_PER_WORD + 32,
            attempt=attempt,
        )


def _no_canary(bird: object) -> Request:
    raise AssertionError("rewriting shows no pictures and has no canaries")
