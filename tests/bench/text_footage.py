"""Labelled footage for the text stage: text of known kind, size and style drawn on real pictures.

Pictures are drawn at the footage's own size, and brought to the size and JPEG quality of the stored
samples at the end, as the signals pass does. The font is the one that Pillow carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tests.bench.footage import footage
from tests.media import Camera

Style = Literal["outline", "box", "plain"]
Drawn = tuple[np.ndarray, list[tuple[float, float, float, float]]]
"""A picture and the boxes of its lines: left, top, right, bottom as fractions."""
# Footage without text; seen by eye. Moving cameras first, then standing ones.
MOVING = ("crystal.mp4", "frog.mp4", "monster.mp4", "elf.mp4", "02_cups.mp4", "video.mp4")
STANDING = ("bottle-detection.mp4", "one-by-one-person-detection.mp4", "01_dog.mp4", "flower.mp4")
SAMPLE_PX, SAMPLE_QUALITY = 512, 90
NUM_PICTURES = 8
LINES = (
    *("I never said that I would come back.", "Where were you last night?", "- Nobody knows."),
    *(
        "We have to leave before the sun rises",
        "and the river is too high to cross.",
        "Look at me.",
    ),
    *("He told them everything he knew.", "It was raining when we met,", "Goodbye, my friend."),
)
NAMES = ("Anna Berg", "Luis Ortega", "Mei Tanaka", "Jonas Keller", "Priya Nair", "Tom Whitfield")
ROLES = ("Director", "Camera", "Sound mixer", "Editor", "Costumes", "Gaffer", "Music by", "Grip")


@dataclass(frozen=True, kw_only=True)
class TextClip:
    """A labelled clip.

    Attributes:
        name: What it is made of.
        kind: The right ``text_kind``.
        height: Height of the letters from ascender to descender, share of the picture's height.
        style: How they are drawn.
        alpha: Opacity.
        moving: The camera moves.
        pictures: uint8 BGR pictures, one per second.
        boxes: Boxes of each picture's lines.
    """

    name: str
    kind: str
    height: float = 0.0
    style: str = ""
    alpha: float = 1.0
    moving: bool = True
    pictures: list[np.ndarray] = field(default_factory=list, repr=False)
    boxes: list[list[tuple[float, float, float, float]]] = field(default_factory=list, repr=False)

    def row(self) -> dict[str, object]:
        """The stage's input row."""
        return {
            "clip_id": self.name,
            "video_id": "v",
            "sample_pts_s": [float(i) for i in range(len(self.pictures))],
            "sample_jpegs": [as_sample(p) for p in self.pictures],
        }


def as_sample(picture: np.ndarray) -> bytes:
    """A picture as the signals pass stores it."""
    scale = min(1.0, SAMPLE_PX / max(picture.shape[:2]))
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, SAMPLE_QUALITY])[1].tobytes()


@lru_cache(maxsize=4)
def background(name: str, num: int = NUM_PICTURES) -> list[np.ndarray]:
    """Pictures of a named file, one per second, BGR; a drawn pan where it is not here."""
    paths = [p for p in footage([name]) if p.name == name]
    if not paths:
        return drawn_background(seed=sum(map(ord, name)), moving=name not in STANDING, num=num)
    return read_pictures(paths[0], num)


def drawn_background(
    *, seed: int, moving: bool, num: int = NUM_PICTURES, size: tuple[int, int] = (854, 480)
) -> list[np.ndarray]:
    """A camera over a texture, BGR."""
    camera = Camera(pan_per_s=0.05 * moving, tilt_per_s=0.01 * moving, seed=seed % 7)
    return [cv2.cvtColor(p, cv2.COLOR_RGB2BGR) for p in camera.shoot(*size, range(num))]


def read_pictures(path: Path, num: int, start_s: float = 0.0, step_s: float = 1.0) -> list:
    """Every ``step_s`` a picture; the last ones again when the file is too short."""
    found: list[np.ndarray] = []
    with av.open(str(path)) as source:
        for frame in source.decode(video=0):
            if frame.time is not None and frame.time >= start_s + step_s * len(found) - 1e-6:
                found.append(frame.to_ndarray(format="bgr24"))
            if len(found) == num:
                break
    return found


def put_line(
    picture: np.ndarray,
    text: str,
    *,
    height: float,
    centre: tuple[float, float],
    style: Style = "outline",
    alpha: float = 1.0,
    colour: tuple[int, int, int] = (255, 255, 255),
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Draw one line; its box is that of the letters.

    Args:
        picture: uint8 BGR.
        text: The line.
        height: Ascender to descender, share of the picture's height.
        centre: x, y as fractions.
        style: Black rim, translucent black bar behind, or letters alone.
        alpha: Opacity.
        colour: Of the letters, BGR.
    """
    rows, columns = picture.shape[:2]
    font = _font(height * rows)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    rim = max(1, round(0.06 * height * rows)) if style == "outline" else 0
    at = (centre[0] * columns, centre[1] * rows)
    box = draw.textbbox(at, text, font=font, anchor="mm", stroke_width=rim)
    if style == "box":
        pad = 0.25 * height * rows
        bar = (box[0] - pad, box[1] - pad, box[2] + pad, box[3] + pad)
        draw.rectangle(bar, fill=(16, 16, 16))
        image = Image.blend(Image.fromarray(picture), image, 0.6)
        draw = ImageDraw.Draw(image)
    kind = {"stroke_width": rim, "stroke_fill": (0, 0, 0)} if rim else {}
    draw.text(at, text, font=font, anchor="mm", fill=colour, **kind)
    mixed = np.asarray(image)
    if alpha < 1:
        mixed = cv2.addWeighted(mixed, alpha, picture, 1 - alpha, 0)
    scale = (columns, rows, columns, rows)
    left, top, right, bottom = (
        float(np.clip(v / s, 0, 1)) for v, s in zip(box, scale, strict=True)
    )
    return mixed, (left, top, right, bottom)


@lru_cache(maxsize=64)
def _font(height_px: float) -> ImageFont.FreeTypeFont:
    """Pillow's own font at a height from ascender to descender."""
    font = ImageFont.load_default(100)
    assert isinstance(font, ImageFont.FreeTypeFont)
    top, bottom = font.getbbox("Ag")[1::2]
    return font.font_variant(size=max(4.0, 100 * height_px / (bottom - top)))


Draw = Callable[[np.ndarray, int], Drawn]
"""Draws on a picture at a second."""


def subtitle(height: float, style: Style = "outline", alpha: float = 1.0) -> Draw:
    """Another line every two seconds, with a pause now and then."""

    def draw(picture: np.ndarray, second: int) -> Drawn:
        if second % 7 == 4:
            return picture, []
        boxes = []
        lines = [LINES[second // 2 % len(LINES)]]
        if second // 2 % 3 == 1:
            lines.append(LINES[(second // 2 + 4) % len(LINES)])
        for i, text in enumerate(reversed(lines)):
            centre = (0.5, 0.93 - height / 2 - i * 1.5 * height)
            picture, box = put_line(
                picture, text, height=height, centre=centre, style=style, alpha=alpha
            )
            boxes.append(box)
        return picture, boxes

    return draw


def logo(height: float, alpha: float = 1.0, corner: int = 1, text: str = "NEWS 24") -> Draw:
    """A word in a corner, all the time: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""

    def draw(picture: np.ndarray, second: int) -> Drawn:
        del second
        x = 0.12 if corner % 2 == 0 else 0.88
        y = 0.08 if corner < 2 else 0.92
        picture, box = put_line(
            picture, text, height=height, centre=(x, y), style="plain", alpha=alpha
        )
        return picture, [box]

    return draw


def title(height: float, card: bool) -> Draw:
    """Two lines in the middle, over the picture or on a dark card."""

    def draw(picture: np.ndarray, second: int) -> Drawn:
        if card:
            picture = np.full_like(picture, (40, 24, 20))
        elif second >= 5:
            return picture, []
        boxes = []
        for i, text in enumerate(("The Long River", "Chapter Two")):
            picture, box = put_line(
                *(picture, text),
                height=height * (1 - 0.3 * i),
                centre=(0.5, 0.45 + 1.5 * height * i),
                style="plain",
            )
            boxes.append(box)
        return picture, boxes

    return draw


def credits_(height: float, card: bool, speed: float = 0.07) -> Draw:
    """Many lines, scrolling up; speed in picture heights per second."""

    def draw(picture: np.ndarray, second: int) -> Drawn:
        if card:
            picture = np.zeros_like(picture)
        boxes, pitch = [], 1.7 * height
        top = 0.9 - speed * second
        for i in range(60):
            y = top + (i - 20) * pitch
            if not height < y < 1 - height:
                continue
            text = f"{ROLES[i % len(ROLES)]}   {NAMES[i * 5 % len(NAMES)]}"
            picture, box = put_line(picture, text, height=height, centre=(0.5, y), style="plain")
            boxes.append(box)
        return picture, boxes

    return draw


def clip(name: str, kind: str, source: list[np.ndarray], *draws: Draw, **facts: object) -> TextClip:
    """Draw on every picture of a source."""
    pictures, boxes = [], []
    for second, picture in enumerate(source):
        found = []
        for draw in draws:
            picture, more = draw(picture, second)
            found += more
        pictures.append(picture)
        boxes.append(found)
    return TextClip(name=name, kind=kind, pictures=pictures, boxes=boxes, **facts)  # pyright: ignore


def scene_clip(name: str, still: np.ndarray, height: float, move: str) -> TextClip:
    """Two boards in a picture that a camera pans over, zooms into, shakes or rests before."""
    rows, columns = still.shape[:2]
    big = cv2.resize(still, (columns * 3 // 2, rows * 3 // 2), interpolation=cv2.INTER_CUBIC)
    tall = big.shape[0]
    boards = []
    for text, x, y in (("EXIT 12 NORTH", 0.45, 0.4), ("Fresh bread", 0.66, 0.55)):
        font_px = height * rows
        w, h = int(font_px * 0.62 * len(text)), int(2 * font_px)
        left, top = int(x * big.shape[1] - w / 2), int(y * tall - h / 2)
        board = np.full((h, w, 3), (90, 60, 20), np.uint8)
        board, _ = put_line(board, text, height=font_px / h, centre=(0.5, 0.5), style="plain")
        big[top : top + h, left : left + w] = board
        boards.append((left, top, left + w, top + h))
    pictures, boxes = [], []
    rng = np.random.default_rng(3)
    for second in range(NUM_PICTURES):
        zoom, x, y = 1.0, 0.25 * columns, 0.2 * rows
        if move == "pan":
            x += 0.03 * columns * (second - 4)
        elif move == "zoom":
            zoom = 1 + 0.03 * second
        elif move == "shake":
            x, y = x + rng.uniform(-0.015, 0.015) * columns, y + rng.uniform(-0.015, 0.015) * rows
        matrix = np.array([[1 / zoom, 0, x], [0, 1 / zoom, y]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        pictures.append(cv2.warpAffine(big, matrix, (columns, rows), flags=flags))
        boxes.append(
            [
                tuple((np.array(b, float) - (x, y, x, y)) * zoom / (columns, rows, columns, rows))
                for b in boards
            ]
        )
    return TextClip(
        name=name,
        kind="scene",
        height=height,
        moving=move != "rest",
        pictures=pictures,
        boxes=boxes,
    )


def all_clips(heights: tuple[float, ...] = (0.025, 0.035, 0.05, 0.08, 0.12)) -> Iterator[TextClip]:
    """The benchmark's clips, one at a time."""
    for name in (*MOVING, *STANDING):
        yield clip(f"none {name}", "none", background(name), moving=name in MOVING)
    for i, height in enumerate(heights):
        for j, style in enumerate(("outline", "box", "plain")):
            for name in (MOVING[(i + j) % 6], STANDING[(i + j) % 4]):
                facts = {"height": height, "style": style, "moving": name in MOVING}
                label = f"subtitle {height} {style} {name}"
                yield clip(label, "subtitle", background(name), subtitle(height, style), **facts)
        for j, alpha in enumerate((0.3, 0.5, 0.75, 1.0)):
            for name in (MOVING[(i + j) % 6], STANDING[(i + j) % 4]):
                facts = {"height": height, "alpha": alpha, "moving": name in MOVING}
                label = f"logo {height} {alpha} {name}"
                yield clip(label, "logo", background(name), logo(height, alpha, j), **facts)
        for name in (MOVING[i % 6], STANDING[i % 4]):
            facts = {"height": height, "moving": name in MOVING}
            for card in (True, False):
                on = "card" if card else "over"
                label = f"{height} {on} {name}"
                source = background(name)
                yield clip(f"title {label}", "title", source, title(height, card), **facts)
                if height <= 0.05:
                    draw = credits_(height, card)
                    yield clip(f"credits {label}", "credits", source, draw, **facts)
        for move in ("pan", "zoom", "shake", "rest"):
            name = (*MOVING, *STANDING)[(i * 3) % 10]
            yield scene_clip(f"scene {height} {move} {name}", background(name)[0], height, move)
    for name in (MOVING[0], MOVING[4], STANDING[0], STANDING[2]):
        facts = {"height": 0.05, "moving": name in MOVING}
        draws = (logo(0.05, 0.75), subtitle(0.05))
        yield clip(f"mixed {name}", "mixed", background(name), *draws, **facts)
