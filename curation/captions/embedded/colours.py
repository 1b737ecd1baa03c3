"""Colours by name: which of the basic ones fill a picture, and whether it is of one plain colour.

Every pixel of a small copy gets one of the eleven basic colour terms (Berlin and Kay 1969) by its
lightness, chroma and hue in OKLab (Ottosson 2020, https://bottosson.github.io/posts/oklab). The
borders were set by hand on colour charts; what lies near the border of grey gets no name, since
people differ there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

NAMES = (
    *("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple"),
    "pink",
)
SMALL_PX = 96
"""Longer side of the copy that is looked at: shares of the picture, not of its details."""
MIN_MOSTLY, MIN_MOSTLY_EVER = 0.6, 0.5
"""Share of the picture that "mostly" stands for: over all frames, and in nearly every frame."""
MIN_MAIN = 0.22
"""Share of each of two or three main colours ..."""
MIN_MAIN_TOGETHER = 0.7
"""... and of all of them."""
PLAIN_DISTANCE = 0.06
"""No point of a plain picture is further from its middle colour in OKLab: no letter is on it."""

# Borders in OKLab: lightness and chroma of 0-1, hue in degrees. sRGB's pure colours lie at hue 29
# (red), 110 (yellow), 142 (green), 195 (cyan), 264 (blue), 328 (magenta), chroma 0.15-0.32.
BLACK_BELOW, BLACK_CHROMA = 0.24, 0.05
WHITE_ABOVE = 0.90
GREY_CHROMA, NAMED_CHROMA = 0.022, 0.04
"""Grey below the first, a colour above the second, no name between them."""
HUES = (
    (8.0, "pink"),  # upper end of the hue, degrees; read from the top
    (42.0, "red"),
    (82.0, "orange"),
    (116.0, "yellow"),
    (176.0, "green"),
    (222.0, ""),  # turquoise: called green by some and blue by others
    (286.0, "blue"),
    (325.0, "purple"),
    (360.0, "pink"),
)


@dataclass(frozen=True)
class Palette:
    """The colours of a clip.

    Attributes:
        plain: The one colour of all of it; None: it is not plain.
        mostly: The colour that fills most of it; None: none does.
        main: Two or three colours that fill most of it together, largest first; else empty.
        grey_picture: No pixel of any frame has a hue: black and white film, or a grey thing.
    """

    plain: str | None = None
    mostly: str | None = None
    main: tuple[str, ...] = ()
    grey_picture: bool = False


def palette(pictures: Sequence[np.ndarray]) -> Palette:
    """The colours of pictures.

    Args:
        pictures: uint8 BGR [h, w, 3], small copies, at least one.
    """
    labs = [oklab(p) for p in pictures]
    shares = np.array([named_shares(lab) for lab in labs])
    grey = all(_is_grey(lab) for lab in labs)
    plain = {_plain(lab, share) for lab, share in zip(labs, shares, strict=True)}
    if len(plain) == 1 and None not in plain:
        return Palette(plain=plain.pop(), grey_picture=False)
    mean = shares.mean(0)
    order = [int(i) for i in np.argsort(-mean, kind="stable")]
    top = order[0]
    if mean[top] >= MIN_MOSTLY and np.quantile(shares[:, top], 0.1) >= MIN_MOSTLY_EVER:
        return Palette(mostly=NAMES[top], grey_picture=grey)
    main = [i for i in order[:3] if mean[i] >= MIN_MAIN]
    if len(main) < 2 or mean[main].sum() < MIN_MAIN_TOGETHER:
        main = []
    return Palette(main=tuple(NAMES[i] for i in main), grey_picture=grey)


def small(picture: np.ndarray) -> np.ndarray:
    """A small copy with the picture's shape."""
    height, width = picture.shape[:2]
    scale = min(1.0, SMALL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def oklab(picture: np.ndarray) -> np.ndarray:
    """A uint8 BGR picture [h, w, 3] in OKLab: float64 [h, w, 3], lightness 0-1, a, b."""
    rgb = picture[..., ::-1].astype(np.float64) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ TO_CONES.T) @ TO_LAB.T


TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def named_shares(lab: np.ndarray) -> np.ndarray:
    """Share of the pixels with each of ``NAMES``, float64 [11]; the rest has no name."""
    name = _names(lab)
    return np.array([float((name == i).mean()) for i in range(len(NAMES))])


def _names(lab: np.ndarray) -> np.ndarray:
    """Index into ``NAMES`` of each pixel, -1 where people differ."""
    light, chroma = lab[..., 0], np.hypot(lab[..., 1], lab[..., 2])
    hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360
    edges = np.array([end for end, _ in HUES])
    codes = np.array([NAMES.index(n) if n else -1 for _, n in HUES])
    name = codes[np.minimum(np.searchsorted(edges, hue, side="right"), len(codes) - 1)]
    # Dark or dull orange is brown, dark yellow neither brown nor green to all, light red pink.
    warm = name == NAMES.index("orange")
    name = np.where(warm & ((light < 0.66) | (chroma < 0.12)), NAMES.index("brown"), name)
    name = np.where(warm & (light > 0.72) & (chroma < 0.09), -1, name)  # skin, sand
    name = np.where((name == NAMES.index("yellow")) & ((light < 0.7) | (chroma < 0.08)), -1, name)
    reddish = name == NAMES.index("red")
    name = np.where(reddish & (light > 0.72), NAMES.index("pink"), name)
    name = np.where(reddish & (light < 0.72) & (chroma < 0.09), -1, name)
    pink = name == NAMES.index("pink")
    name = np.where(pink & (light < 0.6) & (hue > 300), NAMES.index("purple"), name)
    name = np.where(pink & (light < 0.45) & (hue <= 300), -1, name)
    name = np.where(chroma < NAMED_CHROMA, -1, name)
    name = np.where(chroma < GREY_CHROMA, NAMES.index("grey"), name)
    name = np.where((chroma < GREY_CHROMA) & (light > WHITE_ABOVE), NAMES.index("white"), name)
    return np.where((light < BLACK_BELOW) & (chroma < BLACK_CHROMA), NAMES.index("black"), name)


def _is_grey(lab: np.ndarray) -> bool:
    """No hue anywhere, but for what JPEG leaves."""
    return float(np.quantile(np.hypot(lab[..., 1], lab[..., 2]), 0.999)) < 0.012


def _plain(lab: np.ndarray, shares: np.ndarray) -> str | None:
    points = lab.reshape(-1, 3)
    distance = np.sqrt(((points - np.median(points, axis=0)) ** 2).sum(1))
    if float(distance.max()) > PLAIN_DISTANCE or shares.max() < 0.5:
        return None
    return NAMES[int(shares.argmax())]
