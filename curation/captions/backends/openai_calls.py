"""Calls to an OpenAI-compatible server: retries, budget, and what stops a run early.

One event loop runs all of this, so that the state that requests share needs no locks. The official
client does the HTTP; its own retries are off, because ours have to keep to the budget.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from curation.captions.backends import openai_wire as wire
from curation.captions.backends.openai_budget import Budget, BudgetSpent
from curation.captions.cost import estimate_tokens
from curation.captions.request import Reply, Request
from curation.captions.retry import Backoff, Pause, retry_after_s
from curation.errors import ErrorCode
from curation.redact import public_name
from curation.stages.sampled import picture

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from curation.captions.backends.openai_api import OpenAISettings

log = logging.getLogger(__name__)

AGAIN = frozenset({408, 409, 425, 429})
"""Besides 5xx: what passes when one waits."""
STOPS = frozenset({401, 402, 403, 404, 405})
"""What every further request would meet as well."""
STOP_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "unsupported_value",
        "unsupported_parameter",
        "unknown_parameter",
        "model_not_found",
    }
)
FINAL_CODES = frozenset({"content_filter", "content_policy_violation", "context_length_exceeded"})
"""What asking again does not change."""
UNSENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Exceptions of the HTTP library (httpx, httpx2) before anything was sent."""
MIN_FAILED_IN_A_ROW = 10


@dataclass(eq=False)
class Failed(Exception):
    """A call that gave no answer.

    Attributes:
        message: One sentence.
        code: For the reply.
        again: It may be tried again.
        stops: It stops all further requests.
        wait_s: What the server asks to wait.
        charged: It may have been charged for.
        adapted: The request was at fault and is made otherwise now.
    """

    message: str
    code: ErrorCode = ErrorCode.CAPTION_BACKEND
    again: bool = False
    stops: bool = False
    wait_s: float | None = None
    charged: bool = False
    adapted: bool = False


class Calls:
    """Asks one server, one request at a time per task.

    Args:
        settings: Of the backend.
        client: The official client.
        scrub: Takes secrets out of a text.
    """

    def __init__(
        self, settings: OpenAISettings, client: AsyncOpenAI, scrub: Callable[[str], str]
    ) -> None:
        self._settings, self._client, self._scrub = settings, client, scrub
        self._backoff = Backoff(settings.max_retries, settings.retry_max_wait_s)
        self._pause = Pause()
        self._dialect = wire.Dialect(settings.structured)
        self._rng = random.Random()
        self._stop: Failed | None = None
        self._failed_in_a_row = 0
        self._prefix, self._number = f"clipmill-{uuid.uuid4().hex[:12]}-", 0
        self.budget = Budget(settings.price, settings.max_calls_per_run, settings.max_spend)

    async def reply(self, request: Request) -> Reply:
        """The one reply to a request, whatever happens."""
        busy_s, retries = 0.0, 0
        while True:
            if self._stop is not None:
                return self._no(request, self._stop, busy_s)
            began = time.monotonic()
            try:
                await self._wait_for_pause()
                began = time.monotonic()
                answer = await self._call(request)
            except BudgetSpent as exc:
                return self._no(request, Failed(str(exc), ErrorCode.CAPTION_BUDGET), busy_s)
            except Failed as failed:
                busy_s += time.monotonic() - began
                if failed.adapted:
                    continue
                if not failed.again or retries == self._settings.max_retries:
                    return self._give_up(request, failed, busy_s, retries)
                await self._wait(failed, retries)
                retries += 1
                continue
            self._failed_in_a_row = 0
            return Reply(
                request_id=request.request_id,
                text=None if answer.text is None else self._scrub(answer.text),
                code=None if answer.text is not None else ErrorCode.CAPTION_INVALID,
                message=answer.why or self._note(request),
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                busy_s=round(time.monotonic() - began, 4),
            )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _call(self, request: Request) -> wire.Answer:
        """One HTTP request.

        Raises:
            Failed: It gave no answer.
            BudgetSpent: It was not sent.
        """
        hold = await self.budget.hold(self._likely_tokens(request), request.max_tokens)
        used, charged = None, True
        try:
            if self._stop is not None:  # while this waited for the budget
                charged = False
                raise replace(self._stop)
            answer = await self._send(request)
            used = (answer.input_tokens, answer.output_tokens)
            return answer
        except Failed as failed:
            charged = charged and failed.charged
            raise
        finally:
            await self.budget.settle(hold, used, charged=charged)

    async def _send(self, request: Request) -> wire.Answer:
        """Send a request and read what comes back.

        Raises:
            Failed: There is no answer to it.
        """
        import openai

        version, headers = self._dialect.version, self._headers(request)
        limit_s = self._settings.timeout_s
        try:
            # The client's timeout is between two bytes; this one is for the whole answer.
            raw: Any = await asyncio.wait_for(
                self._client.chat.completions.with_raw_response.create(
                    **self._body(request), extra_headers=headers, timeout=limit_s
                ),
                limit_s,
            )
        except (openai.APITimeoutError, TimeoutError) as exc:
            sent = type(exc.__cause__).__name__ not in UNSENT
            raise Failed(f"no answer within {limit_s:g} s", again=True, charged=sent) from exc
        except openai.APIStatusError as exc:
            raise self._refused(exc, version, request) from exc
        except openai.OpenAIError as exc:
            cause = exc.__cause__ or exc
            told = wire.one_line(f"{type(cause).__name__}: {cause}")
            sent = type(cause).__name__ not in UNSENT
            raise Failed(f"the connection failed: {told}", again=True, charged=sent) from exc
        try:
            answer = wire.read_answer(raw.http_response.content)
        except wire.BadBody as exc:
            raise Failed(f"the server sent {exc}", again=True, charged=True) from exc
        self._check_ids(headers["X-Request-Id"], raw.headers.get("x-request-id"), answer.server_id)
        return answer

    def _body(self, request: Request) -> dict[str, Any]:
        settings, body = self._settings, {}
        if request.schema is not None:
            form = wire.response_format(request.schema, self._dialect.structured)
            if form is not None:
                body["response_format"] = form
        for name in ("temperature", "seed"):
            if getattr(settings, name) is not None:
                body[name] = getattr(settings, name)
        if settings.extra_body:
            body["extra_body"] = dict(settings.extra_body)
        body[self._dialect.limit_field] = request.max_tokens
        return {
            "model": settings.model,
            "messages": wire.messages(request, settings.image_detail),
            **body,
        }

    def _headers(self, request: Request) -> dict[str, Any]:
        """The request's id for the server's own records, and one that only this call has."""
        self._number += 1
        headers: dict[str, Any] = {
            "X-Client-Request-Id": wire.header_id(request.request_id),
            "X-Request-Id": f"{self._prefix}{self._number}",
        }
        if not self._settings.api_key_env:
            from openai import Omit

            headers["Authorization"] = Omit()
        return headers

    def _check_ids(self, sent: str, *returned: str | None) -> None:
        """Servers that send our id back (vLLM, transformers) show when answers are mixed up.

        Raises:
            Failed: An id of ours came back, but that of another call.
        """
        ours = re.compile(re.escape(self._prefix) + r"\d+")
        for value in returned:
            if any(found != sent for found in ours.findall(value or "")):
                raise Failed(
                    "the server sent the answer to another request; it mixes up answers",
                    code=ErrorCode.CAPTION_GATE,
                    stops=True,
                    charged=True,
                )

    def _refused(self, exc: Any, version: int, request: Request) -> Failed:  # noqa: ANN401
        """What an answer with an error status means."""
        status = int(exc.status_code)
        words, code = wire.error_message(exc.body)
        text = f"status {status}: {words or exc.message}"
        if code in FINAL_CODES:
            return Failed(text, ErrorCode.CAPTION_INVALID)
        if status in (400, 422, 501):
            if self._dialect.version != version:  # another request has found out meanwhile
                return Failed(text, adapted=True)
            changed = self._dialect.step_down(words, with_schema=request.schema is not None)
            if changed:
                log.warning("%s: %s", self._settings.model_name, changed)
                return Failed(text, adapted=True)
        if status in STOPS or code in STOP_CODES:
            return Failed(f"{text}\n{self._mend(status, code)}", stops=True)
        if status in AGAIN or status >= 500:
            return Failed(text, again=True, wait_s=retry_after_s(exc.response.headers))
        return Failed(text)

    def _mend(self, status: int, code: str) -> str:
        settings = self._settings
        if code in ("insufficient_quota", "billing_hard_limit_reached") or status == 402:
            return "mend: the account has no money left; top it up and run again"
        if status in (401, 403):
            name = settings.api_key_env
            what = f"the key in {name}" if name else "api_key_env (no key is sent)"
            return f"mend: check {what}, and that it may use {settings.model}"
        if status in (404, 405):
            return f"mend: check model {settings.model!r} and base_url {settings.base_url}"
        return "mend: change the field that the server names (temperature, seed: null leaves it)"

    async def _wait_for_pause(self) -> None:
        """Wait out a pause that the server asked for.

        Raises:
            Failed: It is longer than is waited for.
        """
        while (left_s := self._pause.left_s()) > 0:
            if left_s > self._backoff.max_wait_s:
                raise Failed(
                    f"the server asks to wait {left_s:.0f} s, longer than retry_max_wait_s"
                    f" ({self._backoff.max_wait_s:g} s)"
                )
            await asyncio.sleep(left_s + self._rng.uniform(0, 0.1 * left_s))

    async def _wait(self, failed: Failed, retry: int) -> None:
        if failed.wait_s is not None:
            self._pause.extend(failed.wait_s)
        else:
            await asyncio.sleep(self._backoff.delay_s(retry, self._rng))

    def _give_up(self, request: Request, failed: Failed, busy_s: float, retries: int) -> Reply:
        """The reply of a request that failed for good; stops the rest when that is no use."""
        if failed.stops and self._stop is None:
            self._stop = failed
            where = public_name(self._settings.base_url)
            log.warning("%s: %s", where, self._scrub(failed.message))
        elif retries:
            failed = Failed(f"{failed.message} (after {retries + 1} tries)", failed.code)
        self._failed_in_a_row += failed.code != ErrorCode.CAPTION_INVALID
        limit = max(MIN_FAILED_IN_A_ROW, 2 * self._settings.concurrency)
        if self._stop is None and self._failed_in_a_row >= limit:
            self._stop = Failed(f"{limit} requests in a row have failed: {failed.message}")
            log.warning("%s: %s", self._settings.model_name, self._scrub(self._stop.message))
        return self._no(request, failed, busy_s)

    def _no(self, request: Request, failed: Failed, busy_s: float) -> Reply:
        first, _, mend = self._scrub(failed.message).partition("\nmend: ")
        words = first[: wire.MAX_MESSAGE] + (f"; mend: {mend}" if mend else "")
        return Reply(
            request_id=request.request_id,
            code=failed.code,
            message=f"{public_name(self._settings.base_url)}: {words}",
            busy_s=round(busy_s, 4),
        )

    def _note(self, request: Request) -> str:
        """What runs in place of the enforced form that was asked for; empty: nothing does."""
        if request.schema is None or self._dialect.structured == self._settings.structured:
            return ""
        return f"response_format {self._dialect.structured}: the server takes no other"

    def _likely_tokens(self, request: Request) -> float:
        """Upper estimate of the tokens of a request; 0 where nobody asks."""
        if not self.budget.counts_money:
            return 0.0
        chars = len(request.system) + len(request.prompt)
        chars += len(str(request.schema)) if request.schema is not None else 0
        height, width = picture(request.frames[0].jpeg).shape[:2] if request.frames else (1, 1)
        low = self._settings.image_detail == "low"
        return estimate_tokens(len(request.frames), width, height, chars, low_detail=low).high
