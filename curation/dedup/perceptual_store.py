"""A scratch file of all clips' prints, so that comparing them takes no memory for the whole.

A million clips of five seconds are 11 GB of prints. They are streamed from the catalog into one
file in the order they come, and read back by the rank of their clip's id: what is made of them does
not depend on the order in which a run happened to commit its clips.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.dedup.perceptual_path import SIDE_PX, Film
from curation.errors import CatalogError

if TYPE_CHECKING:  # the catalog knows plans, and plans know the settings of this room
    from curation.catalog.views import Views

BATCH_ROWS = 2048
PRINT_BYTES = SIDE_PX * SIDE_PX
LUMA, TIMES, IDS, CLIPS = "luma.u8", "times.f64", "ids.arrow", "clips.npz"
QUERY = """
SELECT p.clip_id, p.print_times_s, p.print_luma, c.duration_s
FROM print_pictures p JOIN clips_lengths c USING (clip_id) WHERE len(p.print_times_s) > 1
"""


@dataclass(frozen=True)
class PrintFile:
    """Prints in a folder; small enough to be sent to a worker, which opens the files.

    Attributes:
        folder: Holds the files.
        num_clips: Clips with at least two prints.
        num_prints: Of all of them.
    """

    folder: Path
    num_clips: int
    num_prints: int

    def clip_ids(self) -> pa.StringArray:
        """Ids by rank: sorted, each once."""
        with pa.OSFile(str(self.folder / IDS)) as file:
            return pa.ipc.open_file(file).read_all().column("clip_id").combine_chunks()

    def open(self) -> OpenPrints:
        """Open for reading."""
        return OpenPrints(self)


class OpenPrints:
    """Prints of clips by rank.

    Args:
        file: What to read.
    """

    def __init__(self, file: PrintFile) -> None:
        with np.load(file.folder / CLIPS) as clips:
            self._first, self.counts = clips["first"], clips["counts"]
            self._length_s = clips["length_s"]
        self._luma = self._times = None
        if file.num_prints:
            shape = (file.num_prints, SIDE_PX, SIDE_PX)
            self._luma = np.memmap(file.folder / LUMA, np.uint8, mode="r", shape=shape)
            self._times = np.memmap(file.folder / TIMES, np.float64, mode="r")

    def film(self, rank: int) -> Film:
        """The prints of one clip."""
        assert self._luma is not None and self._times is not None
        some = slice(self._first[rank], self._first[rank] + self.counts[rank])
        pictures = self._luma[some].astype(np.float32)
        return Film(pictures, np.array(self._times[some]), float(self._length_s[rank]))

    def blocks(self, max_prints: int) -> Iterator[tuple[int, int]]:
        """Ranks [start, end) of clips that have about so many prints together."""
        ends = np.cumsum(self.counts)
        start = 0
        while start < len(ends):
            before = ends[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(ends, before + max_prints, side="right")))
            yield start, end
            start = end


def write_prints(views: Views, folder: Path) -> PrintFile:
    """Stream the current prints of a dataset into a folder.

    Args:
        views: The dataset.
        folder: Where to; empty.

    Raises:
        CatalogError: The dataset has no prints, or a clip has two sets of them.
    """
    return store_prints(_stream(views), folder)


def store_prints(batches: Iterable[pa.RecordBatch], folder: Path) -> PrintFile:
    """Write prints to a folder.

    Args:
        batches: ``clip_id, print_times_s, print_luma, duration_s`` of clips with two or more.
        folder: Where to; empty.

    Raises:
        CatalogError: Prints are of another size, or a clip has two sets of them.
    """
    ids: list[pa.Array] = []
    counts: list[np.ndarray] = []
    lengths: list[np.ndarray] = []
    with open(folder / LUMA, "wb") as luma, open(folder / TIMES, "wb") as times:
        for batch in batches:
            sizes = np.diff(batch.column("print_times_s").offsets.to_numpy())
            pictures = batch.column("print_luma").to_pylist()
            if [len(p) for p in pictures] != (sizes * PRINT_BYTES).tolist():
                raise CatalogError("prints of another size", where="print_pictures")
            luma.writelines(pictures)
            flat = batch.column("print_times_s").flatten().to_numpy(zero_copy_only=False)
            times.write(np.ascontiguousarray(flat, np.float64).data)
            ids.append(batch.column("clip_id"))
            counts.append(sizes.astype(np.int64))
            lengths.append(batch.column("duration_s").to_numpy(zero_copy_only=False))
    found = pa.chunked_array(ids, pa.string())
    order = pc.call_function("sort_indices", [found]).to_numpy().astype(np.int64)
    ranked = found.take(pa.array(order)).combine_chunks()
    if len(ranked.unique()) != len(ranked):
        raise CatalogError("a clip has prints twice", where="print_pictures")
    sizes = np.concatenate([np.empty(0, np.int64), *counts])
    first = np.cumsum(sizes) - sizes
    length_s = np.concatenate([np.empty(0), *lengths])[order]
    np.savez(folder / CLIPS, first=first[order], counts=sizes[order], length_s=length_s)
    table = pa.table({"clip_id": ranked})
    with pa.OSFile(str(folder / IDS), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return PrintFile(folder, len(ranked), int(sizes.sum()))


def _stream(views: Views) -> Iterator[pa.RecordBatch]:
    lengths = views.clips(["clip_id", "duration_s"])
    try:
        yield from views.reader(QUERY.replace("clips_lengths", f"({lengths})"), BATCH_ROWS)
    except Exception as exc:
        if "print_pictures" not in str(exc):
            raise
        raise CatalogError(
            "the dataset has no prints",
            where="dedup.perceptual",
            mend="put the stage prints in the plan and run curate, or leave the level out",
        ) from exc
