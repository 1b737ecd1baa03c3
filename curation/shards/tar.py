"""One shard: samples to a tar, deterministic to the byte, with the place of every member.

Plain USTAR, never compressed, so that a member can be read at its offset. Owners, modes and times
are constants; what is packed is checked against the catalog's checksum on the way.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from curation.errors import CatalogError
from curation.ids import canonical_json
from curation.storage import Storage

MEMBERS = ("mp4", "json", "txt")


@dataclass(frozen=True)
class Sample:
    """One kept clip, ready to be packed.

    Attributes:
        clip_id: The key.
        media_path: Its MP4, relative to the dataset root.
        media_bytes: Size of the MP4.
        media_sha256: Checksum of the MP4.
        frames: Frames in the MP4.
        height_px: Stored height.
        width_px: Stored width.
        fps: Mean frame rate.
        duration_s: Length.
        caption: Text for ``.txt``, empty when uncaptioned.
        record: Content of ``.json``.
        split: train, val, ...; empty: the dataset is not divided.
    """

    clip_id: str
    media_path: str
    media_bytes: int
    media_sha256: str
    frames: int
    height_px: int
    width_px: int
    fps: float
    duration_s: float
    caption: str
    record: dict[str, Any]
    split: str = ""

    @property
    def folder(self) -> str:
        """Where its shard lies: the bucket, inside of the split's folder if there are splits."""
        return f"{self.split}/{self.bucket}" if self.split else self.bucket

    @property
    def bucket(self) -> str:
        """Folder of the stored shape, ``frames x height x width``."""
        return f"{self.frames}x{self.height_px}x{self.width_px}"

    def json_bytes(self) -> bytes:
        """Content of the ``.json`` member."""
        return canonical_json(self.record).encode()

    def text_bytes(self) -> bytes:
        """Content of the ``.txt`` member."""
        return self.caption.encode()


def write_tar(
    storage: Storage, name: str, samples: list[Sample], on_sample: Callable[[int], None]
) -> list[dict[str, Any]]:
    """Write one shard.

    Returns:
        For each sample the columns of the index that say where it lies: offset and size of each
        member, size and checksum of the shard.
    """
    places: list[dict[str, Any]] = []
    with storage.open_write(name) as out:
        sink = _HashingFile(out)
        with tarfile.open(fileobj=cast(Any, sink), mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                place = {}
                for suffix in MEMBERS:
                    offset, size = _add(tar, sink, storage, sample, suffix)
                    place |= {f"{suffix}_offset": offset, f"{suffix}_bytes": size}
                places.append(place)
                on_sample(sample.media_bytes)
    whole = {"shard_bytes": sink.size, "shard_sha256": sink.sha256.hexdigest()}
    return [place | whole for place in places]


def sample_bytes(sample: Sample) -> int:
    """Size of a sample in a tar: each member has a header block and whole blocks of data."""
    sizes = (sample.media_bytes, len(sample.json_bytes()), len(sample.text_bytes()))
    block = tarfile.BLOCKSIZE
    return sum(block + -(-size // block) * block for size in sizes)


def tar_bytes(samples_bytes: int) -> int:
    """Size of a tar of so many bytes of samples: two empty blocks end it, in whole records."""
    ended = samples_bytes + 2 * tarfile.BLOCKSIZE
    return -(-ended // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


class _HashingFile:
    """A file that hashes what passes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.sha256, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        self.size += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        return self.size


class _HashingReader:
    """A file that hashes what is read from it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self.sha256 = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


def _add(
    tar: tarfile.TarFile, sink: _HashingFile, storage: Storage, sample: Sample, suffix: str
) -> tuple[int, int]:
    """Add one member; returns the offset of its data and its size."""
    info = tarfile.TarInfo(f"{sample.clip_id}.{suffix}")
    info.mtime, info.mode = 0, 0o644
    if suffix == "mp4":
        info.size = sample.media_bytes
        _add_media(tar, info, storage, sample)
    else:
        data = sample.json_bytes() if suffix == "json" else sample.text_bytes()
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    padded = -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return sink.size - padded, info.size


def _add_media(
    tar: tarfile.TarFile, info: tarfile.TarInfo, storage: Storage, sample: Sample
) -> None:
    """Add a clip's MP4, and check that it is the one the catalog speaks of.

    Raises:
        CatalogError: The file is missing or holds other bytes.
    """
    damage = "differs from its checksum"
    try:
        with storage.open_read(sample.media_path) as source:
            checked = _HashingReader(source)
            tar.addfile(info, cast(Any, checked))
            if checked.sha256.hexdigest() == sample.media_sha256 and not source.read(1):
                return
    except FileNotFoundError:
        damage = "is missing"
    except OSError as exc:  # tarfile: the file ends too early
        damage = f"cannot be read: {exc}"
    raise CatalogError(
        f"the media of a kept clip {damage}",
        where=sample.media_path,
        mend="put the file back, or use a new --out",
    )
