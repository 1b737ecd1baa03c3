"""Small datasets of real shards for the loader's tests: tars with real tiny MP4s and their index.

Each clip's frames are flat pictures whose grey tells the frame's number, so a decoded picture says
which frame it is.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.ids import hash64, sha_prefix64
from curation.schema import SHARD_INDEX, SHARD_INDEX_NAME
from tests.media import Recording, write_video

NO_TEXT = {"overlay_text_fraction": 0.0, "unclear_text_fraction": 0.0}


@dataclass(frozen=True)
class Clip:
    """One sample to be.

    Attributes:
        name: Its clip id is the sha256 of this.
        media: The MP4.
        num_frames: In it.
        height_px: Of it.
        width_px: Of it.
        fps: Of it.
        captions: Entries of ``captions``.
        scores: Of the ``.json``.
        split: None: the dataset is not divided.
    """

    name: str
    media: bytes
    num_frames: int
    height_px: int
    width_px: int
    fps: float
    captions: tuple[dict[str, Any], ...] = ()
    scores: dict[str, Any] = field(default_factory=lambda: dict(NO_TEXT))
    split: str | None = None

    @property
    def clip_id(self) -> str:
        """Its key."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:32]


def grey_of(number: int) -> int:
    """The grey of a frame; neighbours differ by more than coding does, up to 46 frames."""
    return 24 + 5 * number


def number_of(picture: np.ndarray) -> int:
    """The frame's number, of a decoded picture [H, W, 3]."""
    return round((float(np.mean(picture)) - 24) / 5)


def numbered(folder: Path, num_frames: int, how: Recording, size_px: tuple[int, int]) -> bytes:
    """An MP4 whose frames tell their numbers; full-range grey 24 + 5 per frame."""
    width, height = size_px
    pictures = (np.full((height, width, 3), grey_of(n), np.uint8) for n in range(num_frames))
    path = folder / f"n{num_frames}-{how.fps:g}-{width}x{height}-{how.gop_frames}.mp4"
    return write_video(path, pictures, how).read_bytes()


def write_dataset(
    root: Path,
    clips: Sequence[Clip],
    *,
    per_shard: int = 4,
    generation: int = 0,
    damaged: Sequence[str] = (),
) -> dict[str, tuple[Path, int, int]]:
    """Write shards and the index; clips of one stored shape go together.

    Args:
        root: Dataset root.
        clips: The samples.
        per_shard: Samples of a shard, at most.
        generation: Of these shards; those of earlier calls stay.
        damaged: Names of clips whose coded pictures are overwritten in the tar.

    Returns:
        For each clip id the tar and where its MP4 lies in it.
    """
    rows: list[dict[str, Any]] = []
    places: dict[str, tuple[Path, int, int]] = {}
    groups: dict[str, list[Clip]] = {}
    for clip in clips:
        bucket = f"{clip.num_frames}x{clip.height_px}x{clip.width_px}"
        folder = f"{clip.split}/{bucket}" if clip.split else bucket
        groups.setdefault(folder, []).append(clip)
    for folder, members in groups.items():
        for start in range(0, len(members), per_shard):
            name = f"shards/{folder}/{generation:03d}-{start // per_shard:06d}.tar"
            rows += _write_tar(root / name, name, members[start : start + per_shard], generation)
    for row in rows:
        places[row["clip_id"]] = root / row["shard"], row["mp4_offset"], row["mp4_bytes"]
    for clip in clips:
        if clip.name in damaged:
            damage(*places[clip.clip_id])
    table = pa.Table.from_pylist(rows, schema=SHARD_INDEX)
    index = root / SHARD_INDEX_NAME
    if index.exists() and generation:
        table = pa.concat_tables([pq.read_table(index), table])
    pq.write_table(table.replace_schema_metadata({"clipmill.shard_format": "4"}), index)
    return places


def damage(tar: Path, offset: int, num_bytes: int) -> None:
    """Overwrite most of a member: its headers stay, no picture decodes."""
    with tar.open("r+b") as out:
        out.seek(offset + num_bytes // 3)
        out.write(b"\xff" * (num_bytes // 2))


def _write_tar(path: Path, name: str, clips: Sequence[Clip], generation: int) -> list[dict]:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in clips:
            caption = clip.captions[0]["text"] if clip.captions else ""
            record = {
                "clip_id": clip.clip_id,
                "captions": list(clip.captions),
                "caption": caption,
                "caption_kind": clip.captions[0]["kind"] if clip.captions else None,
                "scores": clip.scores,
                "fps": clip.fps,
            }
            texts = json.dumps(record, sort_keys=True).encode(), caption.encode()
            members = {"mp4": clip.media, "json": texts[0], "txt": texts[1]}
            row: dict[str, Any] = {}
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{clip.clip_id}.{suffix}")
                info.size = len(data)
                row[f"{suffix}_offset"] = tar.offset + tarfile.BLOCKSIZE
                row[f"{suffix}_bytes"] = len(data)
                tar.addfile(info, io.BytesIO(data))
            sha = hashlib.sha256(clip.media).hexdigest()
            words = hashlib.sha256(texts[0] + b"\0" + texts[1]).hexdigest()
            rows.append(
                row
                | _facts(clip)
                | {
                    "mp4_hash": sha_prefix64(sha),
                    "mp4_sha256": sha,
                    "text_hash": sha_prefix64(words),
                    "shard": name,
                    "generation": generation,
                }
            )
    whole = {
        "shard_bytes": path.stat().st_size,
        "shard_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return [row | whole for row in rows]


def _facts(clip: Clip) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "key_hash": hash64(clip.clip_id),
        "bucket": f"{clip.num_frames}x{clip.height_px}x{clip.width_px}",
        "split": clip.split,
        "source": None,
        "frames": clip.num_frames,
        "height_px": clip.height_px,
        "width_px": clip.width_px,
        "fps": clip.fps,
        "duration_s": clip.num_frames / clip.fps,
        "has_caption": bool(clip.captions),
        "num_captions": len(clip.captions),
    }
