"""Files of the parts of a divided video: their names, their seams, their rows in order.

They lie below ``parts/segments/``, apart from the part files that the committer takes: nothing of
a divided video may enter a table before all of it is there. A name tells video, stage fingerprint
and part, so a file that a killed run left is used if it still fits and swept if not.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.engine.parts import PARTS, PartReader
from curation.engine.unit import Unit
from curation.ids import json_digest
from curation.media.parts import PartMismatch
from curation.storage import Storage

FOLDER = "segments"
GIVEN_UP = "attempts/given-up"
PRINT_CHARS = 12


def segment_name(unit: Unit, fingerprint: str) -> str:
    """Name below ``parts/`` of the file of a unit that is one part."""
    assert unit.part is not None and unit.video_id is not None
    what = json_digest(asdict(unit.part))[:12]
    mark = fingerprint[:PRINT_CHARS]
    return f"{FOLDER}/{unit.video_id}-{mark}-{unit.part.index:05d}-{what}.part"


def sweep_segments(storage: Storage, fingerprints: Iterable[str], keep: set[str] | None) -> None:
    """Remove files of parts that nobody will ask for.

    Args:
        storage: The dataset root.
        fingerprints: Of the plan's stages; files of others go.
        keep: Ids of the videos whose files stay; None: of all.
    """
    folder = f"{PARTS}/{FOLDER}"
    current = {p[:PRINT_CHARS] for p in fingerprints}
    left = 0
    for name in storage.list(folder):
        video_id, mark, *_ = name.rsplit("/", 1)[-1].split("-")
        if mark in current and (keep is None or video_id in keep):
            left += 1
        else:
            storage.remove(name)
    if not left:
        storage.remove_tree(folder)


def give_up(storage: Storage, run_id: str, unit: Unit) -> None:
    """Tell the others that a part failed: what is left of the video need not be done."""
    storage.write_bytes(f"{GIVEN_UP}/{run_id}/{unit.source_id}-{unit.first}", b"")


def given_up(storage: Storage, run_id: str, unit: Unit) -> bool:
    """True when a part of the video failed in this run."""
    return storage.exists(f"{GIVEN_UP}/{run_id}/{unit.source_id}-{unit.first}")


class Segments:
    """The files of a video's parts, in order.

    Args:
        storage: The dataset root.
        names: Below ``parts/``, in order.
        scratch: Where remote ones are copied to, one at a time.

    Raises:
        PartMismatch: One is gone or torn, or neighbours saw other pictures at their seam.
    """

    def __init__(self, storage: Storage, names: tuple[str, ...], scratch: Path) -> None:
        self._storage, self._names, self._scratch = storage, names, scratch
        headers = [header for _, header in self._read()]
        for i in range(1, len(headers)):
            if headers[i - 1]["seams"]["after"] != headers[i]["seams"]["before"]:
                raise PartMismatch(f"parts {i - 1} and {i} saw other pictures at their seam")
        self.busy_s = sum(float(h["busy_s"]) for h in headers)

    def rows(self) -> Iterator[tuple[str, pa.Table]]:
        """All rows by table, part by part."""
        for reader, _ in self._read():
            for table in reader.tables():
                for batch in reader.read(table):
                    yield table, pa.Table.from_batches([batch])

    def _read(self) -> Iterator[tuple[PartReader, dict[str, Any]]]:
        for name in self._names:
            try:
                reader = PartReader(self._storage, name, self._scratch)
                yield reader, reader.header()
            except (FileNotFoundError, zipfile.BadZipFile) as exc:
                raise PartMismatch(f"file of a part: {exc}") from exc
            reader.close()
