"""The answer of a captioner: its form, and how text becomes one.

Models wrap JSON in fences, forget brackets, run into their token limit. What can be mended without
guessing at content is mended (and marked so); the rest is refused with a reason, and asked again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import json_repair
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

MAX_EVENTS = 32
LATE_S = 0.75
"""An event may end this much after the clip: models round. Beyond it the times are made up."""
FENCE = re.compile(r"```(?:json)?\s*(.*?)(?:```|\Z)", re.DOTALL)
THOUGHTS = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


class AnswerError(ValueError):
    """Text that is no caption; the message says why, for the error row and for the next try."""


class Event(BaseModel):
    """Something that happens in the clip.

    Attributes:
        start_s: Seconds from the clip's start, half-open span ``[start_s, end_s)``.
        end_s: Its end.
        text: What happens, in the present tense.
    """

    model_config = ConfigDict(frozen=True)

    start_s: float = Field(ge=0, description="seconds from the start of the clip")
    end_s: float = Field(ge=0, description="seconds from the start of the clip")
    text: str = Field(min_length=1, max_length=500, description="what happens, present tense")


class Caption(BaseModel):
    """A clip in words, short to long. Extra keys of a model are dropped.

    Attributes:
        short: One sentence of at most about 15 words.
        medium: One or two sentences.
        long: A paragraph: subjects, what they do over time, setting, light, camera.
        events: What happens when, in order of time.
        camera: What the camera does.
        subjects: Who or what is to be seen.
        setting: Where it is.
        light: Light and time of day, as far as visible.
        style: Real footage, animation, screen recording, ...
    """

    model_config = ConfigDict(frozen=True)

    short: str = Field(min_length=1, max_length=300, description="one sentence, up to 15 words")
    medium: str = Field(min_length=1, max_length=800, description="one or two sentences")
    long: str = Field(min_length=1, max_length=3000, description="a paragraph of 60 to 120 words")
    events: tuple[Event, ...] = Field(
        default=(), max_length=MAX_EVENTS, description="what happens when, in order of time"
    )
    camera: str = Field(default="", max_length=300, description="what the camera does")
    subjects: tuple[str, ...] = Field(
        default=(), max_length=16, description="who or what is to be seen"
    )
    setting: str = Field(default="", max_length=300, description="where it is")
    light: str = Field(default="", max_length=300, description="light and time of day")
    style: str = Field(default="", max_length=300, description="kind of footage")

    @field_validator(
        "short", "medium", "long", "camera", "setting", "light", "style", mode="before"
    )
    @classmethod
    def _one_line(cls, value: Any) -> Any:  # noqa: ANN401 - whatever a model wrote
        return " ".join(value.split()) if isinstance(value, str) else value

    def temporal(self) -> str:
        """The events as one text: ``0.0-2.5 s: a dog runs; 2.5-4.0 s: it stops``."""
        return "; ".join(f"{e.start_s:.1f}-{e.end_s:.1f} s: {e.text}" for e in self.events)


@dataclass(frozen=True)
class Parsed:
    """A caption, and whether its text had to be mended."""

    caption: Caption
    repaired: bool


def answer_schema() -> dict[str, Any]:
    """JSON schema of :class:`Caption`, for prompts and for backends that enforce it."""
    return Caption.model_json_schema()


def merge_schema() -> dict[str, Any]:
    """The same without events: those of the merged parts stand already."""
    schema = Caption.model_json_schema()
    schema["properties"].pop("events")
    schema.pop("$defs", None)
    return schema


def parse_answer(text: str, duration_s: float) -> Parsed:
    """Read an answer.

    Args:
        text: What the model wrote.
        duration_s: Length of the clip: events beyond it are refused.

    Raises:
        AnswerError: There is no usable JSON object, a field is missing or wrong, or events lie
            outside of the clip or out of order.
    """
    data, repaired = _object_in(text)
    try:
        caption = Caption.model_validate(data)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        where = ".".join(str(p) for p in error["loc"]) or "the answer"
        raise AnswerError(f"{where}: {error['msg']}") from exc
    events = _timed(caption.events, duration_s)
    return Parsed(caption.model_copy(update={"events": events}), repaired)


def _object_in(text: str) -> tuple[dict[str, Any], bool]:
    """The JSON object in a text, and whether it was not plain JSON as it stood."""
    text = THOUGHTS.sub("", text).strip()
    try:
        data = json.loads(text)
        if isinstance(data, dict):
            return data, False
    except (ValueError, RecursionError):  # no JSON, numbers without end, brackets without end
        pass
    fenced = FENCE.search(text)
    body = fenced.group(1) if fenced else text
    if "{" not in body:
        raise AnswerError("there is no JSON object in the answer")
    # Its skipping of junk before the object is left to us: prose may hold brackets too.
    try:
        data = json_repair.loads(body[body.index("{") :])
    except (ValueError, RecursionError) as exc:
        raise AnswerError("the answer is no JSON that can be mended") from exc
    if isinstance(data, list):
        data = next((d for d in data if isinstance(d, dict)), None)
    if not isinstance(data, dict) or not data:
        raise AnswerError("there is no JSON object in the answer")
    return data, True


def _timed(events: tuple[Event, ...], duration_s: float) -> tuple[Event, ...]:
    """Events with their ends inside the clip.

    Raises:
        AnswerError: Out of order, backwards, or after the clip's end.
    """
    timed: list[Event] = []
    for event in events:
        if event.end_s < event.start_s:
            raise AnswerError(f"an event ends before it starts: {event.start_s:g}-{event.end_s:g}")
        if event.end_s > duration_s + LATE_S or event.start_s > duration_s:
            raise AnswerError(
                f"an event at {event.start_s:g}-{event.end_s:g} s of {duration_s:.1f} s"
            )
        if timed and event.start_s < timed[-1].start_s:
            raise AnswerError("events are not in order of time")
        timed.append(event.model_copy(update={"end_s": min(event.end_s, round(duration_s, 3))}))
    return tuple(timed)
