"""The exact level: every two of equal digests, and enough of them in large groups."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup import exact
from curation.dedup.exact import Exact, exact_edges
from curation.errors import CatalogError
from curation.schema import EDGES
from tests.dedup.catalogs import ids_of, new_catalog
from tests.dedup.print_catalogs import new_print_catalog


def dataset(root: Path, digests: dict[str, str | None]) -> Views:
    """A dataset of clips with the given digests."""
    catalog = new_print_catalog(root)
    rows = [{"clip_id": c, "packets_digest": d} for c, d in digests.items()]
    catalog.add({"packets": rows}, list(digests))
    return Views(catalog.catalog)


def edges(views: Views, reference: Views | None = None) -> set[tuple[str, str]]:
    batches = list(exact_edges(views, Exact(), reference=reference))
    assert all(b.schema.equals(EDGES) for b in batches)
    rows = pa.Table.from_batches(batches, EDGES).to_pylist()
    assert {(r["level"], r["similarity"], r["fingerprint"]) for r in rows} <= {("exact", 1.0, None)}
    found = {(r["clip_a"], r["clip_b"]) for r in rows}
    assert len(found) == len(rows), "a pair occurs twice"
    return found


def test_every_two_of_a_group_are_linked_and_no_others(tmp_path: Path) -> None:
    ids = sorted(ids_of(9))
    digests = ["x", "y", "x", None, "y", "x", "alone", None, "x"]
    views = dataset(tmp_path, dict(zip(ids, digests, strict=True)))
    groups = [[ids[i] for i in (0, 2, 5, 8)], [ids[i] for i in (1, 4)]]
    assert edges(views) == {pair for group in groups for pair in combinations(group, 2)}


def test_large_groups_are_linked_through_their_first_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "WHOLE", 5)
    monkeypatch.setattr(exact, "BATCH_ROWS", 7)
    ids = sorted(ids_of(30))
    views = dataset(tmp_path, dict.fromkeys(ids, "same"))
    found = edges(views)
    assert len(found) == 10 + 5 * 25
    assert {(a, b) for a in ids[:5] for b in ids if a < b} == found


def test_clips_of_another_dataset(tmp_path: Path) -> None:
    ours, theirs = sorted(ids_of(5)), sorted(ids_of(5, seed=1))
    here = dataset(tmp_path / "here", dict(zip(ours, ["a", "b", "b", None, "d"], strict=True)))
    there = dataset(tmp_path / "there", dict(zip(theirs, ["b", "b", "a", "e", None], strict=True)))
    assert edges(here, there) == {
        (ours[0], theirs[2]),
        (ours[1], theirs[0]),
        (ours[2], theirs[0]),
    }
    assert edges(there, here) == {
        (theirs[0], ours[1]),
        (theirs[1], ours[1]),
        (theirs[2], ours[0]),
    }


def test_a_dataset_without_digests_is_told_so(tmp_path: Path) -> None:
    catalog: Catalog = new_catalog(tmp_path, 4)
    with pytest.raises(CatalogError, match="digests of packets") as caught:
        list(exact_edges(Views(catalog), Exact()))
    assert caught.value.where == "dedup.exact"


def test_nothing_is_stored_that_does_not_depend_on_settings() -> None:
    assert Exact().stored() == {} and Exact().threshold == 1.0
    with pytest.raises(ValueError):
        Exact.model_validate({"min_similarity": 0.5})
