"""Catalogs made by hand: sources, clips, scores and verdicts without any video."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import typer

from curation.catalog.catalog import Catalog
from curation.storage import Storage
from pipelines import cli
from pipelines.compare.cli import register
from pipelines.config import load_config

RUN = "20260101T000000000000-aaaaaa"
CLIP_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One row of every table that a kept clip has."""

    name: str
    video: str = "v1"
    start_s: float = 0.0
    end_s: float = CLIP_S
    verdict: str | None = "kept"
    reasons: Sequence[str] = ()
    sharpness: float | None = 0.5
    caption: str | None = "A dog."
    more: dict[str, Any] = field(default_factory=dict)


def make_root(
    root: Path, clips: Sequence[Clip], *overrides: str, videos: Sequence[str] | None = None
) -> Catalog:
    """A dataset root whose latest run made these clips."""
    config = load_config("laptop", list(overrides))
    plan = config.plan()
    shutil.copytree(_empty_tables(), root)
    catalog = Catalog(Storage(root))
    catalog.start_run(RUN, "curate", config.model_dump(mode="json"), plan)
    stages = plan.fingerprints()
    videos = videos if videos is not None else sorted({c.video for c in clips})
    add = _Adder(catalog, plan.table_fingerprints())
    add("sources", [{"source_id": f"s{v}", "uri": f"/in/{v}.mp4", "etag": "e"} for v in videos])
    add("identities", [{"source_id": f"s{v}", "etag": "e", "video_id": v} for v in videos])
    grain = {s.name: s.grain == "video" for s in plan.stages}
    done = [
        {"video_id": v, "source_id": f"s{v}", "stage": s, "fingerprint": p, "once": grain[s]}
        for v in videos
        for s, p in stages.items()
    ]
    add("done", done)
    lengths = {v: max((c.end_s for c in clips if c.video == v), default=0.0) for v in videos}
    add(
        "decodes",
        [{"video_id": v, "video_duration_s": lengths[v], "missing_s": 0.0} for v in videos],
    )
    add("videos", [{"video_id": v, "width_px": 8} for v in videos])
    ids = [{"clip_id": c.name, "video_id": c.video} for c in clips]
    spans = [
        {"start_s": c.start_s, "end_s": c.end_s, "duration_s": c.end_s - c.start_s} for c in clips
    ]
    add("clips", [i | s for i, s in zip(ids, spans, strict=True)])
    add(
        "scores", [i | {"sharpness": c.sharpness} | c.more for i, c in zip(ids, clips, strict=True)]
    )
    kept = [(i, c) for i, c in zip(ids, clips, strict=True) if c.verdict == "kept"]
    add("media", [i | {"media_path": f"media/{c.name}.mp4"} for i, c in kept])
    add("captions", [i | {"caption_medium": c.caption} for i, c in kept if c.caption])
    add(
        "verdicts",
        [
            i | {"verdict": c.verdict, "reasons": list(c.reasons)}
            for i, c in zip(ids, clips, strict=True)
            if c.verdict is not None
        ],
    )
    return catalog


@functools.cache
def _empty_tables() -> Path:
    """The tables of the preset, made once: making them takes longer than a comparison."""
    folder = Path(tempfile.mkdtemp(prefix="clipmill-test-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Catalog(Storage(folder)).create(load_config("laptop", []).plan().table_schemas())
    return folder


class _Adder:
    """Appends rows under the plan's fingerprints."""

    def __init__(self, catalog: Catalog, prints: dict[str, str]) -> None:
        self._catalog, self._prints = catalog, prints

    def __call__(self, table: str, rows: list[dict[str, Any]]) -> None:
        schema = self._catalog.dataset(table).schema
        stamp = {} if table not in self._prints else {"fingerprint": self._prints[table]}
        self._catalog.append(table, pa.Table.from_pylist([stamp | r for r in rows], schema=schema))


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


def clipmill(*arguments: str) -> Done:
    """Run the real entry point with the command, in this process; as wide as a CI log."""
    app = typer.Typer()
    register(app)
    app.command(name="other")(lambda: None)  # one command alone would have no name
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(cli, "app", app),
        mock.patch.object(sys, "argv", ["clipmill", *arguments]),
        mock.patch.dict("os.environ", {"COLUMNS": "80"}),
    ):
        try:
            cli.main()
        except SystemExit as exc:
            code = exc.code
    return Done(int(code), out.getvalue(), err.getvalue())
