"""How many changed copies of real clips are found, and how many other clips are taken for copies.

    python -m tests.bench.dedup [--footage DIR] [--copied 2] [--keep FILE] [--sheet PNG]

Of every video some clips are copied in all ways of ``dedup_footage.CHANGES``. Copies are compared
with all originals, and originals with each other, by the search and the comparison that a dataset
gets. A *copy* is found when its edge to its own original is at least ``min_similarity``. A *false
merge* is such an edge to another clip. The share of false merges is told of all pairs of a clip (or
copy) and another clip of the same video: another moment or another shot of the same scene; and of
all pairs of different videos. Two things are counted apart: clips in which nothing changes at all,
which are no different at another moment, and clips too flat to have a print.

Two halves (every other video each) show how much results differ between videos; thresholds were
chosen looking at both. pHash of the picture in the middle is told beside it, by the formula of
ImageHash 4.3 (DCT of 32 x 32 pixels, 8 x 8 lowest frequencies against their median), at Hamming
distances of up to 10 of 64.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.dedup.perceptual import Perceptual, edges_between
from curation.dedup.perceptual_store import PrintFile, store_prints
from curation.signals.prints import read_print
from tests.bench.dedup_footage import CHANGES
from tests.bench.dedup_rows import ROWS, make_rows, prints_of

REPO = Path(__file__).resolve().parents[2]
ASSETS = Path(os.environ.get("CLIPMILL_ASSETS", REPO.parent / "shared" / "assets")) / "videos"
ORIGINAL = "original"
FLAT_CLIPS, FLAT = "flat clips", 4 / 255
"""Detail of clips that have no print worth the name."""
STILL = 1 / 255
"""Change of clips in which nothing moves."""
HAMMING = 10
SHEET_PX, SHEET_TIMES, SHEET_ROWS = 72, 6, 40
Edges = dict[tuple[str, str], float]


@dataclass
class Clip:
    """What is known of a clip or a copy."""

    clip_id: str
    video: str
    clip: str
    change: str
    detail: float
    activity: float
    num_prints: int
    luma: bytes
    middle: int

    @property
    def origin(self) -> tuple[str, str]:
        """The clip it is, or was made of."""
        return self.video, self.clip


def read_clips(rows: pa.Table, prints: pa.Table) -> dict[str, Clip]:
    """Clips by id, with the pHash of the picture in their middle."""
    hashes = [_middle_hash(row) for row in rows.column("frame_print").to_pylist()]
    clips = {}
    for row, middle in zip(prints.to_pylist(), hashes, strict=True):
        clips[row["clip_id"]] = Clip(
            row["clip_id"],
            row["video"],
            row["clip"],
            row["change"],
            row["print_detail"] or 0.0,
            row["print_change"] or 0.0,
            row["num_prints"],
            row["print_luma"],
            middle,
        )
    return clips


def _middle_hash(frames: list[bytes | None]) -> int:
    known = [p for p in frames if p is not None]
    if not known:
        return 0
    low = cv2.dct(read_print(known[len(known) // 2]).astype(np.float32))[:8, :8]
    bits = (low > np.median(low)).ravel()
    return int("".join("1" if b else "0" for b in bits), 2)


def store(prints: pa.Table, folder: Path, wanted: Callable[[str], bool]) -> PrintFile:
    """The prints of some changes as the deduplication reads them."""
    folder.mkdir()
    changes, counts = (prints.column(name).to_pylist() for name in ("change", "num_prints"))
    mask = [wanted(change) and num > 1 for change, num in zip(changes, counts, strict=True)]
    columns = ["clip_id", "print_times_s", "print_luma", "duration_s"]
    chosen = prints.filter(pa.array(mask)).select(columns)
    return store_prints(chosen.to_batches(), folder)


def measure(prints: pa.Table, settings: Perceptual) -> tuple[Edges, float]:
    """Similarities of the pairs that the deduplication finds, and CPU seconds."""
    started, edges = time.process_time(), {}
    with tempfile.TemporaryDirectory() as folder:
        originals = store(prints, Path(folder) / "a", lambda change: change == ORIGINAL)
        copies = store(prints, Path(folder) / "b", lambda change: change != ORIGINAL)
        for own, other in ((copies, originals), (originals, None)):
            for batch in edges_between(own, other, settings):
                for row in batch.select(["clip_a", "clip_b", "similarity"]).to_pylist():
                    edges[row["clip_a"], row["clip_b"]] = row["similarity"]
                    edges[row["clip_b"], row["clip_a"]] = row["similarity"]
    return edges, time.process_time() - started


def hash_edges(clips: dict[str, Clip]) -> Edges:
    """Pairs that pHash takes for the same."""
    originals = [c for c in clips.values() if c.change == ORIGINAL]
    return {
        pair: 1.0
        for a in clips.values()
        for b in originals
        if a is not b and (a.middle ^ b.middle).bit_count() <= HAMMING
        for pair in ((a.clip_id, b.clip_id), (b.clip_id, a.clip_id))
    }


def pairs_of(clips: dict[str, Clip]) -> Iterator[tuple[Clip, Clip]]:
    """Every clip and copy with every original that is no copy of the same clip, once."""
    originals = sorted((c for c in clips.values() if c.change == ORIGINAL), key=lambda c: c.clip_id)
    for a in clips.values():
        for b in originals:
            if a.origin != b.origin and (a.change != ORIGINAL or a.clip_id < b.clip_id):
                yield a, b


@dataclass
class Outcome:
    """What a method gives on some videos.

    Attributes:
        found: Per kind of change, whether each copy was found.
        merged: Per kind of other pair, whether each was taken for the same.
    """

    found: dict[str, list[bool]]
    merged: dict[str, list[bool]]

    @property
    def all_found(self) -> list[bool]:
        """Of all copies that have prints."""
        return [f for kind, some in self.found.items() if kind != FLAT_CLIPS for f in some]


def judge(clips: dict[str, Clip], edges: Edges, least: float, videos: set[str]) -> Outcome:
    """Count what is right and wrong on some videos."""
    kinds = {change.name: change.kind for change in CHANGES}
    own = {c.origin: c for c in clips.values() if c.change == ORIGINAL}
    found, merged = defaultdict(list), defaultdict(list)
    for clip in clips.values():
        if clip.change != ORIGINAL and clip.video in videos:
            first = own[clip.origin]
            kind = FLAT_CLIPS if first.detail < FLAT else kinds[clip.change]
            found[kind].append(edges.get((clip.clip_id, first.clip_id), 0.0) >= least)
    for a, b in pairs_of(clips):
        if a.video in videos:
            same = edges.get((a.clip_id, b.clip_id), 0.0) >= least
            merged[_pair_kind(a, b)].append(same)
    return Outcome(found, merged)


def _pair_kind(a: Clip, b: Clip) -> str:
    if a.video != b.video:
        return "other videos"
    if max(a.activity, b.activity) < STILL:
        return "same video, nothing moves"
    return "same video"


def show(name: str, outcomes: dict[str, Outcome]) -> None:
    """Print a table: recall by kind, then false merges."""
    kinds = list(dict.fromkeys([*(c.kind for c in CHANGES), FLAT_CLIPS]))
    print(f"\n{name}\n| | " + " | ".join(outcomes) + " |\n|---|" + "---|" * len(outcomes))
    for kind in kinds:
        cells = [_share(o.found.get(kind, [])) for o in outcomes.values()]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print("| **all copies** | " + " | ".join(_share(o.all_found) for o in outcomes.values()) + " |")
    for kind in ("same video", "other videos", "same video, nothing moves"):
        cells = [_share(o.merged.get(kind, []), digits=2) for o in outcomes.values()]
        print(f"| false: {kind} | " + " | ".join(cells) + " |")


def _share(values: list[bool], digits: int = 1) -> str:
    return f"{100 * float(np.mean(values)):.{digits}f} % of {len(values)}" if values else "-"


def sheet(clips: dict[str, Clip], edges: Edges, least: float, path: Path) -> int:
    """Draw the prints of missed copies and false merges in pairs; returns how many there are."""
    own = {c.origin: c for c in clips.values() if c.change == ORIGINAL}
    rows: list[tuple[float, Clip, Clip, str]] = []
    for clip in clips.values():
        first = own[clip.origin]
        score = edges.get((clip.clip_id, first.clip_id), 0.0)
        if clip.change != ORIGINAL and first.detail >= FLAT and score < least:
            rows.append((score, clip, first, "missed"))
    for a, b in pairs_of(clips):
        score = edges.get((a.clip_id, b.clip_id), 0.0)
        if score >= least:
            rows.append((score, a, b, "merged"))
    rows.sort(key=lambda r: (r[3], r[0], r[1].clip_id))
    half = SHEET_ROWS // 2
    by_kind = [[r for r in rows if r[3] == kind] for kind in ("missed", "merged")]
    lines = [_drawn(*row) for kind in by_kind for row in kind[:: max(1, len(kind) // half)][:half]]
    if lines:
        cv2.imwrite(str(path), np.vstack(lines))
    return len(rows)


def _drawn(score: float, a: Clip, b: Clip, what: str) -> np.ndarray:
    strips = [np.hstack(_pictures(clip)) for clip in (a, b)]
    text = np.full((SHEET_PX, 430), 255, np.uint8)
    for line, words in enumerate(
        (f"{what} {score:.3f}", f"{a.video} {a.clip} {a.change}", f"{b.video} {b.clip}")
    ):
        place = (6, 20 + 22 * line)
        cv2.putText(text, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1, cv2.LINE_AA)
    gap = np.full((SHEET_PX, 10), 255, np.uint8)
    line = np.hstack([text, strips[0], gap, strips[1]])
    return np.pad(line, ((0, 4), (0, 0)), constant_values=255)


def _pictures(clip: Clip) -> list[np.ndarray]:
    side = int((len(clip.luma) / clip.num_prints) ** 0.5)
    luma = np.frombuffer(clip.luma, np.uint8).reshape(-1, side, side)
    at = np.linspace(0, len(luma) - 1, SHEET_TIMES).round().astype(int)
    size = (SHEET_PX, SHEET_PX)
    return [cv2.resize(luma[i], size, interpolation=cv2.INTER_NEAREST) for i in at]


def rows_of(options: argparse.Namespace) -> pa.Table:
    """The rows to compare: made, or read again."""
    if options.keep and options.keep.exists():
        return pq.read_table(options.keep, schema=ROWS)
    rows: list[dict[str, Any]] = []
    for video in sorted(f for f in options.footage.iterdir() if f.suffix in (".mp4", ".mpg")):
        rows += make_rows(video, options.copied)
        print(f"{video.name}: {len(rows)} clips and copies so far", flush=True)
    table = pa.Table.from_pylist(rows, schema=ROWS)
    if options.keep:
        pq.write_table(table, options.keep)
    return table


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--footage", type=Path, default=ASSETS / "real", help="folder of videos")
    parser.add_argument("--copied", type=int, default=2, help="clips copied of each video")
    parser.add_argument("--keep", type=Path, help="Parquet file of what is compared, made once")
    parser.add_argument("--sheet", type=Path, help="PNG of misses and false merges")
    options = parser.parse_args()
    rows = rows_of(options)
    prints = prints_of(rows)
    clips = read_clips(rows, prints)
    settings = Perceptual()
    edges, cpu_s = measure(prints, settings)
    videos = sorted({c.video for c in clips.values()})
    halves = {"half A": set(videos[::2]), "half B": set(videos[1::2])}
    hashed = hash_edges(clips)
    show(
        f"{len(videos)} videos, {len(clips)} clips and copies, {cpu_s:.0f} s of CPU",
        {
            **{n: judge(clips, edges, settings.min_similarity, v) for n, v in halves.items()},
            "all": judge(clips, edges, settings.min_similarity, set(videos)),
            "pHash, all": judge(clips, hashed, 0.5, set(videos)),
        },
    )
    for least in (0.7, 0.75, 0.78, 0.8, 0.85, 0.9):
        outcome = judge(clips, edges, least, set(videos))
        merged = _share(outcome.merged["same video"], 2)
        print(f"at {least}: {_share(outcome.all_found)} found, {merged} of the same video merged")
    if options.sheet:
        print(sheet(clips, edges, settings.min_similarity, options.sheet), "errors in all")


if __name__ == "__main__":
    main()
