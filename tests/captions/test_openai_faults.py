"""The openai backend against a server that fails: nothing lost, nothing leaked, nothing unbounded.

Every test asks through real sockets; ``ask`` itself asserts that every request has one reply.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import random
import socket
import time
from collections import Counter

import pytest

from curation.captions.answer import answer_schema
from curation.captions.backends.settings import Price
from curation.errors import ErrorCode
from tests.captions.server import GOOD, Act, Call, caption_text, serve
from tests.captions.test_openai import KEY, VARIABLE, ask, requests, settings

LEAK = Act(status=500, error={"message": f"Bearer {KEY} is what you sent"})
FAULTS = {
    "too many": Act(status=429),
    "broken": Act(status=500),
    "unavailable": Act(status=503, body=b"<html>gateway</html>", headers={"Content-Type": "a/b"}),
    "reset": Act(reset=True),
    "cut": Act(cut=True),
    "no json": Act(body=b'{"choices": [{"mess'),
    "other type": Act(body=b"<html>ok</html>", headers={"Content-Type": "text/html"}),
    "no choices": Act(changes={"choices": []}),
    "null choices": Act(changes={"choices": None}),
    "list": Act(body=b"[]"),
    "not text": Act(body=b"\xff\xfe\x00"),
    "no message": Act(changes={"choices": [{"index": 0}]}),
    "slow": Act(wait_s=1.5),
    "dripping": Act(drip_s=0.05),
}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai")
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_then_good(fault: str) -> None:
    """It is asked again, and the answer is the request's own."""
    with serve(lambda c: FAULTS[fault] if c.nth == 1 else GOOD) as server:
        replies = ask(requests(3), settings(server, timeout_s=0.7))
        for name, reply in replies.items():
            assert reply.text == caption_text(name)
        assert set(server.counts().values()) == {2}


@pytest.mark.parametrize("fault", ["broken", "no json", "reset", "too many"])
def test_a_fault_for_ever(fault: str) -> None:
    """It ends after the retries, with a code that the next run tries again."""
    with serve(lambda c: FAULTS[fault]) as server:
        replies = ask(requests(3), settings(server, max_retries=2, timeout_s=0.3))
        for reply in replies.values():
            assert reply.code == ErrorCode.CAPTION_BACKEND
            assert "after 3 tries" in reply.message
            assert server.url in reply.message
        assert set(server.counts().values()) == {3}


def test_a_storm_of_all_faults() -> None:
    """Each call fails in some way with probability one half; all 80 are answered in the end."""
    kinds = [f for name, f in FAULTS.items() if name not in ("slow", "dripping")]
    rng = random.Random(3)

    def script(call: Call) -> Act:
        return rng.choice(kinds) if rng.random() < 0.5 else Act(wait_s=0.005)

    with serve(script) as server:
        replies = ask(requests(80), settings(server, max_retries=40, concurrency=16))
        assert {n: r.text for n, r in replies.items()} == {n: caption_text(n) for n in replies}
        assert len(server.calls) > 110


def test_retry_after_holds_for_all() -> None:
    """One 429 that asks for 0.6 s keeps every request away for so long."""
    first = Act(status=429, headers={"Retry-After": "0.6"})
    with serve(lambda c: first if c.total == 1 else Act(wait_s=0.02)) as server:
        replies = ask(requests(12), settings(server, concurrency=1, retry_max_wait_s=5))
        assert all(r.text for r in replies.values())
        gap_s = server.calls[1].at_s - server.calls[0].at_s
        assert 0.6 <= gap_s < 1.5


def test_retry_after_beyond_the_limit_is_not_waited_for() -> None:
    with serve(lambda c: Act(status=429, headers={"Retry-After": "3600"})) as server:
        began = time.monotonic()
        replies = ask(requests(40), settings(server, concurrency=4))
        assert time.monotonic() - began < 5
        assert len(server.calls) <= 4  # whoever was on the way; the rest was not sent
    assert {r.code for r in replies.values()} == {ErrorCode.CAPTION_BACKEND}
    assert any("retry_max_wait_s" in r.message for r in replies.values())


def test_waits_grow_and_are_bounded() -> None:
    with serve(lambda c: FAULTS["broken"]) as server:
        ask(requests(1), settings(server, max_retries=3, retry_max_wait_s=1.2))
        times = [c.at_s for c in server.calls]
        gaps = [b - a for a, b in itertools.pairwise(times)]
    assert len(gaps) == 3
    assert all(0.45 <= g <= 1.5 for g in gaps), gaps


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_all_would_meet_stops_all(status: int) -> None:
    error = {"message": f"wrong key {KEY[:7]}...", "code": "x"}
    with serve(lambda c: Act(status=status, error=error)) as server:
        replies = ask(requests(50), settings(server, concurrency=4))
        assert len(server.calls) <= 4
    for reply in replies.values():
        assert reply.code == ErrorCode.CAPTION_BACKEND
        assert str(status) in reply.message and "mend:" in reply.message
    wanted = "some-model" if status == 404 else VARIABLE
    assert all(wanted in r.message for r in replies.values())


def test_no_money_left_is_no_reason_to_wait() -> None:
    error = {"message": "quota", "code": "insufficient_quota"}
    with serve(lambda c: Act(status=429, error=error)) as server:
        replies = ask(requests(30), settings(server, concurrency=2, retry_max_wait_s=60))
        assert len(server.calls) <= 2
    assert all("top it up" in r.message for r in replies.values())


def test_a_server_that_is_gone_is_not_asked_for_ever() -> None:
    """After 10 requests in a row failed for good, the rest fails at once."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # a port that nobody listens on
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        with serve() as server:
            given = settings(server, base_url=url, max_retries=1, concurrency=2)
            replies = ask(requests(500), given)
    assert {r.code for r in replies.values()} == {ErrorCode.CAPTION_BACKEND}
    told = Counter("in a row" in r.message for r in replies.values())
    assert told[True] >= 480


def test_a_refused_request_leaves_the_others_alone() -> None:
    """Too long, or filtered: final for this one, and no reason to ask again."""

    def script(call: Call) -> Act:
        if call.request_id == "clip1/0":
            return Act(status=400, error={"message": "hm", "code": "content_filter"})
        return GOOD

    with serve(script) as server:
        replies = ask(requests(3), settings(server))
        assert server.counts()["clip1/0"] == 1
    assert replies["clip1/0"].code == ErrorCode.CAPTION_INVALID
    assert replies["clip0/0"].text and replies["clip2/0"].text


def test_structured_steps_down_once(caplog: pytest.LogCaptureFixture) -> None:
    """json_schema, json_object, then none: each refusal is met once, told once, seen in replies."""

    def script(call: Call) -> Act:
        form = call.body.get("response_format")
        if form is not None:
            return Act(status=400, error={"message": f"response_format {form['type']}: no"})
        return Act(wait_s=0.01)

    with serve(script) as server, caplog.at_level(logging.WARNING):
        replies = ask(requests(20, schema=answer_schema()), settings(server, concurrency=1))
        assert len(server.calls) == 22
    assert all(r.text == caption_text(n) for n, r in replies.items())
    assert all("response_format off" in r.message for r in replies.values())
    assert [r.getMessage() for r in caplog.records if "refuses" in r.getMessage()] == [
        "openai:some-model: the server refuses response_format json_schema, going on with"
        " json_object",
        "openai:some-model: the server refuses response_format json_object, going on with off",
    ]


def test_structured_steps_down_in_parallel() -> None:
    """Sixteen refusals of json_schema at a time take one step, not two."""

    def script(call: Call) -> Act:
        if call.body["response_format"]["type"] == "json_schema":
            return Act(status=422, error={"message": "json_schema is not supported"}, wait_s=0.05)
        return GOOD

    with serve(script) as server:
        ask(requests(40, schema=answer_schema()), settings(server, concurrency=16))
        forms = Counter(c.body["response_format"]["type"] for c in server.calls)
    assert forms["json_object"] == 40
    assert 1 <= forms["json_schema"] <= 16


def test_newer_name_of_the_token_limit() -> None:
    refusal = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    error = {"message": refusal, "code": "unsupported_parameter"}

    def script(call: Call) -> Act:
        return Act(status=400, error=error) if "max_tokens" in call.body else GOOD

    with serve(script) as server:
        replies = ask(requests(4), settings(server, concurrency=1))
        assert len(server.calls) == 5
        assert server.calls[-1].body["max_completion_tokens"] == 77
    assert all(r.text for r in replies.values())


def test_a_field_that_the_model_refuses_stops_all() -> None:
    error = {"message": "'temperature' does not support 0", "code": "unsupported_value"}
    with serve(lambda c: Act(status=400, error=error)) as server:
        replies = ask(requests(20), settings(server, concurrency=1))
        assert len(server.calls) == 1
    assert all("temperature" in r.message and "mend:" in r.message for r in replies.values())


def test_swapped_answers_are_never_delivered() -> None:
    """Two answers change places on the way: the ids that come back give it away."""
    with serve(lambda c: Act(swap=c.total in (5, 6), wait_s=0.01)) as server:
        replies = ask(requests(30), settings(server, concurrency=4))
    for name, reply in replies.items():
        assert reply.text in (None, caption_text(name))
        assert reply.code in (None, ErrorCode.CAPTION_GATE)
    codes = Counter(r.code for r in replies.values())
    assert codes[None] >= 4
    assert codes[ErrorCode.CAPTION_GATE] >= 20  # nothing more is asked of such a server


def test_swapped_answers_without_ids_cannot_be_seen_here() -> None:
    """What the captioner's pictures of known content are for."""
    with serve(lambda c: Act(silent_swap=True, echo=False)) as server:
        replies = ask(requests(2), settings(server, concurrency=2))
    assert replies["clip0/0"].text == caption_text("clip1/0")


def test_calls_are_limited() -> None:
    """Retries count; what is left over is told apart and tried again by the next run."""
    with serve(lambda c: FAULTS["broken"] if c.total % 3 == 0 else GOOD) as server:
        replies = ask(requests(40), settings(server, max_calls_per_run=17, concurrency=6))
        assert len(server.calls) == 17
    codes = Counter(r.code for r in replies.values())
    assert codes == {None: 12, ErrorCode.CAPTION_BUDGET: 28}
    assert any("max_calls_per_run" in r.message for r in replies.values())


def test_no_calls_at_all() -> None:
    with serve() as server:
        replies = ask(requests(3), settings(server, max_calls_per_run=0))
        assert not server.calls
    assert {r.code for r in replies.values()} == {ErrorCode.CAPTION_BUDGET}


def test_money_is_limited() -> None:
    """120 micro-dollars an answer: never more than the limit, with 16 requests at a time."""
    price = Price(input_per_mtok=1.0, output_per_mtok=1.0)
    with serve(lambda c: Act(wait_s=0.02)) as server:
        given = settings(server, price=price, max_spend=0.003, concurrency=16)
        backend = given.make()
        replies = list(backend.answer(requests(60)))
        answered = [r for r in replies if r.text]
        spent = sum(price.of(r.input_tokens or 0, r.output_tokens or 0) for r in answered)
        assert backend.spent == pytest.approx(spent)
        assert 0.0025 < spent <= 0.003
        assert len(server.calls) == len(answered)
        codes = Counter(r.code for r in replies)
        assert set(codes) == {None, ErrorCode.CAPTION_BUDGET}
        backend.close()


def test_money_follows_the_servers_counts() -> None:
    """A model that takes 100 times the tokens of the estimate: the first call tells."""
    price = Price(input_per_mtok=1.0, output_per_mtok=0.0)
    usage = {"prompt_tokens": 5000, "completion_tokens": 1}
    with serve(lambda c: Act(changes={"usage": usage}, wait_s=0.02)) as server:
        given = settings(server, price=price, max_spend=0.0226, concurrency=8)
        backend = given.make()
        replies = list(backend.answer(requests(30)))
        assert sum(r.text is not None for r in replies) == 4
        assert backend.spent == pytest.approx(0.02)
        backend.close()


def test_what_was_never_sent_costs_nothing() -> None:
    price = Price(input_per_mtok=1.0, output_per_mtok=1000.0)
    with socket.socket() as held, serve() as server:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
        backend = settings(server, base_url=url, price=price, max_spend=0.1, max_retries=3).make()
        (reply,) = backend.answer(requests(1))
        assert reply.code == ErrorCode.CAPTION_BACKEND
        assert (backend.calls, backend.spent) == (4, 0.0)
        backend.close()


def test_money_of_calls_without_an_answer() -> None:
    """A call that ran out of time may be charged for: it counts at its estimate."""
    price = Price(input_per_mtok=1.0, output_per_mtok=1000.0)
    with serve(lambda c: Act(wait_s=0.4)) as server:
        given = settings(
            server, price=price, max_spend=0.2, timeout_s=0.1, max_retries=9, concurrency=1
        )
        backend = given.make()
        (reply,) = backend.answer(requests(1))
        assert reply.code == ErrorCode.CAPTION_BUDGET
        assert len(server.calls) == 2  # 77 tokens at 1000 per million are 0.077
        assert backend.spent == pytest.approx(0.154, rel=0.01)
        backend.close()


def test_the_key_is_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Not in replies, messages or logs, even when the server sends it back."""
    acts = [
        LEAK,
        Act(status=401, error={"message": f"Incorrect API key provided: {KEY}"}),
        Act(text=f"the key is {KEY}"),
        Act(body=f"{KEY} is no JSON".encode()),
        Act(status=418, body=KEY.encode(), headers={"Content-Type": "text/plain"}),
    ]
    for act in acts:
        with serve(lambda c, act=act: act) as server, caplog.at_level(logging.DEBUG):
            replies = ask(requests(2), settings(server, max_retries=1))
            assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
        for reply in replies.values():
            assert KEY not in str(dataclasses.asdict(reply))
            assert KEY not in repr(reply)
    assert len(caplog.records) > 10
    for record in caplog.records:
        assert KEY not in record.getMessage() + str(record.args) + str(record.exc_info)
