"""Costs: the rules for pictures against published examples, estimates, sums, waits."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from curation.captions.backends.settings import Price
from curation.captions.cost import (
    RULES,
    ImageRule,
    estimate,
    estimate_tokens,
    image_tokens,
    of_rows,
)
from curation.captions.retry import Backoff, Pause, retry_after_s
from curation.captions.tables import CAPTIONS

PRICE = Price(input_per_mtok=2.0, output_per_mtok=8.0)


@pytest.mark.parametrize(
    ("rule", "size_px", "tokens"),
    [
        ("openai-tiles", (1024, 1024), 765),  # the examples of OpenAI's guide
        ("openai-tiles", (2048, 4096), 1105),
        ("openai-tiles", (512, 512), 255),
        ("openai-patches", (1024, 1024), 1659),  # 1024 patches * 1.62
        ("qwen2.5-vl", (448, 448), 16 * 16 + 2),
        ("qwen2.5-vl", (1280, 720), 46 * 26 + 2),
        ("qwen2.5-vl", (28, 28), 4 + 2),  # enlarged to the least area
        ("qwen3-vl", (512, 512), 16 * 16 + 2),
    ],
)
def test_published_examples(rule: ImageRule, size_px: tuple[int, int], tokens: int) -> None:
    assert image_tokens(*size_px, rule) == tokens


def test_low_detail_is_flat() -> None:
    assert image_tokens(4000, 3000, "openai-tiles", low_detail=True) == 85


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["qwen2.5-vl", "qwen3-vl"])
def test_qwen_rules_are_the_processors(rule: ImageRule) -> None:
    """The count of patches that transformers' own resizing gives."""
    theirs = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl")
    side, least, most = (28, 3136, 12845056) if rule == "qwen2.5-vl" else (32, 65536, 16777216)
    rng = random.Random(1)
    for _ in range(300):
        width, height = (round(10 ** rng.uniform(1.3, 3.8)) for _ in range(2))
        if max(width, height) / min(width, height) > 150:
            continue
        h, w = theirs.smart_resize(height, width, side, least, most)
        assert image_tokens(width, height, rule) == (h // side) * (w // side) + 2, (width, height)


def test_span_covers_all_rules() -> None:
    span = estimate_tokens(8, 512, 288, 2000)
    for rule in RULES:
        one = estimate_tokens(8, 512, 288, 2000, rule=rule)
        assert span.low <= one.low <= one.high <= span.high
    text = estimate_tokens(0, 0, 0, 3000)
    assert text.low == 600 and text.high == 1020


def test_estimate() -> None:
    one = estimate([4.0] * 10, width_px=448, height_px=448, rule="qwen2.5-vl", price=PRICE)
    assert (one.num_clips, one.num_requests.low) == (10, 10)
    assert one.num_requests.high == pytest.approx(11.5)
    pictures = 10 * 5 * 258  # 0, 1, 2, 3, 4 s
    assert pictures < one.input_tokens.low < pictures + 10 * 700
    assert one.money is not None and one.currency == "USD"
    assert one.money.low == pytest.approx(
        PRICE.of(round(one.input_tokens.low), round(one.output_tokens.low)), rel=1e-3
    )
    assert one.seconds is None
    twice = estimate([4.0] * 20, width_px=448, height_px=448, rule="qwen2.5-vl", price=PRICE)
    assert twice.money is not None and twice.money.high == pytest.approx(2 * one.money.high)


def test_estimate_of_windows_checks_and_rates() -> None:
    long = estimate(
        [30.0, 5.0], width_px=448, height_px=448, window_s=10.0, requests_per_s=2.0, max_frames=8
    )
    assert long.num_requests.low == 3 + 1 + 1  # three windows, their merge, a short clip
    assert long.seconds is not None and long.seconds.low == pytest.approx(2.5)
    assert long.money is None and long.currency == ""
    checked = estimate([5.0] * 8, width_px=448, height_px=448, checks_per_request=0.25)
    assert checked.num_requests.low == pytest.approx(10)
    nothing = estimate([], width_px=448, height_px=448, price=PRICE)
    assert nothing.money is not None and nothing.money.high == 0
    capped = estimate([5.0], width_px=448, height_px=448, max_tokens=100)
    assert (capped.output_tokens.low, capped.output_tokens.high) == (100, pytest.approx(115))


def test_totals_of_rows() -> None:
    rows = [
        {"clip_id": "a", "caption_input_tokens": 1000, "caption_output_tokens": 200,
         "caption_attempts": 1, "caption_busy_s": 1.5},
        {"clip_id": "b", "caption_input_tokens": 3000, "caption_output_tokens": 400,
         "caption_attempts": 3, "caption_busy_s": 2.0},
        {"clip_id": "c", "caption_attempts": 1, "caption_busy_s": 0.5},
    ]  # fmt: skip
    totals = of_rows(pa.Table.from_pylist(rows, schema=CAPTIONS), PRICE)
    assert (totals.num_clips, totals.num_counted, totals.num_attempts) == (3, 2, 5)
    assert (totals.input_tokens, totals.output_tokens, totals.busy_s) == (4000, 600, 4.0)
    assert totals.money == pytest.approx(0.0128)
    empty = of_rows(CAPTIONS.empty_table())
    assert (empty.num_clips, empty.input_tokens, empty.money) == (0, 0, None)


def test_backoff_doubles_with_jitter_up_to_its_limit() -> None:
    backoff, rng = Backoff(max_retries=9, max_wait_s=10.0, first_s=1.0), random.Random(0)
    for retry, whole in enumerate([1, 2, 4, 8, 10, 10]):
        waits = [backoff.delay_s(retry, rng) for _ in range(200)]
        assert whole / 2 <= min(waits) < 0.55 * whole
        assert 0.95 * whole < max(waits) <= whole
    assert backoff.delay_s(10_000, rng) <= 10.0


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers, now_s=10.0) == wait_s


def test_pause_is_never_shortened() -> None:
    pause = Pause()
    assert pause.left_s() == 0
    pause.extend(60)
    pause.extend(1)
    assert 59 < pause.left_s() <= 60
