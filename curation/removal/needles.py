"""Needles: pieces of what goes, kept for the moment, to be looked for everywhere afterwards.

Ids of clips and videos; of every media file, stored frame, print and text some bytes that stand
nowhere in what stays, neither in a row nor in a media file. A header, a piece of silence, a caption
that many clips share or the picture of a duplicate that stays would be found again and prove
nothing. To know them all that stays is read once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.removal.columns import batch_rows, buffers_of, byte_columns, values_of
from curation.removal.files import files_of
from curation.removal.gone import (
    STAYING,
    TEXTS,
    Gone,
    conditions,
    row_keys,
    rows_with_pictures,
)
from curation.removal.removal import NEEDLES, Removal
from curation.removal.rows import sources_of, sources_with_words
from curation.removal.search import MAX_NEEDLE_BYTES, Searcher
from curation.removal.tombstones import picture_columns
from curation.storage import Storage

CLIP_ID, VIDEO_ID, MEDIA, PICTURE, TEXT = "clip id", "video id", "media", "picture", "text"
IDS = frozenset({CLIP_ID, VIDEO_ID})
SLICE_BYTES = 24
SLICES_PER_FILE = 6
SLICES_PER_PICTURE = 3
MIN_DIFFERENT_BYTES = 14
"""Of 24 bytes: what was compressed well has about 23 different ones."""
MIN_TEXT_CHARS = 20
MAX_SLICES = 300_000
"""Of pictures and texts: of a larger removal every table gives its share."""
MEDIA_FOLDER = "media"


@dataclass
class Needles:
    """What is looked for, and what it is a piece of."""

    kinds: list[str] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def add(self, kind: str, value: bytes) -> None:
        """Add one."""
        self.kinds.append(kind)
        self.values.append(value)

    def without(self, dropped: set[int]) -> Needles:
        """All but some, by index."""
        keep = [i for i in range(len(self.kinds)) if i not in dropped]
        return Needles([self.kinds[i] for i in keep], [self.values[i] for i in keep])

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        return {kind: self.kinds.count(kind) for kind in sorted(set(self.kinds))}


def collect(
    catalog: Catalog, removal: Removal, on_bytes: Callable[[int], object] = lambda _: None
) -> Needles:
    """Take the needles of everything that is about to go; reads only."""
    gone = removal.gone
    needles = Needles()
    for clip in sorted(gone.clips):
        needles.add(CLIP_ID, clip.encode())
    for video in sorted(gone.videos):
        needles.add(VIDEO_ID, video.encode())
    for name in files_of(catalog.storage, gone):
        for piece in slices_of_file(catalog.storage, name):
            needles.add(MEDIA, piece)
    tables, known = catalog.tables(), frozenset(needles.values)  # ids are texts too
    for table in tables:
        seen: set[bytes] = set()
        for kind, value in _of_rows(catalog, table, gone):
            if value not in seen and value not in known:
                seen.add(value)
                needles.add(kind, value)
            if len(seen) >= MAX_SLICES // len(tables):
                break
    return _distinctive(catalog, gone, needles, on_bytes)


def slices_of_file(storage: Storage, name: str, count: int = SLICES_PER_FILE) -> list[bytes]:
    """Telling pieces of a file, spread over it."""
    size = storage.size_bytes(name)
    found = []
    with storage.open_read(name) as source:
        for i in range(count):
            source.seek(max(0, size * (i + 1) // (count + 1) - 256))
            found += slices(source.read(1024), 1)
    return found


def slices(data: bytes, count: int) -> list[bytes]:
    """Up to so many pieces of 24 bytes in which hardly a byte occurs twice, spread over some data.

    The first and last parts are left out where there is enough: headers and tables are alike in
    all files of a kind.
    """
    found: list[bytes] = []
    for i in range(count):
        middle = len(data) * (2 * i + 1) // (2 * count)
        for at in range(middle, min(middle + 512, len(data) - SLICE_BYTES + 1), 8):
            piece = data[at : at + SLICE_BYTES]
            if len(set(piece)) >= MIN_DIFFERENT_BYTES:
                found.append(piece)
                break
    return found


def texts(value: str) -> Iterator[bytes]:
    """A text as it may stand in a file: plain, in JSON of two kinds, in HTML."""
    if len(value) < MIN_TEXT_CHARS:
        return
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    for form in sorted(forms | {escape(value)}):
        yield form.encode("utf-8", "replace")[:MAX_NEEDLE_BYTES]


def write_needles(storage: Storage, needles: Needles) -> None:
    """Keep needles until the proof is done."""
    table = pa.table(
        {
            "kind": pa.array(needles.kinds, pa.string()),
            "value": pa.array(needles.values, pa.binary()),
        }
    )
    with storage.open_write(NEEDLES) as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)


def read_needles(storage: Storage) -> Needles:
    """The needles that were kept; none when there is no file."""
    if not storage.exists(NEEDLES):
        return Needles()
    with storage.open_read(NEEDLES) as source, pa.ipc.open_stream(source.read()) as reader:
        table = reader.read_all()
    return Needles(table.column("kind").to_pylist(), table.column("value").to_pylist())


def _of_rows(catalog: Catalog, table: str, gone: Gone) -> Iterator[tuple[str, bytes]]:
    """Pieces of the pictures and texts of a table's rows that go."""
    dataset = catalog.dataset(table)
    names = byte_columns(dataset.schema)
    wheres = list(conditions(table, dataset.schema, gone))
    if table == "sources":
        wheres = sources_with_words(catalog, sorted(gone.videos))
        names = [str(name) for name in TEXTS]
    for where in wheres if names else ():
        for batch in dataset.scanner(columns=names, filter=where, batch_size=64).to_batches():
            for column in batch.columns:
                yield from _of_column(column)
    yield from _of_pictures(catalog, table, gone)


def _of_column(column: pa.Array) -> Iterator[tuple[str, bytes]]:
    for value in values_of(column):
        if isinstance(value, str):
            yield from ((TEXT, text) for text in texts(value))
        else:
            yield from ((PICTURE, piece) for piece in slices(value, SLICES_PER_PICTURE))


def _of_pictures(catalog: Catalog, table: str, gone: Gone) -> Iterator[tuple[str, bytes]]:
    """Pieces of pictures of gone frames that stand in rows with others."""
    dataset = catalog.dataset(table)
    names = picture_columns(dataset.schema)
    for where in rows_with_pictures(dataset.schema, gone):
        columns = ["video_id", "frame_pts", *names]
        for batch in dataset.scanner(columns=columns, filter=where, batch_size=8).to_batches():
            for row in batch.to_pylist():
                spans = gone.spans[row["video_id"]]
                for name in names:
                    for pts, value in zip(row["frame_pts"], row[name] or (), strict=False):
                        if value and any(s.start_pts <= pts < s.end_pts for s in spans):
                            yield from ((PICTURE, p) for p in slices(value, 1))


def _distinctive(
    catalog: Catalog, gone: Gone, needles: Needles, on_bytes: Callable[[int], object]
) -> Needles:
    """Those needles that stand nowhere in what stays; ids are looked for in any case."""
    searcher = Searcher(needles.values)
    common: set[int] = set()
    for table in catalog.tables():
        for buffer in _rows_that_stay(catalog, table, gone):
            common |= {i for i, _ in searcher.find(buffer)}
            on_bytes(len(buffer))
    for name in catalog.storage.walk(MEDIA_FOLDER):
        if not gone.names(name):
            with catalog.storage.open_read(name) as source:
                common |= {i for i, _ in searcher.find_in_file(source, on_bytes)}
    return needles.without({i for i in common if needles.kinds[i] not in IDS})


def _rows_that_stay(catalog: Catalog, table: str, gone: Gone) -> Iterator[memoryview]:
    """The bytes of all values of a table that stay."""
    dataset = catalog.dataset(table)
    names = byte_columns(dataset.schema)
    if not names:
        return
    held = sources_of(catalog, sorted(gone.videos)) if table == "sources" else set()
    keys = ["source_id"] if table == "sources" else row_keys(dataset.schema)
    size = batch_rows(dataset.schema)
    scanner = dataset.scanner(columns=sorted({*names, *keys}), batch_size=size)
    for batch in scanner.to_batches():
        if table == "sources":
            told = [i not in held for i in batch.column("source_id").to_pylist()]
            yield from buffers_of(batch, [n for n in names if n not in TEXTS])
            words = batch.filter(pa.array(told, pa.bool_()))
            yield from buffers_of(words, [n for n in names if n in TEXTS])
        elif table in STAYING:
            yield from buffers_of(batch, names)
        else:
            yield from buffers_of(batch.filter(pa.array(~gone.mask(batch))), names)
