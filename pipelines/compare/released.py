"""A release that is compared by its own folder: one that travels without its dataset root.

Its Parquet files hold what a comparison needs: every clip's verdict and span, the scores of the
kept ones, their captions, the sources. There are no pictures, and no rows of what was removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FSSpecHandler, PyFileSystem

from curation.errors import CatalogError
from curation.storage import Storage
from pipelines.compare.place import RunRecord

RELEASES, MANIFEST = "releases", "manifest.json"
TABLES = ("verdicts", "clips", "captions", "sources")

NOT_SCORES = frozenset(
    {
        *("clip_index", "shot_index", "start_frame", "end_frame", "start_pts", "end_pts"),
        *("start_s", "end_s", "num_frames", "video_first_pts", "video_end_pts"),
        *("video_num_frames", "video_duration_s", "missing_s", "num_damaged_frames", "is_vfr"),
        *("median_fps", "video_bytes", "width_px", "height_px", "sample_aspect_ratio"),
        *("rotation_deg", "bit_depth", "has_alpha", "avg_fps", "base_fps", "declared_duration_s"),
        *("interlaced", "is_hdr", "full_range", "num_audio_streams", "bit_rate_bps"),
    }
)
"""Columns of a release's clips that tell where a clip lies and what its file is."""
NOT_SCORES_PREFIXES = ("media_", "subtitle_num_")
NOT_CHECKS = ("caption_num_frames", "caption_num_windows", "caption_repaired")


@dataclass(frozen=True)
class Released:
    """A release's folder.

    Attributes:
        storage: Where it lies: the folder itself is the root.
        manifest: Its ``manifest.json``.
    """

    storage: Storage
    manifest: dict[str, Any]

    def table(self, name: str) -> ds.Dataset:
        """One of its Parquet files.

        Raises:
            CatalogError: It is not there.
        """
        file = f"data/{name}.parquet"
        if not self.storage.exists(file):
            raise CatalogError(
                "a table of the release is not there",
                where=f"{self.storage.url}/{file}",
                mend="`clipmill release` can make it again",
            )
        files = None if self.storage.local else PyFileSystem(FSSpecHandler(self.storage.fs))
        return ds.dataset(self.storage.path(file), format="parquet", filesystem=files)

    def scores(self) -> list[str]:
        """Columns of its clips that are scores."""
        return [
            f.name
            for f in self.table("clips").schema
            if _is_number(f.type)
            and f.name not in NOT_SCORES
            and f.name not in NOT_CHECKS
            and not f.name.startswith(NOT_SCORES_PREFIXES)
        ]

    def models(self) -> list[str]:
        """Columns of its clips that name models, other than of captions."""
        names = self.table("clips").schema.names
        return [n for n in names if n.endswith("_model") and not n.startswith("media_")]

    def run(self) -> RunRecord:
        """The run it was made of, as far as the manifest tells."""
        made = self.manifest
        return RunRecord(
            run_id=str(made.get("run_id") or ""),
            command="release",
            started_at=_time(made.get("created_at")),
            finished_at=None,
            config=made.get("config") or {},
            fingerprints=made.get("fingerprints") or {},
            versions=made.get("versions") or {},
            report=None,
        )


def find_released(root: str, tag: str | None = None) -> Released | None:
    """The release in a folder, or of a tag below a dataset root; None: there is none."""
    folder = Storage(root)
    if tag is not None:
        pure = PurePosixPath(tag)
        if len(pure.parts) != 1 or tag in (".", ".."):
            return None
        folder = Storage(folder.uri(f"{RELEASES}/{tag}"))
    manifest = folder.read_json(MANIFEST)
    if not isinstance(manifest, dict) or "tag" not in manifest:
        return None
    return Released(folder, manifest)


def release_tags(root: str) -> list[str]:
    """Tags of the releases below a dataset root."""
    storage = Storage(root)
    if not storage.exists(RELEASES):
        return []
    entries = storage.fs.ls(storage.path(RELEASES), detail=True)
    names = (PurePosixPath(str(e["name"]).rstrip("/")).name for e in entries)
    return [n for n in sorted(names) if storage.exists(f"{RELEASES}/{n}/{MANIFEST}")]


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _time(text: object) -> datetime:
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
