"""Canaries: pictures of known content that go to a captioner among the clips of a batch.

A canary is one plain colour. It is asked about in the clips' own words, so that nothing tells it
apart, and its answer has to name its colour and no other one of ``COLOURS``. A captioner that
answers by place instead of by id, that loses pictures, or that sees none, names another colour or
none at all. Only four colours are used, far apart: one that a good model might call by another
name would condemn good batches. White and black are not among them, for they are what models say
of any background.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from curation.captions.answer import THOUGHTS
from curation.captions.request import Frame, Request
from curation.ids import digest

SIDE_PX = 224
TIMES_S = (0.0, 0.5, 1.0)
DURATION_S = 1.5
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 20, 20),
    "green": (20, 160, 40),
    "blue": (20, 40, 220),
    "yellow": (245, 220, 20),
}
"""Name -> RGB."""
NAMES: dict[str, str] = {
    "red": r"reds?|crimson|scarlet|vermilion",
    "green": r"greens?|emerald",
    "blue": r"blues?|azure|cobalt|navy|ultramarine",
    "yellow": r"yellows?|golden|gold|lemon",
}
"""What may be said for each. Maroon, orange, lime, cyan and teal lie between, and name none."""
_WORDS = {name: re.compile(rf"\b(?:{names})\b", re.IGNORECASE) for name, names in NAMES.items()}
_DENIED = re.compile(
    r"\b(?:no|not|without|nor|or any|neither)\s+(?:any\s+|the\s+)?\w+", re.IGNORECASE
)
_JOINED = re.compile(r"[_/]|\\n")


@dataclass(frozen=True)
class Canary:
    """One picture of known content.

    Attributes:
        request_id: Of the form of a clip's.
        colour: A key of ``COLOURS``.
    """

    request_id: str
    colour: str

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The same plain picture at ``TIMES_S``."""
        jpeg = _jpeg(self.colour)
        return tuple(Frame(time_s, jpeg) for time_s in TIMES_S)

    def request(
        self,
        system: str,
        prompt: str,
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int = 1024,
    ) -> Request:
        """The clips' own question about this picture."""
        return Request(
            request_id=self.request_id,
            system=system,
            prompt=prompt,
            frames=self.frames,
            duration_s=DURATION_S,
            schema=schema,
            max_tokens=max_tokens,
        )

    def passed(self, text: str) -> bool:
        """True when an answer, JSON or not, names this colour and none of the others.

        What is denied ("no blue") and what a model thought aloud before it answered do not count.
        """
        plain = _DENIED.sub(" ", _JOINED.sub(" ", THOUGHTS.sub("", text)))
        return [name for name, words in _WORDS.items() if words.search(plain)] == [self.colour]


def canaries(batch_key: str, count: int) -> list[Canary]:
    """The canaries of a batch; the same batch always gets the same.

    Args:
        batch_key: What tells the batch from others.
        count: So many; up to ``len(COLOURS)`` all differ, and never two neighbours are alike.
    """
    order = sorted(
        COLOURS, key=lambda name: hashlib.sha256(f"{batch_key}:{name}".encode()).digest()
    )
    return [
        Canary(f"{digest('canary', batch_key, i)}/0", order[i % len(order)]) for i in range(count)
    ]


@lru_cache(maxsize=len(COLOURS))
def _jpeg(colour: str) -> bytes:
    red, green, blue = COLOURS[colour]
    picture = np.full((SIDE_PX, SIDE_PX, 3), (blue, green, red), np.uint8)
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert done, "OpenCV writes no JPEG"
    return data.tobytes()
