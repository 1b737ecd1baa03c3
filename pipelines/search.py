"""Search: the clips of a dataset that look like a picture, a video or a text.

The query is embedded with the model that made the dataset's vectors. Only clips that the latest
run's fingerprint covers and whose source is still there are found, kept or not.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.vectors import holds_embeddings, nearest
from curation.catalog.views import Views
from curation.errors import ClipmillError, ConfigError, MediaError
from curation.media.decode import open_video, time_base, walk_frames
from curation.media.facts import read_facts
from curation.models.embedders import MODELS, Embedder, load_embedder, model_label
from curation.signals.analysis import Sampler
from curation.stages.embed import mean_vector, spread_evenly
from curation.stages.signals import Signals
from curation.storage import fetch
from pipelines.report.words import source_label
from pipelines.search_sheet import draw_sheet

PICTURES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEOS = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm"}
)
QUERY_FRAMES = 8
FIRST_STEP_S = 0.25
"""Between frames taken of a query video; doubled whenever there are too many."""
WIDEN = 4
"""Vectors of clips that no longer exist may be nearer: ask for so many times more."""


@dataclass(frozen=True)
class Space:
    """The vectors of a dataset.

    Attributes:
        table: Where they are.
        fingerprint: Of the rows that count.
        label: ``key@sha12`` of the model that made them.
    """

    table: str
    fingerprint: str
    label: str

    @property
    def key(self) -> str:
        """The model's key."""
        return self.label.partition("@")[0]


def search(
    out: str, query: str, *, limit: int = 12, sheet: str | None = None, exact: bool = False
) -> dict[str, Any]:
    """Find clips.

    Args:
        out: The dataset root.
        query: A text, or the path or URL of a picture or video.
        limit: Most clips found.
        sheet: PNG file to draw the clips found to.
        exact: Compare with every clip even where there is an index.

    Returns:
        ``{"query", "kind": text | picture | video, "model", "sheet", "results": [{rank, cosine,
        clip_id, file, uri, start_s, end_s, verdict, reasons}]}``, best first; cosine -1 to 1.

    Raises:
        ClipmillError: The dataset has no embeddings, its model is not on this machine or knows no
            texts, or the file is no picture or video.
    """
    catalog = Catalog.open(out)
    views = Views(catalog)
    space = _space(catalog, views)
    kind, vector, shown = _embed(query, space)
    results = _results(catalog, views, space, vector, limit, exact=exact)
    report: dict[str, Any] = {
        "query": query,
        "kind": kind,
        "model": space.label,
        "results": results,
        "sheet": None,
    }
    if sheet:
        report["sheet"] = str(draw_sheet(views, report, shown, Path(sheet)))
    return report


def as_table(report: dict[str, Any]) -> pa.Table:
    """The clips found, for people."""
    names = ("rank", "cosine", "file", "start_s", "end_s", "verdict", "clip_id")
    return pa.table({name: [r[name] for r in report["results"]] for name in names})


def _space(catalog: Catalog, views: Views) -> Space:
    """Where the vectors of the latest run are, and what made them."""
    current = catalog.current().tables
    tables = [
        t for t in current if catalog.has(t) and holds_embeddings(t, catalog.dataset(t).schema)
    ]
    if not tables:
        raise ClipmillError(
            "this dataset has no embeddings",
            where=catalog.storage.url,
            mend="add the stage embed to its config and run `clipmill curate` again",
        )
    found = views.query(
        f'SELECT any_value(embedding_model) AS label FROM "{tables[0]}"'
        " WHERE embedding_model IS NOT NULL"
    )
    label = found.column("label")[0].as_py()
    if label is None:
        raise ClipmillError(
            "no clip of this dataset has an embedding",
            where=catalog.storage.url,
            mend='`clipmill sql OUT "select * from embeddings"` shows what there is',
        )
    return Space(tables[0], current[tables[0]], label)


def _embed(query: str, space: Space) -> tuple[str, np.ndarray, np.ndarray | None]:
    """What the query is, its vector, and a BGR picture of it."""
    is_file = _names_file(query)
    if not is_file and not MODELS[space.key].joint_text:
        joint = ", ".join(k for k, m in MODELS.items() if m.joint_text)
        raise ConfigError(
            f"{query!r} is no file, and the vectors of this dataset ({space.key}) know no texts",
            mend=f"name a picture or a video; or embed with one of: {joint}"
            " (embed.model=..., then `clipmill curate` again)",
        )
    embedder = _embedder(space)
    if not is_file:
        return "text", embedder.texts([query])[0], None
    try:
        kind, jpegs = _query_frames(query)
    except MediaError as exc:
        raise ClipmillError(exc.message, where=query) from exc
    pictures = [cv2.imdecode(np.frombuffer(j, np.uint8), cv2.IMREAD_COLOR_RGB) for j in jpegs]
    vectors = embedder.pictures([p for p in pictures if p is not None])
    middle = cv2.imdecode(np.frombuffer(jpegs[len(jpegs) // 2], np.uint8), cv2.IMREAD_COLOR)
    return kind, mean_vector(vectors)[0], middle


def _names_file(query: str) -> bool:
    """True for a file or URL; a text is anything else.

    Raises:
        ConfigError: It is called like a file and is not there, or is a folder.
    """
    if "://" in query:
        return True
    try:
        path = Path(query).expanduser()
        there, folder = path.exists(), path.is_dir()
    except (OSError, ValueError, RuntimeError):  # a long text is no file name
        return False
    called_so = PurePosixPath(query).suffix.lower() in PICTURES | VIDEOS
    if folder or (called_so and not there):
        raise ConfigError("no such file" if not there else "is a folder", where=query)
    return there


def _embedder(space: Space) -> Embedder:
    """The dataset's model, from this machine's file.

    Raises:
        ConfigError: The file is missing, or is another than the one that made the vectors.
    """
    if space.key not in MODELS:
        raise ConfigError(f"the vectors were made by {space.key}, which is not known here")
    embedder = load_embedder(space.key, on_gpu=False)
    here = model_label(MODELS[space.key].weights)
    if here != space.label:
        raise ConfigError(
            f"the vectors were made by {space.label}, the file on this machine is {here}",
            mend="use the same weights, or run `clipmill curate` again with these",
        )
    return embedder


def _query_frames(query: str) -> tuple[str, list[bytes]]:
    """``picture`` or ``video``, and its frames as a dataset stores them: small JPEGs."""
    settings = Signals()  # pyright: ignore[reportCallIssue]
    with tempfile.TemporaryDirectory(prefix="clipmill-search-") as folder:
        suffix = PurePosixPath(query).suffix[:8]
        source = str(Path(query).expanduser()) if "://" not in query else query
        path = fetch(source, Path(folder), lambda _: None, suffix=suffix)
        picture = cv2.imread(path, cv2.IMREAD_COLOR) if cv2.haveImageReader(path) else None
        if picture is not None:
            long_side = max(picture.shape[:2])
            scale = min(1.0, settings.sample_long_side_px / long_side)
            height, width = (max(1, round(s * scale)) for s in picture.shape[:2])
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            quality = [cv2.IMWRITE_JPEG_QUALITY, settings.sample_quality]
            return "picture", [cv2.imencode(".jpg", small, quality)[1].tobytes()]
        facts = read_facts(path)
        sampler = Sampler(
            settings.sample_long_side_px,
            settings.sample_quality,
            facts.rotation_deg,
            facts.sample_aspect_ratio,
        )
        return "video", video_frames(path, sampler)


def video_frames(path: str, sampler: Sampler) -> list[bytes]:
    """Up to ``QUERY_FRAMES`` JPEG frames, spread evenly over a video of any length.

    Args:
        path: Local path.
        sampler: Makes a JPEG of a frame.
    """
    times_s: list[float] = []
    jpegs: list[bytes] = []
    step_s, first_pts = FIRST_STEP_S, None
    with open_video(path) as (container, stream):
        unit = float(time_base(stream))
        for decoded in walk_frames(container, stream):
            first_pts = decoded.pts if first_pts is None else first_pts
            time_s = (decoded.pts - first_pts) * unit
            if times_s and time_s < times_s[-1] + step_s:
                continue
            times_s.append(time_s)
            jpegs.append(sampler(decoded.frame)[0])
            if len(jpegs) >= 8 * QUERY_FRAMES:
                times_s, jpegs, step_s = times_s[::2], jpegs[::2], 2 * step_s
    return [jpegs[i] for i in spread_evenly(times_s, QUERY_FRAMES)]


def _results(
    catalog: Catalog,
    views: Views,
    space: Space,
    vector: np.ndarray,
    limit: int,
    *,
    exact: bool,
) -> list[dict[str, Any]]:
    """The nearest clips that still exist."""
    dataset = catalog.dataset(space.table)
    count = limit
    while True:
        found = nearest(dataset, vector, space.fingerprint, count, exact=exact)
        clips = _clips(views, [n.clip_id for n in found])
        alive = [n for n in found if n.clip_id in clips][:limit]
        if len(alive) == limit or len(found) < count:
            break
        count *= WIDEN
    return [
        {"rank": i, "cosine": n.cosine, "clip_id": n.clip_id, **clips[n.clip_id]}
        for i, n in enumerate(alive, start=1)
    ]


def _clips(views: Views, clip_ids: list[str]) -> dict[str, dict[str, Any]]:
    """What is shown of clips, by id; those that no longer exist are left out."""
    if not clip_ids:
        return {}
    ids = ", ".join(f"'{i}'" for i in clip_ids)
    rows = views.query(
        f"""SELECT clip_id, video_id, uri, start_s, end_s, verdict, reasons
        FROM clips WHERE clip_id IN ({ids})"""
    ).to_pylist()
    return {
        row.pop("clip_id"): {"file": source_label(row["uri"]), **row} for row in map(dict, rows)
    }
