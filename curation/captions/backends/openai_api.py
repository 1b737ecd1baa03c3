"""The backend ``openai``: any server that speaks OpenAI's chat completions, local or paid for.

    config ─▶ requests ─▶ one task each, up to ``concurrency`` ─▶ replies by request id

Served like this: OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, LM Studio, ``transformers serve``
and the gateways before them. The key stands in an environment variable and nowhere else; it has to
be set on every machine whose workers caption.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator, model_validator

from curation.captions.backends.openai_wire import Structured
from curation.captions.backends.settings import BackendSettings
from curation.captions.request import Backend, Reply, Request
from curation.errors import ConfigError
from curation.redact import SECRETS, secret_in

if TYPE_CHECKING:
    from curation.captions.backends.openai_calls import Calls

BEAT_S = 0.5
MIN_KEY = 8
"""Shorter keys are placeholders ("none", "EMPTY"); taking them out would maim captions."""
NO_SECRETS = frozenset({"prompt_cache_key", "safety_identifier"})
"""Fields of OpenAI's body that only sound like it."""
RESERVED = frozenset({"model", "messages", "stream", "n", "max_tokens", "max_completion_tokens"})
"""Fields of the body that the backend sets itself."""


class OpenAISettings(BackendSettings):
    """Settings of an OpenAI-compatible server.

    What decides an answer is the model's name, how it samples, and what it is told beside the
    request. Where the server stands does not: a dataset is gone on with when the server has moved.
    Another model behind the same name wants another ``revision``.
    """

    operational: ClassVar[frozenset[str]] = frozenset(
        {
            *("price", "base_url", "api_key_env", "concurrency", "timeout_s", "max_retries"),
            *("retry_max_wait_s", "max_calls_per_run", "max_spend"),
        }
    )
    paid: ClassVar[bool] = True

    kind: Literal["openai"] = "openai"
    model: str = Field(min_length=1, description="as the server names it")
    revision: str = Field("", description="change it when the model behind the name has changed")
    base_url: str = Field("https://api.openai.com/v1", description="up to and without /chat")
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="environment variable with the key; empty: no key is sent"
    )
    concurrency: int = Field(8, ge=1, le=1024, description="requests on their way at a time")
    timeout_s: float = Field(180.0, gt=0, description="for one whole answer")
    max_retries: int = Field(6, ge=0, le=100, description="tries after the first")
    retry_max_wait_s: float = Field(60.0, gt=0, description="longest wait before a retry")
    max_calls_per_run: int | None = Field(
        None, ge=0, description="HTTP requests of one worker process, retries included"
    )
    max_spend: float | None = Field(
        None, ge=0, description="money of one worker process, in the currency of price"
    )
    structured: Structured = Field(
        "json_schema", description="how the form is asked for; the next where a server refuses"
    )
    temperature: float | None = Field(0.0, ge=0, le=2, description="null: the server's default")
    seed: int | None = None
    image_detail: Literal["auto", "low", "high"] | None = None
    extra_body: dict[str, Any] = Field(
        default_factory=dict, description="further fields of the body; part of the data, no secrets"
    )

    @field_validator("base_url")
    @classmethod
    def _no_login(cls, value: str) -> str:
        parts = urlsplit(value)
        secret = any(s in n.lower() for n, _ in parse_qsl(parts.query) for s in SECRETS)
        if "@" in parts.netloc or secret:
            # Not a ValueError: pydantic would show the value.
            raise ConfigError(
                "holds a password or a key",
                where="base_url",
                mend="put the key into the variable that api_key_env names",
            )
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("a URL that starts with http:// or https:// is needed")
        return value.rstrip("/")

    @field_validator("extra_body")
    @classmethod
    def _extra(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(RESERVED & value.keys()):
            raise ValueError(f"{', '.join(taken)}: set by the backend itself")
        told = {name: inner for name, inner in value.items() if name not in NO_SECRETS}
        if (where := secret_in(told)) is not None:
            raise ConfigError(  # not a ValueError: pydantic would show the value
                "is a password, a token or a key by its name, or a URL with one in it",
                where=f"backend openai: extra_body.{where}".rstrip("."),
                mend="settings are stored with the dataset; the key belongs into api_key_env",
            )
        json.dumps(value)  # raises what pydantic reports
        return value

    @model_validator(mode="after")
    def _priced(self) -> OpenAISettings:
        if self.max_spend is not None and self.price is None:
            raise ValueError("max_spend needs price: tokens are counted, money is not")
        return self

    @property
    def model_name(self) -> str:
        """``openai:`` and the model's name."""
        return f"openai:{self.model}"

    def problems(self) -> list[str]:
        """A missing package, a key that is not set or cannot be one."""
        found = []
        if importlib.util.find_spec("openai") is None:
            found.append("openai: its client is not installed (pip install 'clipmill[openai]')")
        key = os.environ.get(self.api_key_env, "") if self.api_key_env else ""
        if self.api_key_env and not key.strip():
            found.append(
                f"openai: the environment variable {self.api_key_env} is not set (put the key"
                " there, or set api_key_env to '' for a server without one)"
            )
        elif not key.isascii() or not key.strip().isprintable():
            found.append(
                f"openai: {self.api_key_env} holds characters that no key has (spaces around it are"
                " fine, line breaks inside are not)"
            )
        return found

    def make(self) -> OpenAIBackend:
        """The backend.

        Raises:
            ConfigError: Something of :meth:`problems` is missing.
        """
        if problems := self.problems():
            raise ConfigError(problems[0])
        return OpenAIBackend(self)


class OpenAIBackend(Backend):
    """Asks an OpenAI-compatible server.

    Connections live in an event loop in a thread of their own. Requests are started only as
    replies are taken, so that no more than ``concurrency`` answers can be lost to a kill.

    Args:
        settings: Checked ones.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        key = os.environ.get(settings.api_key_env, "").strip() if settings.api_key_env else ""
        self._settings = settings
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._calls: Calls = self._run(_connect(settings, key))

    def identity(self) -> Mapping[str, Any]:
        """The settings that decide an answer."""
        return self._settings.identity()

    @property
    def calls(self) -> int:
        """HTTP requests so far."""
        return self._calls.budget.calls

    @property
    def spent(self) -> float:
        """Money so far, by the server's counts; 0 without a price."""
        return self._calls.budget.spent

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """Ask for all of a batch; replies come as they arrive.

        Raises:
            ValueError: Two requests have one id.
        """
        if len({r.request_id for r in requests}) != len(requests):
            raise ValueError("two requests of a batch have the same id")
        left = iter(requests)
        running: dict[Future[Reply], str] = {}
        try:
            while True:
                while len(running) < self._settings.concurrency:
                    request = next(left, None)
                    if request is None:
                        break
                    task = asyncio.run_coroutine_threadsafe(self._calls.reply(request), self._loop)
                    running[task] = request.request_id
                if not running:
                    return
                done, _ = wait(running, timeout=BEAT_S, return_when=FIRST_COMPLETED)
                beat()
                for task in done:
                    asked, reply = running.pop(task), task.result()
                    assert reply.request_id == asked, "a reply under another request's id"
                    yield reply
        finally:
            for task in running:
                task.cancel()

    def close(self) -> None:
        """Close the connections and end the thread."""
        if self._loop.is_closed():
            return
        self._run(_end(self._calls))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - the work's
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _end(calls: Calls) -> None:
    """Cancel what is still running, then close the connections."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await calls.close()


async def _connect(settings: OpenAISettings, key: str) -> Calls:
    """The client and what surrounds it, made in the loop that they live in."""
    from openai import AsyncOpenAI

    from curation.captions.backends.openai_calls import Calls

    client = AsyncOpenAI(
        api_key=key or "none",  # never sent: without a key the header is left out
        base_url=settings.base_url,
        timeout=settings.timeout_s,
        max_retries=0,
    )

    def scrub(text: str) -> str:
        return text.replace(key, "***") if len(key) >= MIN_KEY else text

    return Calls(settings, client, scrub)
