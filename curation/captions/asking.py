"""Asking a backend, and believing nothing that cannot be checked.

    requests ─┐
    canaries ─┴─▶ ledger ─▶ backend ─▶ replies by id ─▶ canaries looked at ─▶ replies

Every reply must name a request that was asked and not answered yet. With every batch go pictures
of known content; an answer that gets one of them wrong condemns the whole batch. Either failure is
an :class:`IntegrityError`: it is not the clips' fault, and nothing of the batch is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from curation.captions.answer import AnswerError, parse_answer
from curation.captions.canaries import Canary, canaries
from curation.captions.request import Backend, Reply, Request
from curation.errors import ErrorCode

CANARY_ATTEMPTS = 3
"""Garbage in place of an answer is a model's weakness; only what can be read shows a mix-up."""

AGAIN_STEP = 100
ANY_S = 1e6


class IntegrityError(RuntimeError):
    """The backend mixed up answers, or does not see what it is shown."""


class Answers(Protocol):
    """Where answers that cost something are kept until their rows are committed."""

    def get(self, key: str) -> Reply | None:
        """The stored answer to a request, if any."""
        ...

    def remove(self, key: str) -> None:
        """Forget an answer."""
        ...

    def put(self, key: str, reply: Reply) -> None:
        """Store an answer."""
        ...


class Asker:
    """Sends batches of requests to one backend.

    Args:
        backend: Who answers.
        num_canaries: Pictures of known content in every batch; 0: none.
        ask_of: The clips' own question about a canary: it must not be told apart.
        ledger: Where paid answers are kept; None: nowhere.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        num_canaries: int,
        ask_of: Callable[[Canary], Request],
        ledger: Answers | None = None,
    ) -> None:
        self._backend, self._ledger = backend, ledger
        self._num_canaries, self._ask_of = num_canaries, ask_of

    def watched(self, requests: Sequence[Request]) -> tuple[list[Request], list[Canary]]:
        """Requests of a batch with its canaries among them, in the order they are sent in.

        The same requests always get the same canaries in the same places; which, and where, is
        drawn by hash, so that no fixed shift of the answers leaves the canaries in place.
        """
        key = hashlib.sha256("\n".join(sorted(r.request_id for r in requests)).encode()).hexdigest()
        birds = canaries(key, self._num_canaries) if any(r.frames for r in requests) else []
        # One of them goes first: answers without a canary's beside them are worth nothing to a run
        # that goes on after a kill. A second try of the same batch has canaries of its own.
        attempt = max((r.attempt for r in requests), default=1)
        asked = [replace(self._ask_of(bird), attempt=attempt) for bird in birds]
        mixed = [*requests, *asked[1:]]
        mixed.sort(key=lambda r: hashlib.sha256(f"{key}:{r.request_id}".encode()).digest())
        return [*asked[:1], *mixed], birds

    def ask(self, requests: Sequence[Request], beat: Callable[[], None]) -> dict[str, Reply]:
        """Replies by request id, from the ledger or the backend.

        Raises:
            IntegrityError: An answer to nothing, two to one question, none, or a wrong canary.
        """
        sent, birds = self.watched(requests)
        identity = self._backend.identity()
        keys = {r.request_id: r.key(identity) for r in sent} if self._ledger else {}
        asked = list(keys.values())
        try:
            replies = self._trusted(keys, requests, birds)
            if len(replies) < len(requests):  # canaries are sent anew with whatever is sent
                replies |= self._fresh([r for r in sent if r.request_id not in replies], keys, beat)
                vouched = self._vouch(birds, replies, beat, asked)
            else:
                vouched = True
        except IntegrityError:
            if self._ledger:  # what cannot be trusted must not be found by the next run
                for key in asked:
                    self._ledger.remove(key)
            raise
        replies = {r.request_id: replies[r.request_id] for r in requests}
        return replies if vouched else {i: _unwatched(r) for i, r in replies.items()}

    def _trusted(
        self, keys: Mapping[str, str], requests: Sequence[Request], birds: Sequence[Canary]
    ) -> dict[str, Reply]:
        """Answers to clips that an earlier, killed run stored, if a canary of theirs vouches.

        Where no canary had been answered when the run was killed, nobody knows what the server was
        like: such answers are asked for again.

        Raises:
            IntegrityError: A stored canary is wrong, or an answer belongs to another request.
        """
        found = self._stored(keys)
        vouchers = 0
        for bird in birds:
            text = found.pop(bird.request_id, Reply(request_id="")).text
            if text is None:
                continue
            if bird.passed(text):
                vouchers += 1
            elif _readable(text):
                raise IntegrityError(_wrong(bird, text))
        return found if vouchers or not birds else {}

    def _vouch(
        self,
        birds: Sequence[Canary],
        replies: dict[str, Reply],
        beat: Callable[[], None],
        asked: list[str],
    ) -> bool:
        """Look at the answers about pictures of known content; unreadable ones are asked again.

        Returns:
            False: some got no answer at all.

        Raises:
            IntegrityError: One is wrong, or stays unreadable.
        """
        waiting, silent = list(birds), False
        for attempt in range(1, CANARY_ATTEMPTS + 1):
            if attempt > 1:
                # Far from the attempts of batches, so that no stored answer is taken for this one.
                number = 1 + (attempt - 1) * AGAIN_STEP
                again = [replace(self._ask_of(bird), attempt=number) for bird in waiting]
                keys = {r.request_id: r.key(self._backend.identity()) for r in again}
                asked += keys.values()
                replies |= self._fresh(again, keys, beat)
            unreadable = []
            for bird in waiting:
                text = replies[bird.request_id].text
                silent |= text is None
                if text is None or bird.passed(text):
                    continue
                if attempt == CANARY_ATTEMPTS or _readable(text):
                    raise IntegrityError(_wrong(bird, text))
                unreadable.append(bird)
            waiting = unreadable
            if not waiting:
                break
        return not silent

    def _stored(self, keys: Mapping[str, str]) -> dict[str, Reply]:
        """Answers that an earlier, killed run paid for."""
        found = {i: self._ledger.get(key) for i, key in keys.items()} if self._ledger else {}
        for request_id, reply in found.items():
            if reply is not None and reply.request_id != request_id:
                raise IntegrityError(f"the ledger holds {reply.request_id!r} for {request_id!r}")
        return {i: reply for i, reply in found.items() if reply is not None}

    def _fresh(
        self, requests: Sequence[Request], keys: Mapping[str, str], beat: Callable[[], None]
    ) -> dict[str, Reply]:
        """Answers of the backend, each stored as it comes.

        Raises:
            IntegrityError: An answer to nothing, two to one question, or none to some.
        """
        if not requests:
            return {}
        waited = {r.request_id for r in requests}
        replies: dict[str, Reply] = {}
        for reply in self._backend.answer(requests, beat):
            if reply.request_id not in waited:
                what = "answered already" if reply.request_id in replies else "not asked"
                raise IntegrityError(f"the backend answers {reply.request_id!r}, which was {what}")
            if reply.code == ErrorCode.CAPTION_GATE:  # the backend itself saw a mix-up
                raise IntegrityError(reply.message)
            waited.discard(reply.request_id)
            replies[reply.request_id] = reply
            if self._ledger and reply.text is not None:
                self._ledger.put(keys[reply.request_id], reply)
            beat()
        if waited:
            raise IntegrityError(
                f"the backend left {len(waited)} of {len(requests)} requests unanswered"
            )
        return replies


def _wrong(bird: Canary, text: str) -> str:
    return f"shown a plain {bird.colour} picture, the backend wrote: {text[:200]!r}"


def _readable(text: str) -> bool:
    """True when a canary's answer has the wanted form, so that its content counts."""
    try:
        parse_answer(text, ANY_S)  # of whatever it is the answer to
    except AnswerError:
        return False
    return True


def _unwatched(reply: Reply) -> Reply:
    """An answer of a batch whose canaries got none: not believed, to be asked for again."""
    if reply.text is None:
        return reply
    return replace(
        reply,
        text=None,
        code=ErrorCode.CAPTION_BACKEND,
        message="the canaries of its batch got no answer, so nothing vouches for this one",
    )
