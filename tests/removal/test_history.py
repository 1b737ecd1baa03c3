"""What a table remembers of rows that were deleted: indices, old versions, transactions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.catalog import vectors
from curation.catalog.catalog import Catalog
from curation.removal.gone import Gone
from curation.removal.history import purge_table
from curation.storage import Storage

TABLE = "embeddings_test"
COUNT, DIM = 600, 16


def files_with(root: Path, needle: bytes) -> list[Path]:
    return [p for p in root.rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_an_index_of_vectors_forgets_those_that_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 300)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(COUNT, DIM)).astype(np.float32)
    ids = [rng.bytes(16).hex() for _ in range(COUNT)]
    flat = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM)
    rows = pa.table({"clip_id": ids, "embedding": flat, "video_id": ["v"] * COUNT})
    rows = rows.append_column("fingerprint", pa.array(["f"] * COUNT))
    catalog = Catalog(Storage(str(tmp_path)))
    catalog.create({TABLE: rows.schema})
    catalog.append(TABLE, rows)
    vectors.refresh_index(catalog.dataset(TABLE))
    before = {i.name: i for i in catalog.dataset(TABLE).describe_indices()}
    old_files = set((tmp_path / "catalog" / f"{TABLE}.lance" / "_indices").iterdir())
    assert vectors.INDEX in before and old_files

    catalog.dataset(TABLE).delete(f"clip_id = '{ids[7]}'")
    assert files_with(tmp_path, ids[7].encode()), "a deletion alone leaves the bytes"
    gone = Gone(clips=frozenset({ids[7]}))
    assert purge_table(catalog, TABLE, gone, "r", touched=True) == []

    dataset = catalog.dataset(TABLE)
    assert dataset.count_rows() == COUNT - 1 and len(dataset.versions()) == 1
    assert files_with(tmp_path, ids[7].encode()) == []
    assert files_with(tmp_path, values[7].tobytes()) == []
    assert files_with(tmp_path, values[8].tobytes())
    new_files = set((tmp_path / "catalog" / f"{TABLE}.lance" / "_indices").iterdir())
    assert new_files and not new_files & old_files
    found = vectors.nearest(dataset, values[7], "f", 5)
    assert len(found) == 5 and ids[7] not in {n.clip_id for n in found}
    assert vectors.nearest(dataset, values[8], "f", 1)[0].clip_id == ids[8]


def test_a_table_from_which_everything_went_does_not_tell_what(tmp_path: Path) -> None:
    catalog = Catalog(Storage(str(tmp_path)))
    one = "0123456789abcdef" * 2
    rows = pa.table({"clip_id": [one], "text": ["a text of more than twenty letters"]})
    catalog.create({"scores": rows.schema})
    catalog.append("scores", rows)
    # No fragment is left to be written anew, but the deletion itself names the id.
    catalog.dataset("scores").delete(f"clip_id = '{one}'")
    assert files_with(tmp_path, one.encode())
    purge_table(catalog, "scores", Gone(clips=frozenset({one})), "r", touched=True)
    assert files_with(tmp_path, one.encode()) == []
    assert files_with(tmp_path, b"more than twenty") == []
    assert catalog.dataset("scores").count_rows() == 0
