"""The openai backend against a real HTTP server: what is sent, what is read, the settings."""

from __future__ import annotations

import base64
import time
from typing import Any

import cv2
import numpy as np
import pytest

from curation.captions.answer import answer_schema, parse_answer
from curation.captions.backends.openai_api import OpenAIBackend, OpenAISettings
from curation.captions.backends.openai_wire import read_answer, strict_schema
from curation.captions.request import Frame, Reply, Request
from curation.errors import ConfigError, ErrorCode
from tests.captions.server import GOOD, Act, FaultServer, caption_text, serve

KEY = "sk-test-0123456789abcdef"
VARIABLE = "CLIPMILL_TEST_KEY"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv(VARIABLE, KEY)


def settings(server: FaultServer, **fields: Any) -> OpenAISettings:  # noqa: ANN401 - any field
    fast = {"retry_max_wait_s": 0.05, "timeout_s": 10.0}
    given = {"model": "some-model", "base_url": server.url, "api_key_env": VARIABLE}
    return OpenAISettings.model_validate(given | fast | fields)


def jpeg(level: int = 90, size_px: tuple[int, int] = (64, 48)) -> bytes:
    width, height = size_px
    return cv2.imencode(".jpg", np.full((height, width, 3), level, np.uint8))[1].tobytes()


def requests(count: int, **fields: Any) -> list[Request]:  # noqa: ANN401 - any field
    base: dict[str, Any] = {"system": "be brief", "prompt": "what is there?", "max_tokens": 77}
    return [Request(request_id=f"clip{i}/0", **(base | fields)) for i in range(count)]


def ask(asked: list[Request], given: OpenAISettings) -> dict[str, Reply]:
    """Replies by id; every request has exactly one."""
    backend = given.make()
    try:
        replies = list(backend.answer(asked))
    finally:
        backend.close()
    assert sorted(r.request_id for r in replies) == sorted(r.request_id for r in asked)
    assert all((r.text is None) == (r.code is not None) for r in replies)
    return {r.request_id: r for r in replies}


def test_every_request_gets_its_own_answer() -> None:
    """Answers come in another order than the questions; each still names its request."""
    with serve(lambda c: Act(wait_s=0.01 * (12 - c.total % 12))) as server:
        replies = ask(requests(60), settings(server, concurrency=12))
        for name, reply in replies.items():
            assert reply.text == caption_text(name)
            assert (reply.input_tokens, reply.output_tokens) == (100, 20)
            assert reply.busy_s > 0
        assert set(server.counts().values()) == {1}


def test_what_is_sent() -> None:
    frames = (Frame(0.0, jpeg(10)), Frame(1.5, jpeg(200)))
    asked = requests(1, frames=frames, schema=answer_schema())
    more = {"seed": 7, "image_detail": "low", "temperature": 0.5, "extra_body": {"top_k": 5}}
    with serve() as server:
        ask(asked, settings(server, **more))
    (call,) = server.calls
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.request_id == "clip0/0"
    body = call.body
    assert (body["model"], body["max_tokens"]) == ("some-model", 77)
    assert (body["seed"], body["temperature"], body["top_k"]) == (7, 0.5, 5)
    system, user = body["messages"]
    assert system == {"role": "system", "content": "be brief"}
    kinds = [p["type"] for p in user["content"]]
    assert kinds == ["text", "image_url", "text", "image_url", "text"]
    assert [p["text"] for p in user["content"][::2]] == ["0.00 s:", "1.50 s:", "what is there?"]
    for part, frame in zip(user["content"][1::2], frames, strict=True):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64"
        assert base64.b64decode(data) == frame.jpeg
        assert part["image_url"]["detail"] == "low"
    form = body["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["additionalProperties"] is False


def test_no_key_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of one's own does not get the key that is meant for another."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve() as server:
        ask(requests(1), settings(server, api_key_env=""))
    assert "authorization" not in server.calls[0].headers
    assert not any(KEY in v for v in server.calls[0].headers.values())


def test_text_alone_and_odd_ids() -> None:
    odd = [Request(request_id=n, system="", prompt="x") for n in ("ä b\n", "x" * 300, "plain")]
    with serve() as server:
        replies = ask(odd, settings(server))
    assert len(server.counts()) == 3
    assert all(r.text for r in replies.values())
    (user,) = server.calls[0].body["messages"]
    assert user == {"role": "user", "content": "x"}


def test_strict_schema_is_what_strict_servers_take() -> None:
    """All properties required, none besides, at every depth; a good answer still parses."""
    schema = strict_schema(answer_schema())
    event = schema["$defs"]["Event"]
    for part in (schema, event):
        assert part["required"] == list(part["properties"])
        assert part["additionalProperties"] is False
    assert "events" in schema["required"]
    assert "maxLength" not in str(schema)
    assert "description" in schema["properties"]["short"]
    assert parse_answer(caption_text("x"), 3.0).caption.short == "the answer to x"


@pytest.mark.parametrize(
    ("changes", "text", "words"),
    [
        ({"message": {"content": "cut of", "role": "a"}, "finish_reason": "length"}, "cut of", ""),
        ({"message": {"content": None, "refusal": "I can't"}}, "I can't", ""),
        ({"message": {"content": [{"type": "text", "text": "parts"}]}}, "parts", ""),
        ({"message": {"content": "\ud800x"}}, "?x", ""),
        ({"message": {"content": "  "}, "finish_reason": "length"}, None, "token limit"),
        ({"message": {"content": ""}, "finish_reason": "content_filter"}, None, "filter"),
        ({"message": {"content": None}}, None, "empty"),
    ],
)
def test_odd_completions(changes: dict[str, Any], text: str | None, words: str) -> None:
    """They are answers and were paid for: none is asked for again."""
    with serve(lambda c: Act(changes={"choices": [changes]})) as server:
        (reply,) = ask(requests(1), settings(server)).values()
    assert reply.text == text
    assert words in reply.message
    assert reply.code == (None if text else ErrorCode.CAPTION_INVALID)
    assert reply.output_tokens == 20
    assert len(server.calls) == 1


def test_counts_that_are_none() -> None:
    usage = {"prompt_tokens": "many", "completion_tokens": -3}
    with serve(lambda c: Act(changes={"usage": usage})) as server:
        (reply,) = ask(requests(1), settings(server)).values()
    assert (reply.input_tokens, reply.output_tokens) == (None, None)
    assert read_answer(b'{"choices": [{"message": {"content": "x"}}]}').input_tokens is None


def test_beats_while_waiting_and_stops_when_left() -> None:
    beats: list[float] = []
    with serve(lambda c: Act(wait_s=1.3)) as server:
        backend = settings(server, concurrency=2).make()
        replies = backend.answer(requests(9), lambda: beats.append(time.monotonic()))
        next(replies)
        replies.close()  # type: ignore[attr-defined]
        backend.close()
        gaps = np.diff([server.calls[0].at_s, *beats])
        assert gaps.max() < 1.0
        assert len(beats) >= 3
        assert len(server.calls) == 2  # none was started ahead of the replies taken
    backend.close()  # twice is fine


def test_two_of_one_id_are_refused() -> None:
    with serve() as server:
        backend = settings(server).make()
        with pytest.raises(ValueError, match="same id"):
            list(backend.answer([*requests(1), *requests(1)]))
        backend.close()
        assert not server.calls


def test_identity_is_what_decides_answers() -> None:
    with serve() as server:
        one = settings(server)
        moved = one.model_copy(update={"base_url": "http://other/v1", "concurrency": 3})
        assert one.identity() == moved.identity()
        assert server.url not in str(one.identity()) and VARIABLE not in str(one.identity())
        for change in ({"model": "b"}, {"revision": "2"}, {"seed": 1}, {"extra_body": {"a": 1}}):
            assert one.identity() != one.model_copy(update=change).identity()
        backend = one.make()
        assert isinstance(backend, OpenAIBackend)
        assert backend.identity() == one.identity()
        backend.close()


def test_problems_name_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    given = OpenAISettings.model_validate({"model": "m", "api_key_env": "CLIPMILL_NOT_SET"})
    (problem,) = given.problems()
    assert "CLIPMILL_NOT_SET" in problem and "api_key_env" in problem
    with pytest.raises(ConfigError, match="CLIPMILL_NOT_SET"):
        given.make()
    monkeypatch.setenv("CLIPMILL_NOT_SET", "sk-ab\ncd-secret")
    (problem,) = given.problems()
    assert "sk-ab" not in problem and "secret" not in problem
    monkeypatch.setenv("CLIPMILL_NOT_SET", f" {KEY}\n")  # as `cat file` leaves it
    assert not given.problems()
    assert not OpenAISettings.model_validate({"model": "m", "api_key_env": ""}).problems()


@pytest.mark.parametrize(
    "url", ["http://me:hunter2@host/v1", "https://host/v1?api_key=hunter2", "https://hunter2@h/v1"]
)
def test_no_secrets_in_the_url(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAISettings.model_validate({"model": "m", "base_url": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "host/v1"},
        {"max_spend": 1.0},
        {"extra_body": {"stream": True}},
        {"extra_body": {"messages": []}},
        {"concurrency": 0},
    ],
)
def test_wrong_settings(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        OpenAISettings.model_validate({"model": "m"} | fields)


def test_good_is_good() -> None:
    """The server's default answers parse, so a failure in these tests is not its own."""
    assert GOOD.status == 200
    assert parse_answer(caption_text("a"), 1.0).repaired is False


def test_extra_fields_hold_no_secret() -> None:
    with pytest.raises(ConfigError, match=r"extra_body\.headers\.apiKey") as caught:
        OpenAISettings.model_validate(
            {"model": "m", "extra_body": {"headers": {"apiKey": "sk-abc"}}}
        )
    assert "sk-abc" not in str(caught.value)
    kept = OpenAISettings.model_validate({"model": "m", "extra_body": {"prompt_cache_key": "x"}})
    assert kept.extra_body == {"prompt_cache_key": "x"}
