"""Scores of the technical stage for test videos, and a real picture that is always there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from curation.signals.technical_tiles import Luma, Tiles, cut_tiles
from curation.stages.technical import Technical
from pipelines.demo import demo_footage
from tests.curation.chain import Scanned, run_stage, scan
from tests.media import Recording, write_video

Change = Callable[[np.ndarray], np.ndarray]


def technical_stage(**fields: Any) -> Technical:  # noqa: ANN401 - any field
    """A technical stage with the given fields."""
    return Technical(**fields)


def technical(found: Scanned | Path, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """The scores of a whole video as one clip."""
    whole = found if isinstance(found, Scanned) else scan(found)
    tables, failures = run_stage(technical_stage(**fields), [whole.whole_clip()])
    assert not failures
    return tables["scores_technical"].to_pylist()[0]


def shot(
    folder: Path, pictures: Iterable[np.ndarray], how: Recording | None = None, name: str = "a.mp4"
) -> dict[str, Any]:
    """The scores of pictures written as a video."""
    return technical(write_video(folder / name, pictures, how))


@lru_cache(maxsize=1)
def real_picture() -> np.ndarray:
    """A frame of Big Buck Bunny, uint8 RGB [720, 1280, 3]."""
    with av.open(str(demo_footage() / "bigbuckbunny.mp4")) as source:
        frame = next(islice(source.decode(video=0), 30, None))  # the first is a poor keyframe
        return frame.to_ndarray(format="rgb24")


def gray(picture: np.ndarray) -> np.ndarray:
    """Luma of an RGB picture, full range."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def tiles_of(picture: np.ndarray) -> Tiles:
    """Tiles of a gray uint8 picture."""
    tiles = cut_tiles(Luma(plane=picture, shift=0, black=0, span=255))
    assert tiles is not None
    return tiles


def pan(size_px: tuple[int, int], count: int, step_px: int = 4) -> list[np.ndarray]:
    """A window of the real picture that moves to the right, at most 1280 pixels in all."""
    width, height = size_px
    base = real_picture()
    return [base[200 : 200 + height, i * step_px : i * step_px + width] for i in range(count)]
