"""One shard: samples to a tar, deterministic to the byte, with the place of every member.

Plain USTAR, never compressed, so that a member can be read at its offset. Owners, modes and times
are constants; what is packed is checked against the catalog's checksum on the way.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from curation.errors import CatalogError
from curation.ids import canonical_json
from curation.storage import Storage

MEMBERS = ("mp4", "json", "txt")
"""Of every sample, in this order."""
SOUND = "m4a"
"""Follows the mp4 of a sample that has sound, where the settings ask for it."""
ALL_MEMBERS = ("mp4", SOUND, "json", "txt")


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
        source: Where the video comes from, as given with it.
        bucket_frames: Frames per band of lengths that share a bucket.
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
    source: str | None = None
    bucket_frames: int = 1

    @property
    def folder(self) -> str:
        """Where its shard lies: the bucket, inside of the split's folder if there are splits."""
        return f"{self.split}/{self.bucket}" if self.split else self.bucket

    @property
    def bucket(self) -> str:
        """Folder of the stored shape, ``frames x height x width``; frames may be a band."""
        band = self.bucket_frames
        first = self.frames // band * band
        frames = str(self.frames) if band == 1 else f"{first}-{first + band - 1}"
        return f"{frames}x{self.height_px}x{self.width_px}"

    def json_bytes(self) -> bytes:
        """Content of the ``.json`` member."""
        return canonical_json(self.record).encode()

    def text_bytes(self) -> bytes:
        """Content of the ``.txt`` member."""
        return self.caption.encode()


def text_digest(json_data: bytes, text: bytes) -> bytes:
    """sha256 of the texts of a sample; its first 8 bytes, big-endian, are ``text_hash``."""
    return hashlib.sha256(json_data + b"\0" + text).digest()


def text_hash(json_data: bytes, text: bytes) -> int:
    """The 64-bit number of a sample's texts in the index."""
    return int.from_bytes(text_digest(json_data, text)[:8], "big")


class Tar:
    """A tar that is being written, of which size and checksum are known at any time.

    Attributes:
        size: Bytes written.
        sha256: Their checksum so far.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out, self.sha256, self.size = out, hashlib.sha256(), 0
        self._tar = tarfile.TarFile(fileobj=cast(Any, self), mode="w", format=tarfile.USTAR_FORMAT)

    def write(self, data: bytes) -> int:
        """Take bytes from :mod:`tarfile`."""
        self.sha256.update(data)
        self.size += len(data)
        return self._out.write(data)

    def tell(self) -> int:
        """How far it is written."""
        return self.size

    def add(self, name: str, data: bytes) -> int:
        """Add a member; returns the offset of its first byte."""
        return self.add_stream(name, len(data), io.BytesIO(data))

    def add_stream(self, name: str, size: int, source: BinaryIO) -> int:
        """Add a member of so many bytes; returns the offset of its first byte.

        Raises:
            OSError: The source ends too early.
        """
        info = tarfile.TarInfo(name)
        info.mtime, info.mode, info.size = 0, 0o644, size
        self._tar.addfile(info, source)
        return self.size - _padded(size)

    def close(self) -> None:
        """Write the end."""
        self._tar.close()


@contextmanager
def new_tar(storage: Storage, name: str) -> Iterator[Tar]:
    """Write a tar under a temporary name; it gets its own when the block ends well."""
    with storage.open_write(name) as out:
        tar = Tar(out)
        yield tar
        tar.close()


def add_sample(tar: Tar, storage: Storage, sample: Sample, sound: bytes | None) -> dict[str, Any]:
    """Add a sample.

    Returns:
        The columns of the index that say where its members lie and how large they are.

    Raises:
        CatalogError: Its MP4 is missing or holds other bytes than the catalog says.
    """
    mp4 = _add_media(tar, storage, sample)
    place: dict[str, Any] = {"mp4_offset": mp4, "mp4_bytes": sample.media_bytes}
    texts = {"json": sample.json_bytes(), "txt": sample.text_bytes()}
    more = ({} if sound is None else {SOUND: sound}) | texts
    for suffix, data in more.items():
        offset = tar.add(f"{sample.clip_id}.{suffix}", data)
        place |= {f"{suffix}_offset": offset, f"{suffix}_bytes": len(data)}
    return place | {"text_hash": text_hash(texts["json"], texts["txt"])}


def sample_bytes(sample: Sample, sound: bytes | None = None) -> int:
    """Size of a sample in a tar: each member has a header block and whole blocks of data."""
    sizes = [sample.media_bytes, len(sample.json_bytes()), len(sample.text_bytes())]
    if sound is not None:
        sizes.append(len(sound))
    return sum(member_bytes(size) for size in sizes)


def member_bytes(size: Any) -> Any:  # noqa: ANN401 - an integer, or an array of them
    """Size of a member of so many bytes in a tar."""
    return tarfile.BLOCKSIZE + _padded(size)


def tar_bytes(samples_bytes: int) -> int:
    """Size of a tar of so many bytes of samples: two empty blocks end it, in whole records."""
    ended = samples_bytes + 2 * tarfile.BLOCKSIZE
    return -(-ended // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def media_damage(sample: Sample, damage: str) -> CatalogError:
    """The error about a kept clip's MP4 that cannot be packed."""
    return CatalogError(
        f"the media of a kept clip {damage}",
        where=sample.media_path,
        mend="put the file back, or use a new --out",
    )


def _padded(size: Any) -> Any:  # noqa: ANN401 - an integer, or an array of them
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


class _HashingReader:
    """A file that hashes what is read from it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source, self.sha256 = source, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


def _add_media(tar: Tar, storage: Storage, sample: Sample) -> int:
    """Add a clip's MP4, and check that it is the one the catalog speaks of.

    Raises:
        CatalogError: The file is missing or holds other bytes.
    """
    damage = "differs from its checksum"
    name, size = f"{sample.clip_id}.mp4", sample.media_bytes
    try:
        with storage.open_read(sample.media_path) as source:
            checked = _HashingReader(source)
            offset = tar.add_stream(name, size, cast(Any, checked))
            if checked.sha256.hexdigest() == sample.media_sha256 and not source.read(1):
                return offset
    except FileNotFoundError:
        damage = "is missing"
    except OSError as exc:  # tarfile: the file ends too early
        damage = f"cannot be read: {exc}"
    raise media_damage(sample, damage)
