"""What a line of text is: subtitle, logo, credits, title, scene, or not to be told.

The evidence, strongest first, with the confidence it gives (set by hand; ``tests/bench/text.py``
prints how often each is right):

- 0.9: the line stands still while the picture moves (laid over), or moves with it (scene);
- 0.8: other letters come at the same place, row after row;
- 0.7: many lines scroll alone; lines on a plain card; a line moves by itself (in the scene);
- 0.6: a line comes or goes while the picture stands still (or something hides a sign);
- 0.5: nothing but where it stands. A standing camera shows a sign in the street exactly as it
  shows a title; outside the places of subtitles and logos, such text is ``unclear``.

Places: subtitles are centred in the lower third, logos are small and in a corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from curation.signals.text_pictures import Line, Pictures
from curation.signals.text_tracks import SAME_LETTERS, Step, Track, laid_over

Kind = Literal["subtitle", "logo", "credits", "title", "scene", "unclear"]
OVERLAY: frozenset[str] = frozenset({"subtitle", "logo", "credits", "title"})
LOWER_THIRD = 2 / 3
CENTRED = 0.1
"""How far the middle of a subtitle may be from the picture's, share of its width."""
CORNER = (0.3, 0.25)
"""Parts of the width and height that are a corner's."""
LOGO_AREA = 0.08
"""A larger box is no logo, share of the picture."""
LOGO_PRESENCE = 0.6
"""Share of the pictures that a logo is found in at least."""
MANY_LINES = 5
"""Credits have as many lines in a picture; what scrolls, :data:`FEW_SCROLLING`."""
FEW_SCROLLING = 3
SAME_ROW = 0.02
"""Rows of subtitles differ less in height above the ground, share of the picture's height."""


@dataclass(frozen=True)
class Judged:
    """A track and what it is.

    Attributes:
        track: The track.
        kind: What it is.
        confidence: 0-1; see the module.
    """

    track: Track
    kind: Kind
    confidence: float


def judge_tracks(pictures: Pictures, tracks: list[Track]) -> list[Judged]:
    """Say of each track what it is."""
    scene = _Scene(pictures, tracks)
    return [_judge(scene, track) for track in tracks]


class _Scene:
    """What the tracks of a clip have in common."""

    def __init__(self, pictures: Pictures, tracks: list[Track]) -> None:
        self.pictures, self.tracks = pictures, tracks
        self.num = len(pictures.grey)
        self.lines: list[list[Line]] = [[] for _ in range(self.num)]
        for track in tracks:
            for line in track.lines:
                self.lines[line.at].append(line)
        self.rows = [_rows(lines) for lines in self.lines]
        shown = [len(rows) for rows in self.rows if rows]
        self.many_lines = bool(shown) and float(np.median(shown)) >= MANY_LINES
        self.scrolls = self._scrolls()
        steps = [pictures.still_share(i, i + 1) for i in range(self.num - 1)]
        known = [s for s in steps if s is not None]
        self.plain = not known
        self.stands = bool(known) and float(np.median(known)) > 0.5
        self.moves = bool(known) and not self.stands

    def _scrolls(self) -> bool:
        """Several lines at a time move up or down by one way, and the picture does not."""
        steps = [(track.lines[i + 1].at, s) for track in self.tracks for i, s in _moving(track)]
        alone = [at for at, s in steps if not s.scene_moves_along]
        if len(alone) < 0.6 * len(steps):
            return False
        return any(alone.count(at) >= FEW_SCROLLING for at in set(alone))

    def row_of(self, line: Line) -> np.ndarray:
        """The box of the whole row that a line is in."""
        return next(box for box, members in self.rows[line.at] if any(m is line for m in members))

    def subtitle_place(self, track: Track) -> bool:
        """Centred in the lower third, in most pictures."""
        fit = []
        for line in track.lines:
            row = self.row_of(line)
            middle = (row[0] + row[2]) / 2
            fit.append(line.centre[1] > LOWER_THIRD and abs(middle - 0.5) <= CENTRED)
        return float(np.mean(fit)) > 0.5

    def comes_or_goes(self, track: Track) -> bool:
        """Its letters are not there a picture or two before or after, and the scene is the same."""
        first, last = track.lines[0], track.lines[-1]
        for line, ats in (
            (first, (first.at - 1, first.at - 2)),
            (last, (last.at + 1, last.at + 2)),
        ):
            seen = [at for at in ats if 0 <= at < self.num]
            same = [laid_over(self.pictures, line, at)[0] >= SAME_LETTERS for at in seen]
            still = [(self.pictures.still_share(*sorted((line.at, at))) or 0) > 0.5 for at in seen]
            if seen and all(still) and not any(same):
                return True
        return False

    def other_letters(self, track: Track) -> bool:
        """Other lines come at the height of this one, or its own letters change."""
        if any(not s.same for s in track.steps):
            return True
        mine = track.lines[0]
        for other in self.tracks:
            if other is track or not self.subtitle_place(other):
                continue
            theirs = other.lines[0]
            apart = {line.at for line in other.lines}.isdisjoint(m.at for m in track.lines)
            level = abs(theirs.centre[1] - mine.centre[1]) <= SAME_ROW
            if apart and level and 0.7 <= theirs.height / mine.height <= 1.43:
                return True
        return False


def _judge(scene: _Scene, track: Track) -> Judged:
    presence = len(track.lines) / scene.num
    over_moving = track.still and any(s.scene_still is False for s in track.steps)
    keeps = track.still and all(s.same for s in track.steps)
    if scene.scrolls and not keeps:
        return Judged(track, "credits", 0.7)
    if track.moved_along:
        return Judged(track, "scene", 0.9)
    if scene.many_lines and (scene.plain or over_moving or (scene.stands and not track.steps)):
        return Judged(track, "credits", 0.7)
    if track.steps and not track.still:
        return Judged(track, "scene", 0.7)
    # A faint logo over a moving picture is found in some of its frames only.
    if _in_corner(track) and (presence >= LOGO_PRESENCE or (over_moving and keeps)):
        return Judged(track, "logo", 0.9 if over_moving else 0.5)
    if scene.subtitle_place(track):
        if over_moving:
            return Judged(track, "subtitle", 0.9)
        if scene.other_letters(track):
            return Judged(track, "subtitle", 0.8)
        return Judged(track, "subtitle", 0.7 if scene.plain else 0.5)
    if over_moving:
        return Judged(track, "title", 0.9)
    if scene.plain:
        return Judged(track, "title", 0.7)
    if scene.moves and not track.steps:
        return Judged(track, "scene", 0.5)
    if scene.comes_or_goes(track):
        return Judged(track, "title", 0.6)
    return Judged(track, "unclear", 0.5)


def _moving(track: Track) -> list[tuple[int, Step]]:
    """Steps straight up or down, with their index."""
    found = []
    for i, step in enumerate(track.steps):
        x, y = np.abs(step.move_px)
        if not step.still and step.same and y > 2 and x <= max(2.0, 0.2 * y):
            found.append((i, step))
    return found


def _in_corner(track: Track) -> bool:
    box = track.box
    x, y = (box[:2] + box[2:]) / 2
    small = float(np.prod(box[2:] - box[:2])) <= LOGO_AREA
    return small and min(x, 1 - x) <= CORNER[0] and min(y, 1 - y) <= CORNER[1]


def _rows(lines: list[Line]) -> list[tuple[np.ndarray, list[Line]]]:
    """Lines side by side as one row, with its box."""
    rows: list[tuple[np.ndarray, list[Line]]] = []
    for line in sorted(lines, key=lambda line: line.box[0]):
        for i, (box, members) in enumerate(rows):
            shared = min(box[3], line.box[3]) - max(box[1], line.box[1])
            lower = min(box[3] - box[1], line.height)
            # Heights are shares of another side than widths; near enough for a gap.
            if shared > 0.5 * lower and line.box[0] - box[2] < 2 * lower:
                both = np.concatenate(
                    [np.minimum(box[:2], line.box[:2]), np.maximum(box[2:], line.box[2:])]
                )
                rows[i] = (both, [*members, line])
                break
        else:
            rows.append((line.box, [line]))
    return rows


def kind_of_clip(judged: list[Judged], num_pictures: int) -> tuple[str, float | None]:
    """The kind of a clip's text, and its confidence; ``none`` and null without text.

    Kinds in a quarter of the pictures with text count; one that has less than a seventh of the
    area of all text does not, unless it is a logo. Two and more are ``mixed``.
    """
    if not judged:
        return "none", None
    kinds = sorted({j.kind for j in judged})
    at = {k: {line.at for j in judged if j.kind == k for line in j.track.lines} for k in kinds}
    area = {k: sum(_area(j) for j in judged if j.kind == k) for k in kinds}
    with_text = len(set().union(*at.values()))
    total = sum(area.values())
    counted = [
        k
        for k in kinds
        if len(at[k]) >= 0.25 * with_text
        and (area[k] >= total / 7 or (k == "logo" and len(at[k]) >= LOGO_PRESENCE * num_pictures))
    ]
    counted = counted or [max(kinds, key=lambda k: area[k])]
    mine = [j for j in judged if j.kind in counted]
    weight = [_area(j) for j in mine]
    confidence = float(np.average([j.confidence for j in mine], weights=weight))
    return (counted[0] if len(counted) == 1 else "mixed"), confidence


def _area(judged: Judged) -> float:
    return float(sum(line.width * line.height for line in judged.track.lines))
