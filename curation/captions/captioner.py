"""The captioner: from clips to captions, with one backend.

clips ─▶ a request per window ─▶ ask (asking.py) ─▶ parse ─▶ ask again ─▶ merge ─▶ captions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from curation.captions.answer import (
    AnswerError,
    Caption,
    Event,
    Parsed,
    answer_schema,
    merge_schema,
    parse_answer,
)
from curation.captions.asking import Answers, Asker
from curation.captions.canaries import Canary
from curation.captions.checks import is_refusal
from curation.captions.facts import disarmed
from curation.captions.frames import Window
from curation.captions.prompts import Prompt, load_prompt
from curation.captions.request import Backend, Reply, Request
from curation.errors import ErrorCode

AGAIN, MERGE = "again-1", "merge-1"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip to be captioned.

    Attributes:
        clip_id: Its id.
        duration_s: Its length.
        windows: What is shown of it.
        facts: What was measured, by column; for captioners that write from it.
        told: The same in sentences, for the prompt; empty: nothing is told.
    """

    clip_id: str
    duration_s: float
    windows: tuple[Window, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Outcome:
    """What became of a clip.

    Attributes:
        clip_id: Its id.
        caption: The caption; None: there is none.
        code: Why there is none.
        message: The same in a sentence.
        attempts: Most answers that one of its windows, or their merging, took.
        repaired: Some JSON had to be mended.
        input_tokens: Of all its answers; None: the backend does not count.
        output_tokens: Likewise.
        busy_s: Seconds of all its answers.
    """

    clip_id: str
    caption: Caption | None = None
    code: str | None = None
    message: str = ""
    attempts: int = 0
    repaired: bool = False
    input_tokens: int | None = None
    output_tokens: int | None = None
    busy_s: float = 0.0

    def note(self, reply: Reply, attempt: int) -> None:
        """Count one answer."""
        self.attempts = max(self.attempts, attempt)
        self.busy_s += reply.busy_s
        for name in ("input_tokens", "output_tokens"):
            count = getattr(reply, name)
            if count is not None:
                setattr(self, name, (getattr(self, name) or 0) + count)


@dataclass(kw_only=True)
class _Open:
    """A question that waits for a usable answer."""

    request: Request
    clip_id: str
    parsed: Parsed | None = None
    first: str = ""

    def __post_init__(self) -> None:
        self.first = self.request.prompt


class Captioner:
    """Captions batches of clips with one backend.

    Args:
        backend: Who answers.
        prompt: What is asked; None for a backend that reads no prompt.
        attempts: Answers to ask for at most, per window.
        num_canaries: Pictures of known content in every batch; 0: none.
        max_tokens: Upper limit of an answer.
        ledger: Where paid answers are kept; None: nowhere.
    """

    def __init__(
        self,
        backend: Backend,
        prompt: Prompt | None,
        *,
        attempts: int = 3,
        num_canaries: int = 2,
        max_tokens: int = 1024,
        ledger: Answers | None = None,
    ) -> None:
        self._prompt, self._attempts, self._max_tokens = prompt, attempts, max_tokens
        self._asker = Asker(
            backend, num_canaries=num_canaries, ask_of=self._canary_request, ledger=ledger
        )
        self._again, self._merge = load_prompt(AGAIN), load_prompt(MERGE)

    def caption(
        self, clips: Sequence[Clip], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome]:
        """Caption a batch; one outcome for each clip, in order.

        Raises:
            IntegrityError: The backend cannot be trusted with this batch.
        """
        outcomes = {c.clip_id: Outcome(clip_id=c.clip_id) for c in clips}
        asked = [_Open(request=r, clip_id=c.clip_id) for c in clips for r in self.requests(c)]
        self._settle(asked, outcomes, clips, beat)
        answers: dict[str, list[_Open]] = {}
        for item in asked:
            answers.setdefault(item.clip_id, []).append(item)
        merges = [
            _Open(request=self._merging(clip, answers[clip.clip_id]), clip_id=clip.clip_id)
            for clip in clips
            if len(clip.windows) > 1 and outcomes[clip.clip_id].code is None
        ]
        self._settle(merges, outcomes, clips, beat)
        merged = {item.clip_id: item for item in merges}
        for clip in clips:
            outcome = outcomes[clip.clip_id]
            if outcome.code is None:
                self._conclude(outcome, clip, answers[clip.clip_id], merged.get(clip.clip_id))
            yield outcome

    def requests(self, clip: Clip) -> list[Request]:
        """The first question about each window of a clip."""
        return [self._request(clip, window) for window in clip.windows]

    def _settle(
        self,
        items: list[_Open],
        outcomes: dict[str, Outcome],
        clips: Sequence[Clip],
        beat: Callable[[], None],
    ) -> None:
        """Ask until every item has a usable answer or its clip has failed."""
        lengths = {c.clip_id: c.duration_s for c in clips}
        for attempt in range(1, self._attempts + 1):
            waiting = [i for i in items if i.parsed is None and outcomes[i.clip_id].code is None]
            if not waiting:
                return
            replies = self._asker.ask([i.request for i in waiting], beat)
            for item in waiting:
                reply, outcome = replies[item.request.request_id], outcomes[item.clip_id]
                outcome.note(reply, attempt)
                if reply.text is None:
                    outcome.code = reply.code or ErrorCode.CAPTION_BACKEND
                    outcome.message = reply.message
                    continue
                length_s = item.request.duration_s or lengths[item.clip_id]
                try:
                    item.parsed = _usable(reply.text, length_s)
                except AnswerError as exc:
                    if attempt == self._attempts:
                        outcome.code = ErrorCode.CAPTION_INVALID
                        outcome.message = f"no usable answer in {attempt} attempts: {exc}"
                    else:
                        item.request = self._once_more(
                            item.request, item.first, str(exc), attempt + 1
                        )

    def _request(self, clip: Clip, window: Window) -> Request:
        system, prompt = "", ""
        if self._prompt is not None:
            system, prompt = self._prompt.fill(
                duration_s=f"{window.duration_s:.1f}",
                times_s=", ".join(f"{f.time_s:.1f}" for f in window.frames),
                facts="".join(f" {sentence}" for sentence in clip.told),
            )
        return Request(
            request_id=f"{clip.clip_id}/{window.index}",
            system=system,
            prompt=prompt,
            frames=window.frames,
            duration_s=window.duration_s,
            facts=clip.facts,
            max_tokens=self._max_tokens,
            schema=answer_schema() if self._prompt is not None else None,
        )

    def _canary_request(self, bird: Canary) -> Request:
        """The clips' own question about a canary's pictures: it must not be told apart."""
        window = Window(0, 0.0, 1.5, bird.frames)
        clip = Clip(clip_id=bird.request_id, duration_s=1.5, windows=(window,))
        request = self._request(clip, window)
        return replace(request, request_id=bird.request_id)

    def _once_more(self, request: Request, first: str, reason: str, attempt: int) -> Request:
        _, again = self._again.fill(reason=reason)
        return replace(request, prompt=f"{first}\n\n---\n{again}", attempt=attempt)

    def _merging(self, clip: Clip, items: list[_Open]) -> Request:
        told = []
        for window, item in zip(clip.windows, items, strict=True):
            assert item.parsed is not None
            told.append(
                f"{window.start_s:.1f}-{window.end_s:.1f} s: {disarmed(item.parsed.caption.long)}"
            )
        system, prompt = self._merge.fill(
            duration_s=f"{clip.duration_s:.1f}", windows="\n".join(told)
        )
        return Request(
            request_id=f"{clip.clip_id}/merge",
            system=system,
            prompt=prompt,
            duration_s=clip.duration_s,
            max_tokens=self._max_tokens,
            schema=merge_schema(),
        )

    def _conclude(
        self, outcome: Outcome, clip: Clip, items: list[_Open], merged: _Open | None
    ) -> None:
        """The clip's caption from the answers about its windows."""
        answers = [item.parsed for item in items if item.parsed is not None]
        outcome.repaired = any(a.repaired for a in answers)
        if merged is None:
            outcome.caption = answers[0].caption
            return
        assert merged.parsed is not None
        outcome.repaired |= merged.parsed.repaired
        events = [
            Event(
                start_s=round(window.start_s + e.start_s, 3),
                end_s=round(window.start_s + e.end_s, 3),
                text=e.text,
            )
            for window, answer in zip(clip.windows, answers, strict=True)
            for e in answer.caption.events
        ]
        outcome.caption = merged.parsed.caption.model_copy(update={"events": tuple(events)})


def _usable(text: str, duration_s: float) -> Parsed:
    """Parse an answer.

    Raises:
        AnswerError: It cannot be used, or it is a refusal in the form of a caption.
    """
    parsed = parse_answer(text, duration_s)
    for kind in ("short", "medium", "long"):
        if is_refusal(getattr(parsed.caption, kind)):
            raise AnswerError(f"the {kind} caption is a refusal")
    return parsed
