"""What captions cost: tokens before a run, from counts of pictures and letters, and after it.

An estimate is a span. What a picture takes depends on the model: Qwen-VL takes one token per merged
patch of 28 or 32 pixels, OpenAI's models count tiles of 512 pixels or patches of 32. Without a rule
the span reaches over all of them. Money follows only where a price is given; none is built in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from curation.captions.backends.settings import Price

ImageRule = Literal["qwen2.5-vl", "qwen3-vl", "openai-tiles", "openai-patches"]
RULES: tuple[ImageRule, ...] = ("qwen2.5-vl", "qwen3-vl", "openai-tiles", "openai-patches")
CHARS_PER_TOKEN = (3.0, 5.0)
"""English text; about 4 by OpenAI's and others' rule of thumb."""
ANSWER_TOKENS = (180, 500)
"""A caption in the wanted form: a paragraph of 60-120 words, two shorter ones, events, JSON."""
REQUEST_TOKENS = 20
"""Chat template around the messages."""
FRAME_CHARS = 12
"""The line with a picture's time."""
WINDOW_CHARS = 800
"""What the merging request quotes of each window: a paragraph of about 120 words."""
AGAIN = 0.15
"""Upper end: this share of the answers is unusable and asked for once more."""


@dataclass(frozen=True)
class Span:
    """A number that lies between two."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def times(self, low: float, high: float | None = None) -> Span:
        """Both ends multiplied."""
        return Span(self.low * low, self.high * (low if high is None else high))


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What captioning is going to take.

    Attributes:
        num_clips: Clips.
        num_requests: Questions asked: windows, merges, checks of integrity; more with retries.
        input_tokens: Read by the model.
        output_tokens: Written by it.
        money: In ``currency``; None: no price was given.
        currency: ISO code; empty without a price.
        seconds: None: no rate was given.
    """

    num_clips: int
    num_requests: Span
    input_tokens: Span
    output_tokens: Span
    money: Span | None = None
    currency: str = ""
    seconds: Span | None = None


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What captions did take, by the backends' own counts.

    Only committed captions are counted: answers of clips that failed, and those to the checks of
    integrity, cost tokens too and stand in no row.

    Attributes:
        num_clips: Rows.
        num_counted: Rows with token counts.
        num_attempts: Answers asked for.
        input_tokens: Sum over the counted rows.
        output_tokens: Likewise.
        busy_s: Seconds of all answers; parallel ones add up.
        money: Of the counted rows; None: no price was given.
        currency: ISO code; empty without a price.
    """

    num_clips: int
    num_counted: int
    num_attempts: int
    input_tokens: int
    output_tokens: int
    busy_s: float
    money: float | None = None
    currency: str = ""


def image_tokens(
    width_px: int, height_px: int, rule: ImageRule, *, low_detail: bool = False
) -> int:
    """Tokens of one picture.

    Sources: Qwen2.5-VL (arXiv 2502.13923: 14-pixel patches merged 2x2) and Qwen3-VL (16-pixel
    patches merged 2x2) with the ``smart_resize`` of their processors, limits of the published
    processor configurations, and a start and an end token. OpenAI's guide "Images and vision",
    calculating costs: GPT-4o and GPT-4.1 by tiles of 512 pixels (85 + 170 each; 85 in low detail),
    GPT-4.1-mini by patches of 32 pixels, at most 1536, times 1.62.
    """
    if rule == "qwen2.5-vl":
        return _merged_patches(width_px, height_px, 28, 3136, 12_845_056) + 2
    if rule == "qwen3-vl":
        return _merged_patches(width_px, height_px, 32, 65_536, 16_777_216) + 2
    if rule == "openai-tiles":
        return 85 if low_detail else _tiles(width_px, height_px)
    return math.ceil(1.62 * min(1536, math.ceil(width_px / 32) * math.ceil(height_px / 32)))


def estimate_tokens(
    num_frames: int,
    width_px: int,
    height_px: int,
    text_chars: int,
    *,
    rule: ImageRule | None = None,
    low_detail: bool = False,
) -> Span:
    """Tokens that one request puts into the model.

    Args:
        num_frames: Pictures shown.
        width_px: Of each.
        height_px: Of each.
        text_chars: Letters of system prompt, prompt and schema.
        rule: How the model counts pictures; None: unknown, the span covers all rules.
        low_detail: Pictures are sent with detail ``low``.
    """
    rules = RULES if rule is None else (rule,)
    each = [0]
    if num_frames:
        each = [image_tokens(width_px, height_px, r, low_detail=low_detail) for r in rules]
    chars = text_chars + num_frames * FRAME_CHARS
    least, most = CHARS_PER_TOKEN
    return Span(
        num_frames * min(each) + chars / most,
        num_frames * max(each) + chars / least + REQUEST_TOKENS,
    )


def estimate(
    durations_s: Sequence[float],
    *,
    width_px: int,
    height_px: int,
    frames_per_s: float = 1.0,
    max_frames: int = 16,
    window_s: float | None = None,
    prompt_chars: int = 3000,
    max_tokens: int = 1024,
    checks_per_request: float = 0.0,
    rule: ImageRule | None = None,
    low_detail: bool = False,
    price: Price | None = None,
    requests_per_s: float | None = None,
) -> Estimate:
    """What captioning these clips is going to take.

    Args:
        durations_s: Length of every clip.
        width_px: Of the pictures as they are sent.
        height_px: Likewise.
        frames_per_s: Pictures that are stored or decoded per second of clip.
        max_frames: Most pictures per request.
        window_s: Longest stretch described at once; None: the whole clip.
        prompt_chars: Letters of prompts and schema, per request.
        max_tokens: Upper limit of an answer.
        checks_per_request: Requests of known answer sent along, as a share of the others.
        rule: How the model counts pictures; None: unknown.
        low_detail: Pictures are sent with detail ``low``.
        price: What the backend's owner charges; None: nothing, or not known.
        requests_per_s: Measured rate of the whole run; None: not known.
    """
    asked = merges = 0
    read = Span(0, 0)
    for duration_s in durations_s:
        count = 1 if not window_s else max(1, math.ceil(duration_s / window_s - 1e-9))
        frames = min(max_frames, math.floor(duration_s / count * frames_per_s) + 1)
        one = estimate_tokens(
            frames, width_px, height_px, prompt_chars, rule=rule, low_detail=low_detail
        )
        asked, read = asked + count, read + one.times(count)
        if count > 1:
            merges += 1
            read += estimate_tokens(0, 0, 0, prompt_chars + count * WINDOW_CHARS)
    checked = 1 + checks_per_request if asked else 1.0
    requests = Span(asked * checked + merges, asked * checked + merges).times(1, 1 + AGAIN)
    share = (asked * checked + merges) / (asked + merges) if asked else 1.0
    read = read.times(share, share * (1 + AGAIN))
    least, most = (min(n, max_tokens) for n in ANSWER_TOKENS)
    written = Span(requests.low * least, requests.high * most)
    return Estimate(
        num_clips=len(durations_s),
        num_requests=requests,
        input_tokens=read,
        output_tokens=written,
        money=None if price is None else _money(read, written, price),
        currency="" if price is None else price.currency,
        seconds=None if not requests_per_s else requests.times(1 / requests_per_s),
    )


def of_rows(rows: pa.Table, price: Price | None = None) -> Totals:
    """What the captions in a table did take.

    Args:
        rows: Of the table ``captions``.
        price: What the backend's owner charges.
    """
    read, written = (rows[f"caption_{n}_tokens"].to_pylist() for n in ("input", "output"))
    input_tokens, output_tokens = int(_total(read)), int(_total(written))
    return Totals(
        num_clips=rows.num_rows,
        num_counted=sum(
            r is not None and w is not None for r, w in zip(read, written, strict=True)
        ),
        num_attempts=int(_total(rows["caption_attempts"].to_pylist())),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        busy_s=float(_total(rows["caption_busy_s"].to_pylist())),
        money=None if price is None else price.of(input_tokens, output_tokens),
        currency="" if price is None else price.currency,
    )


def _total(values: Sequence[float | None]) -> float:
    return sum(v for v in values if v is not None)


def _money(read: Span, written: Span, price: Price) -> Span:
    return Span(
        (read.low * price.input_per_mtok + written.low * price.output_per_mtok) / 1e6,
        (read.high * price.input_per_mtok + written.high * price.output_per_mtok) / 1e6,
    )


def _merged_patches(
    width_px: int, height_px: int, side_px: int, min_pixels: int, max_pixels: int
) -> int:
    """Squares of a picture whose sides are rounded to ``side_px``, within limits of its area."""
    height = max(side_px, round(height_px / side_px) * side_px)
    width = max(side_px, round(width_px / side_px) * side_px)
    if width * height > max_pixels:
        share = math.sqrt(width_px * height_px / max_pixels)
        height = max(side_px, math.floor(height_px / share / side_px) * side_px)
        width = max(side_px, math.floor(width_px / share / side_px) * side_px)
    elif width * height < min_pixels:
        share = math.sqrt(min_pixels / (width_px * height_px))
        height = math.ceil(height_px * share / side_px) * side_px
        width = math.ceil(width_px * share / side_px) * side_px
    return (width // side_px) * (height // side_px)


def _tiles(width_px: int, height_px: int) -> int:
    """Into 2048 x 2048, then the shorter side to 768, then squares of 512; never enlarged."""
    share = min(1.0, 2048 / max(width_px, height_px))
    width, height = width_px * share, height_px * share
    share = min(1.0, 768 / min(width, height))
    tiles = math.ceil(round(width * share) / 512) * math.ceil(round(height * share) / 512)
    return 85 + 170 * tiles
