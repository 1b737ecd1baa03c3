"""A captioner that truly looks, at colours alone, and misbehaves when it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from curation.captions.backends.settings import BackendSettings
from curation.captions.request import Backend, Reply, Request
from curation.stages.sampled import picture

COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}
"""Names and sRGB values."""
Deed = Literal[
    "none", "swap", "rotate", "drop", "twice", "stranger", "blind", "garbage", "refuse", "fail"
]


def colour_of(request: Request) -> str:
    """The named colour nearest to the mean of what is shown."""
    mean = np.mean([picture(f.jpeg).mean((0, 1))[::-1] for f in request.frames], axis=0)
    return min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))


def describe(request: Request, note: str = "") -> str:
    """An answer in the wanted form."""
    if not request.frames:  # the joining of windows
        text = request.prompt.count(" s: ")
        told = {k: f"Joined from {text} stretches." for k in ("short", "medium", "long")}
        return json.dumps(told)
    colour = colour_of(request)
    times_s = [f.time_s for f in request.frames]
    return json.dumps(
        {
            "short": f"A {colour} picture{note}.",
            "medium": f"A picture of a {colour} ground, seen {len(times_s)} times.",
            "long": f"The picture is {colour} from {times_s[0]:.1f} s to {times_s[-1]:.1f} s.",
            "events": [
                {"start_s": 0.0, "end_s": round(request.duration_s, 3), "text": f"it is {colour}"}
            ],
            "camera": "static",
        }
    )


class ScriptedBackend(Backend):
    """Answers from colours.

    Args:
        deed: What it does wrong.
        times: How many of a request's first attempts are spoilt by garbage or refusals.
    """

    def __init__(self, deed: Deed = "none", times: int = 99) -> None:
        self.deed, self.times = deed, times
        self.asked: list[Request] = []

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "scripted"}

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        self.asked += requests
        texts = [self._text(r) for r in requests]
        ids = [r.request_id for r in requests]
        if self.deed == "swap" and len(ids) > 1:
            ids[0], ids[1] = ids[1], ids[0]
        if self.deed == "rotate":
            ids = ids[1:] + ids[:1]
        if self.deed == "drop":
            ids = ids[1:]
        if self.deed == "twice":
            ids, texts = [*ids, ids[0]], [*texts, texts[0]]
        if self.deed == "stranger":
            ids[0] = "of-another-batch"
        for request_id, text in zip(ids, texts, strict=False):
            if self.deed == "fail":
                yield Reply(request_id=request_id, code="caption_backend", message="it is down")
                continue
            yield Reply(
                request_id=request_id, text=text, input_tokens=7, output_tokens=3, busy_s=0.5
            )

    def _text(self, request: Request) -> str:
        canary = request.duration_s == 1.5 and "/" in request.request_id
        if request.attempt <= self.times and not canary:
            if self.deed == "garbage":
                return f"{colour_of(request)}, I think" if request.frames else "nothing"
            if self.deed == "refuse":
                sorry = "I'm sorry, but I cannot describe this."
                return json.dumps(dict.fromkeys(("short", "medium", "long"), sorry))
        if self.deed == "blind":
            return describe(request).replace(colour_of(request), "colourful")
        return describe(request)


class ScriptedSettings(BackendSettings):
    """Settings of the scripted captioner."""

    operational: ClassVar[frozenset[str]] = BackendSettings.operational | {"deed", "times"}

    kind: Literal["scripted"] = "scripted"
    deed: Deed = "none"
    times: int = 99

    @property
    def model_name(self) -> str:
        return "scripted:colours"

    def make(self) -> ScriptedBackend:
        return ScriptedBackend(self.deed, self.times)
