"""How much text the text stage finds, and what it takes it for, on labelled footage.

    python -m tests.bench.text [--input-px 320 416 512 736] [--heights 0.025 0.05] [--errors]

Text of known kind, size and style is drawn on real pictures (see ``text_footage.py``). A line is
found when boxes cover half of it. Prints recall by kind and size, clips without text in which any
was found, the table of kinds, how often each confidence is right, and CPU time per frame.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curation.signals.text_area import covered
from curation.stages.text import OverlayText
from tests.bench.text_footage import TextClip, all_clips
from tests.curation.chain import run_stage

KINDS = ("none", "subtitle", "logo", "credits", "title", "scene", "mixed")
HEIGHTS = (0.025, 0.035, 0.05, 0.08, 0.12)


@dataclass
class Report:
    """What the benchmark counts.

    Attributes:
        lines: Kind, height and alpha of each line, and whether it was found.
        kinds: Right and given kind of each clip.
        sure: Confidence of each clip's kind, and whether it is right.
        clips: Each clip and its row.
        cpu_s: CPU seconds of the stage.
        num_frames: Frames looked at.
    """

    lines: list[tuple[str, float, float, bool]] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    sure: list[tuple[float, bool]] = field(default_factory=list)
    clips: list[tuple[TextClip, dict[str, Any]]] = field(default_factory=list)
    cpu_s: float = 0.0
    num_frames: int = 0

    def recall(self, **wanted: object) -> tuple[float, int]:
        """Share of the lines found, of all with the wanted ``kind``, ``height``, ``alpha``."""
        hits = [
            found
            for kind, height, alpha, found in self.lines
            if wanted.items() <= {"kind": kind, "height": height, "alpha": alpha}.items()
        ]
        return (float(np.mean(hits)) if hits else float("nan")), len(hits)

    def accuracy(self, *kinds: str) -> float:
        """Share of the clips of some kinds that were given the right one."""
        mine = {k: n for k, n in self.kinds.items() if not kinds or k[0] in kinds}
        return sum(n for (a, b), n in mine.items() if a == b) / max(1, sum(mine.values()))


def is_right(clip: TextClip, given: str) -> bool:
    """Text of a scene before a standing camera is rightly ``unclear``."""
    return given == clip.kind or (clip.kind == "scene" and not clip.moving and given == "unclear")


def measure(clips: Iterable[TextClip], stage: OverlayText) -> Report:
    """Run the stage on labelled clips."""
    report = Report()
    for clip in clips:
        row = clip.row()
        started = time.process_time()
        tables, failures = run_stage(stage, [row])
        report.cpu_s += time.process_time() - started
        assert not failures
        score = tables["scores_text"].to_pylist()[0]
        boxes = tables["text_boxes"].to_pylist()
        report.num_frames += min(len(clip.pictures), stage.num_frames)
        report.clips.append((clip, score))
        right = is_right(clip, score["text_kind"])
        report.kinds[clip.kind, clip.kind if right else score["text_kind"]] += 1
        if score["text_kind_confidence"] is not None:
            report.sure.append((score["text_kind_confidence"], right))
        for second, lines in enumerate(clip.boxes):
            mine = [b for b in boxes if b["time_s"] == second]
            found = np.array([[b[s] for s in ("left", "top", "right", "bottom")] for b in mine])
            for line in lines:
                hit = is_covered(np.array(line), found.reshape(-1, 4))
                report.lines.append((clip.kind, clip.height, clip.alpha, hit))
    return report


def is_covered(line: np.ndarray, boxes: np.ndarray) -> bool:
    """Boxes cover half of a line."""
    low, high = line[:2], line[2:]
    inside = np.concatenate([(boxes[:, :2] - low), (boxes[:, 2:] - low)], axis=1)
    inside /= np.tile(np.maximum(high - low, 1e-9), 2)
    inside = np.clip(inside, 0, 1)
    return covered(inside) >= 0.5


def show(report: Report, heights: Iterable[float]) -> None:
    """Print the tables."""
    print("recall of lines by letter height (share of the picture's height; number of lines)")
    for kind in ("subtitle", "title", "credits", "scene"):
        cells = [report.recall(kind=kind, height=h) for h in heights]
        print(f"  {kind:16}" + "".join(f"{r:8.2f} ({n:3})" for r, n in cells))
    for alpha in (0.3, 0.5, 0.75, 1.0):
        cells = [report.recall(kind="logo", height=h, alpha=alpha) for h in heights]
        print(f"  logo alpha {alpha:<5}" + "".join(f"{r:8.2f} ({n:3})" for r, n in cells))
    print("kinds: rows are right, columns were given")
    given = (*KINDS, "unclear")
    print(" " * 10 + "".join(f"{k:>9}" for k in given))
    for kind in KINDS:
        counts = [report.kinds[kind, g] for g in given]
        print(f"  {kind:8}" + "".join(f"{n or '.':>9}" for n in counts))
    print(f"accuracy {report.accuracy():.3f}")
    by_sure: dict[float, list[bool]] = defaultdict(list)
    for sure, right in report.sure:
        by_sure[round(sure, 1)].append(right)
    cells = [f"{s}: {np.mean(r):.2f} ({len(r)})" for s, r in sorted(by_sure.items())]
    print("right by confidence:", ", ".join(cells))
    print(f"{1000 * report.cpu_s / max(1, report.num_frames):.0f} ms of CPU per frame")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How much text is found, and taken for what.")
    parser.add_argument("--input-px", type=int, nargs="+", default=[416])
    parser.add_argument("--heights", type=float, nargs="+", default=list(HEIGHTS))
    parser.add_argument("--errors", action="store_true", help="name the clips taken for others")
    args = parser.parse_args()
    for input_px in args.input_px:
        print(f"--- input of {input_px} px")
        stage = OverlayText.model_validate({"input_px": input_px})
        report = measure(all_clips(tuple(args.heights)), stage)
        show(report, args.heights)
        for clip, row in report.clips if args.errors else []:
            if not is_right(clip, row["text_kind"]):
                shares = {k: round(v, 2) for k, v in row.items() if k.endswith("_share")}
                print(f"  {clip.name}: {row['text_kind']} {row['text_kind_confidence']} {shares}")


if __name__ == "__main__":
    main()
