"""Shot detection scored: F1, precision and recall by kind, and speed, for every detector.

    python -m tests.bench.shots                       labelled footage beside the checkout
    python -m tests.bench.shots --footage DIR         also composites made here from DIR's videos,
                                                      each of which has to be one single shot
    python -m tests.bench.shots --labelled DIR        also videos of your own with a labels.json

A prediction matches a transition whose frames, widened by two, it touches (a cut is its first new
frame); one prediction per transition. Predictions inside an ``ignore`` stretch do not count. False
alarms belong to the kind that the detector gave them (libraries call everything a cut).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.media.decode import open_video, walk_frames
from curation.signals.transitions import Transition
from curation.stages.signals import Signals
from curation.stages.split import Split, VideoSignals
from infra.shotnet.film import Footage, make_film
from pipelines.shots import signals_row

REPO = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("CLIPMILL_ASSETS", REPO.parent / "shared" / "assets")) / "videos"
DETECTORS = ("content", "adaptive", "histogram", "transnet", "auto")
KINDS = ("cut", "dissolve", "fade", "wipe")
GRADUAL = KINDS[1:]
TOLERANCE_FRAMES = 2
EDGE_FRAMES = 5
MIN_SOURCE_FRAMES = 75


@dataclass
class Tally:
    """Counts of one detector over any number of videos.

    Attributes:
        hits: Found transitions by their true kind.
        missed: Others, by their true kind.
        false_alarms: Predictions that match nothing, by their predicted kind.
        where: Errors as text, for looking at.
    """

    hits: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    false_alarms: Counter[str] = field(default_factory=Counter)
    where: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally's counts."""
        self.hits += other.hits
        self.missed += other.missed
        self.false_alarms += other.false_alarms
        self.where += other.where

    def scores(self, kinds: tuple[str, ...] = KINDS) -> tuple[float, float, float]:
        """F1, precision and recall over some kinds; NaN without any transition."""
        hit = sum(self.hits[k] for k in kinds)
        miss = sum(self.missed[k] for k in kinds)
        false = sum(self.false_alarms[k] for k in kinds)
        if hit + miss == 0:
            return float("nan"), float("nan"), float("nan")
        precision = hit / (hit + false) if hit + false else 0.0
        recall = hit / (hit + miss)
        return 2 * hit / (2 * hit + miss + false), precision, recall


def score(labels: dict[str, Any], predicted: list[Transition], name: str = "") -> Tally:
    """Match predictions to labels.

    Args:
        labels: ``{"transitions": [{kind, start, end}], "ignore": [{start, end}]}``; cuts have
            start = last old frame, end = first new; gradual ones span [start, end).
        predicted: In order.
        name: Put before the errors' descriptions.
    """
    tally = Tally()
    free = list(predicted)
    for true in labels["transitions"]:
        first, last = _extent(true["kind"], true["start"], true["end"])
        low, high = first - TOLERANCE_FRAMES, last + TOLERANCE_FRAMES
        near = [p for p in free if _touches(p, low, high)]
        if near:
            free.remove(near[0])
            tally.hits[true["kind"]] += 1
        else:
            tally.missed[true["kind"]] += 1
            tally.where.append(f"{name} missed {true['kind']} {true['start']}-{true['end']}")
    ignored = labels.get("ignore", [])
    for p in free:
        if not any(_touches(p, i["start"], i["end"]) for i in ignored):
            tally.false_alarms[p.kind] += 1
            text = f"{name} false {p.kind} {p.start_frame}-{p.end_frame} {p.confidence:.2f}"
            tally.where.append(text)
    return tally


def _extent(kind: str, start: int, end: int) -> tuple[int, int]:
    """First and last frame of a transition; a cut is its first new frame."""
    return (end, end) if kind == "cut" else (start, end - 1)


def _touches(p: Transition, low: int, high: int) -> bool:
    first, last = _extent(p.kind, p.start_frame, p.end_frame)
    return first <= high and last >= low


def predict(row: pa.Table, detector: str, **settings: float) -> list[Transition]:
    """Transitions from the stored signals of one video."""
    split = Split.model_validate({"detector": detector, **settings})
    return split.shots(VideoSignals(row))[0]


def labelled(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Videos of a folder with their labels."""
    file = folder / "labels.json"
    if not file.is_file():
        return []
    return [(folder / name, labels) for name, labels in json.loads(file.read_text()).items()]


def made_films(
    folder: Path, target: Path, count: int, seed: int
) -> list[tuple[Path, dict[str, Any]]]:
    """Composites of a folder's videos, each of which has to be one single shot."""
    found = [whole_shot(file) for file in sorted(folder.iterdir())]
    footage = [f for f in found if f.end_frame - f.start_frame >= MIN_SOURCE_FRAMES]
    films = []
    for i in range(count):
        path = target / f"film_{seed + i}.mp4"
        films.append((path, make_film(footage, path, seed + i, num_shots=14)))
    return films


def whole_shot(path: Path) -> Footage:
    """A file that is one shot, without its first and last frames."""
    with open_video(str(path)) as (container, stream):
        num_frames = sum(1 for _ in walk_frames(container, stream))
    return Footage(path, EDGE_FRAMES, num_frames - EDGE_FRAMES)


def evaluate(
    videos: list[tuple[Path, dict[str, Any]]], detectors: tuple[str, ...] = DETECTORS
) -> dict[str, Tally]:
    """Every detector over every video."""
    tallies = {d: Tally() for d in detectors}
    everywhere = Signals.model_validate({"transnet": "everywhere"})
    for path, labels in videos:
        sparse = signals_row(str(path))
        full = signals_row(str(path), everywhere) if "transnet" in detectors else sparse
        for detector in detectors:
            row = full if detector == "transnet" else sparse
            tallies[detector].add(score(labels, predict(row, detector), path.name))
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """A Markdown table."""
    lines = [
        "| detector | F1 | precision | recall | cut | gradual | dissolve | fade | wipe |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, tally in tallies.items():
        f1, precision, recall = tally.scores()
        parts = [tally.scores(k)[0] for k in (("cut",), GRADUAL, *((g,) for g in GRADUAL))]
        cells = [f"{v:.3f}" for v in (f1, precision, recall, *parts)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, help="folder of videos to make composites from")
    parser.add_argument("--labelled", type=Path, help="folder of videos with a labels.json")
    parser.add_argument("--films", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--errors", action="store_true", help="list auto's errors")
    parser.add_argument("--detectors", nargs="+", default=list(DETECTORS))
    options = parser.parse_args()
    sets = {name: labelled(ASSETS / name) for name in ("composites", "real")}
    if options.labelled:
        sets[options.labelled.name] = labelled(options.labelled)
    with tempfile.TemporaryDirectory() as folder:
        if options.footage:
            sets["made here"] = made_films(
                options.footage, Path(folder), options.films, options.seed
            )
        for name, videos in sets.items():
            if not videos:
                print(f"{name}: no labels here")
                continue
            tallies = evaluate(videos, tuple(options.detectors))
            print(f"\n{name}, {len(videos)} videos\n{table(tallies)}", flush=True)
            if options.errors:
                print("\n".join(tallies[options.detectors[-1]].where))


if __name__ == "__main__":
    main()
