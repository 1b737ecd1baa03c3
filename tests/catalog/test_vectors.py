"""Nearest vectors: the same with and without an index, and only among the rows that count."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from curation.catalog import vectors
from curation.catalog.vectors import COLUMN, INDEX, holds_embeddings, is_vector, nearest
from tests.bench.vectors import FINGERPRINT, queries, recall, synthetic_vectors, write_table

ROWS, DIM = 3000, 32


@pytest.fixture
def made() -> np.ndarray:
    return synthetic_vectors(ROWS, DIM)


def has_index(dataset: lance.LanceDataset) -> bool:
    return any(i.name == INDEX for i in dataset.describe_indices())


def rows(*vectors_: list[float] | None, fingerprint: str = FINGERPRINT) -> pa.Table:
    return pa.table(
        {
            "clip_id": [f"{fingerprint[0]}{i}" for i in range(len(vectors_))],
            "fingerprint": [fingerprint] * len(vectors_),
            COLUMN: pa.array(vectors_, pa.list_(pa.float32(), 2)),
        }
    )


def test_below_the_limit_every_row_is_compared(made: np.ndarray, tmp_path: Path) -> None:
    dataset = write_table(tmp_path / "x.lance", made)
    vectors.refresh_index(dataset)
    assert not has_index(dataset)
    asked = queries(made, 20)
    assert recall(dataset, made, asked) == 1.0
    best = nearest(dataset, made[7], FINGERPRINT, 3)
    assert best[0].clip_id == f"{7:032d}" and best[0].cosine == pytest.approx(1, abs=1e-5)
    assert [n.cosine for n in best] == sorted((n.cosine for n in best), reverse=True)


def test_the_index_finds_what_a_scan_finds_and_takes_in_new_rows(
    made: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 1000)
    path = tmp_path / "x.lance"
    dataset = write_table(path, made[:2000])
    vectors.refresh_index(dataset)
    assert has_index(dataset)
    asked = queries(made[:2000], 30)
    assert recall(dataset, made[:2000], asked) >= 0.98
    version = dataset.version
    vectors.refresh_index(dataset)
    assert dataset.version == version  # nothing new, nothing done
    write_table(tmp_path / "more.lance", made)
    more = lance.dataset(str(tmp_path / "more.lance")).to_table(offset=2000)
    dataset = lance.write_dataset(more, str(path), mode="append")
    asked = queries(made, 30)
    assert recall(dataset, made, asked) >= 0.98  # rows that wait are compared one by one
    vectors.refresh_index(dataset)
    assert dataset.stats.index_stats(INDEX)["num_unindexed_rows"] == 0
    assert recall(dataset, made, asked) >= 0.98


@pytest.mark.parametrize("indexed", [False, True])
def test_only_rows_of_the_fingerprint_with_a_vector_count(
    indexed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "x.lance")
    lance.write_dataset(rows([1.0, 0.0], None, [0.6, 0.8], None), path)
    other = [[1.0, 0.0]] * 400
    dataset = lance.write_dataset(rows(*other, fingerprint="0" * 32), path, mode="append")
    if indexed:
        monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 1)
        vectors.refresh_index(dataset)
        assert has_index(dataset)
    found = nearest(dataset, np.array([1.0, 0.0]), FINGERPRINT, 10)
    assert [(n.clip_id, n.cosine) for n in found] == [
        ("f0", pytest.approx(1.0, abs=1e-5)),
        ("f2", pytest.approx(0.6, abs=1e-5)),
    ]


def test_which_tables_and_columns_hold_vectors() -> None:
    vector = pa.list_(pa.float32(), 2)
    assert is_vector(vector) and is_vector(pa.list_(vector))
    assert not is_vector(pa.list_(pa.float32())) and not is_vector(pa.string())
    assert holds_embeddings("embeddings_x", pa.schema({"embedding": vector}))
    assert not holds_embeddings("embeddings_x", pa.schema({"other": vector}))
    assert not holds_embeddings("scores", pa.schema({"embedding": vector}))


@pytest.mark.slow
def test_recall_of_fifty_thousand_vectors(tmp_path: Path) -> None:
    made = synthetic_vectors(50_000, 256)
    dataset = write_table(tmp_path / "x.lance", made)
    vectors.refresh_index(dataset)
    assert has_index(dataset)
    assert recall(dataset, made, queries(made, 100)) >= 0.98
