"""What goes to a captioner and what comes back: requests with an id, replies that carry it.

Every request has an id of its own, and every reply names the request that it answers. Nothing is
ever matched by its place in a list: that is how captions end up with the wrong clips.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from curation.ids import canonical_json


@dataclass(frozen=True)
class Frame:
    """One picture that the captioner sees.

    Attributes:
        time_s: Seconds from the start of the clip.
        jpeg: The picture, JPEG bytes.
    """

    time_s: float
    jpeg: bytes


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question: describe this stretch of a clip.

    Attributes:
        request_id: Unique among the requests of a batch; comes back with the reply.
        system: The system prompt.
        prompt: The user's text, shown after the frames.
        frames: What is seen, in order of time. Empty: a question about text alone.
        duration_s: Length of the stretch in seconds.
        facts: What was measured of the clip, by column name; the embedded captioner writes from it.
        max_tokens: Upper limit of the answer.
        attempt: 1 for the first time that this is asked.
        schema: JSON schema of the wanted answer, for backends that can enforce one; None: free
            text.
    """

    request_id: str
    system: str
    prompt: str
    frames: tuple[Frame, ...] = ()
    duration_s: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 1024
    attempt: int = 1
    schema: Mapping[str, Any] | None = None

    def key(self, identity: Mapping[str, Any]) -> str:
        """What decides the answer, as 64 hex digits: the question, and who is asked.

        Args:
            identity: The backend's, see :meth:`Backend.identity`.
        """
        sha = hashlib.sha256()
        told = {
            "identity": dict(identity),
            "request": self.request_id,
            "system": self.system,
            "prompt": self.prompt,
            "times_s": [f.time_s for f in self.frames],
            "max_tokens": self.max_tokens,
            "attempt": self.attempt,
            "schema": None if self.schema is None else dict(self.schema),
        }
        sha.update(canonical_json(told).encode())
        for frame in self.frames:
            sha.update(hashlib.sha256(frame.jpeg).digest())
        return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What became of one request.

    Attributes:
        request_id: Of the request it answers.
        text: The answer; None: there is none.
        code: Why there is none: an :class:`~curation.errors.ErrorCode`.
        message: The same in a sentence.
        input_tokens: As the backend counted them; None: not counted.
        output_tokens: Likewise.
        busy_s: Seconds that the answer took; in a batch its equal share.
        reused: The answer was stored by an earlier, killed run and not asked for again.
    """

    request_id: str
    text: str | None = None
    code: str | None = None
    message: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    busy_s: float = 0.0
    reused: bool = False


class Backend(ABC):
    """Answers requests. One per worker process; made by its settings' ``make``."""

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """What decides an answer beside the request: model, revision, sampling. JSON-able."""

    @abstractmethod
    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """Answer a batch.

        Args:
            requests: Any number; how many go to the model at a time is the backend's business.
            beat: Call it now and then during long work: silence is taken for a hang.

        Yields:
            One reply for each request, in any order. What cannot be answered is a reply with a
            ``code``; an exception is a bug.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Let go of connections and memory."""
