"""The embedded captioner: true, modest sentences without a vision-language model or a download.

It writes from what was measured of a clip (camera, movement, light, text), from the colours of the
sampled frames, and from two small networks where they are here: EfficientNet-lite0, FastestDet.
It knows nothing of who does what and why, and does not guess. See ``curation/captions/embedded``.
Cost: milliseconds a clip; with both networks 50 ms per frame looked at on one core.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from curation.captions.backends.settings import BackendSettings
from curation.captions.embedded.camera import camera_of
from curation.captions.embedded.colours import palette, small
from curation.captions.embedded.light import light_of
from curation.captions.embedded.motion import motion_of
from curation.captions.embedded.sentences import Known, caption_of
from curation.captions.embedded.things import name_setting, name_things
from curation.captions.request import Backend, Reply, Request
from curation.errors import ErrorCode
from curation.models.registry import file_sha256, find_weights, how_to_get, require_weights
from curation.models.weights import EFFICIENTNET_LITE0, FASTEST_DET, Weights
from curation.stages.sampled import spread

if TYPE_CHECKING:
    from curation.models.fastest_det import ThingFinder
    from curation.models.imagenet import ImageNetClassifier

VERSION = 1
"""Raise it when the same request gets other words."""
LIBRARIES = {
    EFFICIENTNET_LITE0.key: ("torch", "efficientnet_lite_pytorch"),
    FASTEST_DET.key: ("onnxruntime",),
}
"""What runs the networks; weights may lie in the models folder without it."""
MIN_SCORE = 0.3
"""Of the detector's boxes that are looked at at all."""


class EmbeddedSettings(BackendSettings):
    """Settings of the embedded captioner."""

    prompted: ClassVar[bool] = False

    kind: Literal["embedded"] = "embedded"
    tagger: Literal["auto", "off"] = Field(
        default="auto",
        description="classes of EfficientNet-lite0, where it is here (extra `models`)",
    )
    detector: Literal["auto", "off"] = Field(
        default="auto", description="things found by FastestDet, where it is here"
    )
    max_frames: int = Field(
        default=16, ge=1, description="frames that the networks look at, spread evenly"
    )

    @property
    def model_name(self) -> str:
        """The parts that write."""
        parts = "+".join(w.key for w in self.parts())
        return f"embedded-{VERSION}:{parts}" if parts else f"embedded-{VERSION}"

    def parts(self) -> list[Weights]:
        """Weights that are asked for, here, and can be run."""
        return [w for w in self._asked() if find_weights(w) is not None and not _lacks(w)]

    def make(self) -> EmbeddedBackend:
        """The captioner; networks are loaded with the first request that has frames."""
        return EmbeddedBackend(self)

    def identity(self) -> dict[str, Any]:
        """The fields, the version, and which parts are here."""
        parts = {w.key: file_sha256(require_weights(w)) for w in self.parts()}
        return super().identity() | {"version": VERSION, "parts": parts}

    def fallbacks(self) -> list[str]:
        """Parts that are asked for and not here."""
        here = self.parts()
        told = []
        for w in self._asked():
            if w in here:
                continue
            lacks = f"{w.name} is not here" if find_weights(w) is None else f"no {_lacks(w)}"
            mend = how_to_get(w) if find_weights(w) is None else "pip install 'clipmill[models]'"
            told.append(f"{lacks}: fewer things in the picture are named ({mend})")
        return told

    def checksums(self) -> Mapping[str, str]:
        """sha256 of the networks in use."""
        return {w.key: file_sha256(require_weights(w)) for w in self.parts()}

    def _asked(self) -> list[Weights]:
        asked = {EFFICIENTNET_LITE0: self.tagger, FASTEST_DET: self.detector}
        return [w for w, mode in asked.items() if mode == "auto"]


class EmbeddedBackend(Backend):
    """Writes captions; a pure function of the request."""

    def __init__(self, settings: EmbeddedSettings) -> None:
        self.settings = settings
        self._parts = settings.parts()
        self._finder: ThingFinder | None = None
        self._classifier: ImageNetClassifier | None = None

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`EmbeddedSettings.identity`."""
        return self.settings.identity()

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """One reply per request, in order."""
        for request in requests:
            started = time.perf_counter()
            reply = self._reply(request)
            beat()
            busy_s = time.perf_counter() - started
            yield Reply(
                request_id=request.request_id,
                text=reply if isinstance(reply, str) else None,
                code=None if isinstance(reply, str) else ErrorCode.DECODE_FAILED,
                message="" if isinstance(reply, str) else str(reply),
                busy_s=busy_s,
            )

    def _reply(self, request: Request) -> str | ValueError:
        try:
            pictures = [_picture(f.jpeg, f.time_s) for f in request.frames]
        except ValueError as exc:
            return exc
        facts, duration_s = request.facts, request.duration_s
        known = Known(
            duration_s=duration_s,
            camera=camera_of(facts, duration_s),
            motion=motion_of(facts, duration_s),
            facts=facts,
        )
        if pictures:
            known = self._look(known, [f.time_s for f in request.frames], pictures)
        return caption_of(known).model_dump_json()

    def _look(self, known: Known, times_s: list[float], pictures: list[np.ndarray]) -> Known:
        """Add what the pictures show."""
        copies = [small(p) for p in pictures]
        colours = palette(copies)
        light = light_of(copies, known.facts, known.duration_s)
        if colours.plain:
            # Its colour tells how bright it is; networks see things in a plain picture too.
            changes = [said for said in light if said.span_s is not None]
            return replace(known, palette=colours, light=changes)
        known = replace(known, palette=colours, light=light)
        at = spread(len(pictures), self.settings.max_frames)
        looked = [pictures[i] for i in at]
        found, probabilities = self._networks(looked)
        things = name_things([times_s[i] for i in at], found, probabilities)
        return replace(known, things=things, setting=name_setting(probabilities))

    def _networks(self, pictures: list[np.ndarray]) -> tuple[list[Any] | None, np.ndarray | None]:
        """What the detector finds in each picture and the classifier's probabilities."""
        found = probabilities = None
        if FASTEST_DET in self._parts:
            if self._finder is None:
                from curation.models.fastest_det import ThingFinder

                self._finder = ThingFinder(MIN_SCORE)
            found = [self._finder(p) for p in pictures]
        if EFFICIENTNET_LITE0 in self._parts:
            if self._classifier is None:
                from curation.models.imagenet import ImageNetClassifier

                self._classifier = ImageNetClassifier()
            probabilities = self._classifier(p[..., ::-1] for p in pictures)
        return found, probabilities


def _lacks(weights: Weights) -> str:
    """The library that a network needs and that is not installed, or nothing."""
    return next((n for n in LIBRARIES[weights.key] if importlib.util.find_spec(n) is None), "")


def _picture(jpeg: bytes, time_s: float) -> np.ndarray:
    """A frame as uint8 BGR [h, w, 3].

    Raises:
        ValueError: It is no picture.
    """
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if jpeg else None
    if image is None:
        raise ValueError(f"the frame at {time_s:g} s is no picture")
    return image
