"""Lines of text followed through the sampled pictures of a clip, and whether they stand still.

Text of the scene moves as the scene does; text laid over the picture does not. So each line is
followed from picture to picture, and the picture without its text is compared with itself at the
same place. Pictures lie a second and more apart, too far for optical flow: what stays is measured,
not how far the rest went.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from curation.signals.text_pictures import PLAY_PX, Line, Pictures

STILL_PX = 3.0
"""A line that moves no further stands still: the detector's boxes jitter that much (512 px)."""
EXACT_STILL_PX = 1.5
"""The same where the letters themselves could be laid over each other."""
SAME_LETTERS = 0.6
"""Correlation from which two pictures of a line show the same letters."""
MOSTLY = 0.6
"""Share of its steps in which a still line stands still."""
LOOK_BACK = 2
"""Pictures in which a line may be missed and still be followed."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a line went from one picture to the next it is found in.

    Attributes:
        move_px: x, y it moved by.
        still: It stands where it stood.
        same: It shows the same letters.
        scene_still: The picture around stands still; None where it is too plain to tell.
        scene_moves_along: The picture moved by the same way.
    """

    move_px: np.ndarray
    still: bool
    same: bool
    scene_still: bool | None
    scene_moves_along: bool


@dataclass(kw_only=True)
class Track:
    """One place or moving line of text.

    Attributes:
        lines: Where it was found, in order of time.
        steps: One less.
    """

    lines: list[Line]
    steps: list[Step] = field(default_factory=list)

    @property
    def still(self) -> bool:
        """It was found twice or more, mostly at one place: the detector may slip once."""
        still = [s.still for s in self.steps]
        return bool(still) and sum(still) >= MOSTLY * len(still)

    @property
    def moved_along(self) -> bool:
        """It moved, and the picture with it."""
        return not self.still and any(s.scene_moves_along for s in self.steps)

    @property
    def box(self) -> np.ndarray:
        """What all its boxes cover."""
        boxes = np.array([line.box for line in self.lines])
        return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])


def follow(pictures: Pictures, lines: list[list[Line]]) -> list[Track]:
    """Join the lines of successive pictures into tracks.

    Lines at one place are one track even if their letters change, as those of subtitles do.
    """
    tracks: list[Track] = []
    for at, found in enumerate(lines):
        recent = [t for t in tracks if at - t.lines[-1].at <= LOOK_BACK]
        pairs = [
            (link, track)
            for track in recent
            for line in found
            if (link := _link(pictures, track.lines[-1], line)) is not None
        ]
        taken: set[int] = set()
        for link, track in sorted(pairs, key=lambda p: -p[0].likeness):  # stable
            if track.lines[-1].at == at or link.line.slot in taken:
                continue
            taken.add(link.line.slot)
            track.steps.append(_step(pictures, track.lines[-1], link))
            track.lines.append(link.line)
        tracks += [Track(lines=[line]) for line in found if line.slot not in taken]
    return tracks


@dataclass(frozen=True, kw_only=True)
class _Link:
    """A line that may be the next of a track."""

    line: Line
    likeness: float
    move_px: np.ndarray
    still: bool
    same: bool


def _link(pictures: Pictures, a: Line, b: Line) -> _Link | None:
    """How alike two lines are; None: not one."""
    overlap = _iou(a.box, b.box)
    sizes = (a.width, b.width), (a.height, b.height)
    alike_size = all(0.7 <= x / y <= 1.43 for x, y in sizes)
    if not alike_size and overlap < 0.5:
        return None
    letters, move_px, exact = 0.0, (b.centre - a.centre) * pictures.size_px, False
    if overlap > 0.3:
        letters, fine_px = laid_over(pictures, a, b.at)
        # What shows between the letters may weigh more than they; then the box knows better.
        if letters >= SAME_LETTERS and float(np.hypot(*(fine_px - move_px))) <= STILL_PX:
            move_px, exact = fine_px, True
    if not exact and alike_size:
        letters = max(letters, _likeness(pictures.crop(a), pictures.crop(b)))
    same = letters >= SAME_LETTERS
    if not same and overlap < 0.5:
        return None
    still = float(np.hypot(*move_px)) <= (EXACT_STILL_PX if exact else STILL_PX)
    if not same:  # other letters, or a faint logo: the row has to stay
        still = abs(float(move_px[1])) <= STILL_PX
    # The same letters elsewhere, as in credits, count for more than others in the same place.
    likeness = (1 + letters if same else 0.0) + overlap
    return _Link(line=b, likeness=likeness, move_px=move_px, still=still, same=same)


def _step(pictures: Pictures, a: Line, link: _Link) -> Step:
    share = pictures.still_share(a.at, link.line.at)
    along = not link.still and pictures.moves_by(a.at, link.line.at, link.move_px)
    return Step(
        move_px=link.move_px,
        still=link.still,
        same=link.same,
        scene_still=None if share is None else share > 0.5,
        scene_moves_along=along,
    )


def laid_over(pictures: Pictures, a: Line, at: int) -> tuple[float, np.ndarray]:
    """Best correlation of a line's pixels near the same place of another picture, and the move."""
    found = cv2.matchTemplate(pictures.around(at, a.box), pictures.crop(a), cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, y) = cv2.minMaxLoc(found)
    return float(best), np.array([x - PLAY_PX, y - PLAY_PX], float)


def _likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two lines brought to one size."""
    small = [cv2.resize(p, (96, 24), interpolation=cv2.INTER_AREA) for p in (a, b)]
    return float(cv2.matchTemplate(small[0], small[1], cv2.TM_CCOEFF_NORMED)[0, 0])


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    areas = float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]))
    return shared / max(areas - shared, 1e-12)
