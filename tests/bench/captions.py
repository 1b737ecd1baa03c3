"""The embedded captioner's sentences beside what they speak of, for judging by eye.

    python -m tests.bench.captions --assets DIR --out FOLDER [--tagger off] [--detector off]
    python -m tests.bench.captions --root DATASET --out FOLDER

``--assets`` curates the videos below a folder first (some minutes); ``--root`` reads a dataset that
is there. Writes one PNG per clip, six frames of it above its sentences, each with a number of its
own, and prints the same sentences and the cost. Whether they are true is for a person to say:
nothing here knows.
"""

from __future__ import annotations

import argparse
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.captions.answer import Caption, parse_answer
from curation.captions.backends.embedded import EmbeddedSettings
from curation.captions.facts import FACTS, facts_in_words
from curation.captions.request import Frame, Request
from curation.catalog.views import Views, open_views
from curation.stages.sampled import spread
from curation.stages.text import OverlayText
from tests.curation.chain import run_stage

NUM_SHOWN = 6
PARTS = ("camera", "setting", "light", "style")
WIDTH_PX, LINE_PX, COLUMNS = 1500, 24, 125


@dataclass(frozen=True)
class Clip:
    """A clip of a dataset root and what a captioner gets of it."""

    name: str
    request: Request


def clips_of(root: str, *, read_text: bool = False) -> Iterator[Clip]:
    """The clips of a dataset root in order, as requests.

    Args:
        root: The dataset.
        read_text: Read the text in the pictures, where the run did not.
    """
    views = open_views(root)
    known = set(views.columns("clips"))
    scalars = sorted({n for s in FACTS.values() for n in s.names if n in known})
    lists = _lists(views)
    rows = views.query("SELECT * FROM clips ORDER BY uri, start_s").to_pylist()
    reader = OverlayText.model_validate({"read": True}) if read_text else None
    for row in rows:
        frames = [f for f in _samples(views, row["video_id"]) if _within(f[0], row)]
        span = slice(row["start_frame"], row["end_frame"])
        facts = {n: row[n] for n in scalars}
        facts |= {n: values[span] for n, values in lists[row["video_id"]].items()}
        jpegs = tuple(Frame(round(t - row["start_s"], 3), jpeg) for t, jpeg in frames)
        if reader is not None and reader.ready:
            told = {"sample_pts_s": [f.time_s for f in jpegs], "clip_id": row["clip_id"]}
            told |= {"sample_jpegs": [f.jpeg for f in jpegs], "video_id": row["video_id"]}
            facts |= run_stage(reader, [told])[0]["scores_text"].to_pylist()[0]
        name = f"{Path(row['uri']).stem}-{row['start_s']:06.1f}s"
        duration_s = row["end_s"] - row["start_s"]
        yield Clip(
            name,
            Request(
                request_id=row["clip_id"],
                system="",
                prompt="",
                frames=jpegs,
                duration_s=duration_s,
                facts=facts,
            ),
        )


def _lists(views: Views) -> dict[str, dict[str, list[Any]]]:
    """The signals of every video, whole."""
    names = [n for n in FACTS["signals"].names if n in views.columns("segments")]
    columns = ", ".join(names)
    sql = f"SELECT video_id, {columns} FROM segments ORDER BY video_id, segment_start_frame"
    found: dict[str, dict[str, list[Any]]] = {}
    for row in views.query(sql).to_pylist():
        mine = found.setdefault(row["video_id"], {n: [] for n in names})
        for name in names:
            mine[name] += row[name]
    return found


def _samples(views: Views, video_id: str) -> list[tuple[float, bytes]]:
    sql = f"SELECT sample_time_s, jpeg FROM frames WHERE video_id = '{video_id}' ORDER BY 1"
    rows = views.query(sql).to_pylist()
    return [(r["sample_time_s"], r["jpeg"]) for r in rows]


def _within(time_s: float, row: dict[str, Any]) -> bool:
    return row["start_s"] <= time_s < row["end_s"]


def statements(caption: Caption) -> list[str]:
    """Everything that a caption says, each once."""
    said = [
        *(f"short: {caption.short}", f"medium: {caption.medium}", f"long: {caption.long}"),
        *(f"subject: {s}" for s in caption.subjects),
        *(f"{e.start_s:g}-{e.end_s:g} s: {e.text}" for e in caption.events),
        *(f"{name}: {text}" for name in PARTS if (text := getattr(caption, name))),
    ]
    return said


def sheet(clip: Clip, lines: list[str]) -> np.ndarray:
    """Six frames of a clip above numbered lines, uint8 BGR."""
    frames = clip.request.frames
    tiles = []
    for i in spread(len(frames), NUM_SHOWN):
        image = cv2.imdecode(np.frombuffer(frames[i].jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        height = round(image.shape[0] * (WIDTH_PX // 3) / image.shape[1])
        tile = cv2.resize(image, (WIDTH_PX // 3, height), interpolation=cv2.INTER_AREA)
        cv2.putText(tile, f"{frames[i].time_s:.1f} s", (8, 22), 0, 0.6, (0, 0, 0), 4)
        cv2.putText(tile, f"{frames[i].time_s:.1f} s", (8, 22), 0, 0.6, (255, 255, 255), 1)
        tiles.append(tile)
    while len(tiles) % 3 or not tiles:
        tiles.append(np.zeros_like(tiles[0]) if tiles else np.zeros((280, 500, 3), np.uint8))
    pictures = np.vstack([np.hstack(tiles[i : i + 3]) for i in range(0, len(tiles), 3)])
    wrapped = [part for line in lines for part in textwrap.wrap(line, COLUMNS) or [""]]
    text = np.full((LINE_PX * (len(wrapped) + 1), WIDTH_PX, 3), 255, np.uint8)
    for i, line in enumerate(wrapped):
        cv2.putText(text, line, (8, LINE_PX * (i + 1)), 0, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([pictures, text])


def run(root: str, out: Path, settings: EmbeddedSettings, *, read_text: bool) -> None:
    """Caption every clip of a root and write its sheet."""
    backend = settings.make()
    out.mkdir(parents=True, exist_ok=True)
    print(settings.model_name, *settings.fallbacks(), sep="\n")
    spent_s, num = 0.0, 0
    for clip in clips_of(root, read_text=read_text):
        started = time.perf_counter()
        (reply,) = backend.answer([clip.request])
        spent_s, num = spent_s + time.perf_counter() - started, num + 1
        if reply.text is None:
            print(f"{clip.name}: {reply.code}: {reply.message}")
            continue
        lines = statements(parse_answer(reply.text, clip.request.duration_s).caption)
        numbered = [f"{i + 1}. {line}" for i, line in enumerate(lines)]
        words = facts_in_words(clip.request.facts, clip.request.duration_s)
        print(f"\n== {clip.name} ({clip.request.duration_s:.1f} s)", *numbered, sep="\n")
        print(*(f"   {w}" for w in words), sep="\n")
        title = f"{clip.name}, {clip.request.duration_s:.2f} s"
        image = sheet(clip, [title, *numbered, "facts: " + " ".join(words)])
        cv2.imwrite(str(out / f"{clip.name}.png"), image)
    print(f"\n{num} clips, {1000 * spent_s / max(1, num):.1f} ms each")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--assets", help="folder of videos, curated first")
    source.add_argument("--root", help="a dataset root")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tagger", choices=("auto", "off"), default="auto")
    parser.add_argument("--detector", choices=("auto", "off"), default="auto")
    parser.add_argument("--read-text", action="store_true", help="read the text in the pictures")
    chosen = parser.parse_args()
    settings = EmbeddedSettings(tagger=chosen.tagger, detector=chosen.detector)
    with tempfile.TemporaryDirectory(prefix="clipmill-captions-") as folder:
        root = chosen.root
        if root is None:
            from typer.testing import CliRunner

            from pipelines.cli import app

            root = str(Path(folder) / "dataset")
            words = ["curate", chosen.assets, "-o", root, "--config", "full", "--engine", "inline"]
            result = CliRunner().invoke(app, words)
            if result.exit_code:
                raise SystemExit(result.output)
        run(root, chosen.out, settings, read_text=chosen.read_text)


if __name__ == "__main__":
    main()
