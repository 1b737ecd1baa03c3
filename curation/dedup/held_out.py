"""Held-out datasets: clips near theirs must not come in, or an evaluation measures memory.

Any dataset root can be one. It has to hold what the levels compare, made in the same way: vectors
of two models have nothing to do with each other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import ConfigError

WHERE = "dedup.held_out"
HOLDS = {
    "exact": ("packets", "packets_digest", "the stage packets"),
    "perceptual": ("print_pictures", "print_luma", "the stage prints"),
    "semantic": ("embeddings", "embedding", "the stage embed"),
}
"""Level -> view and column that it compares, and what makes them."""


@dataclass(frozen=True)
class Reference:
    """Another dataset.

    Attributes:
        root: As it was given.
        catalog: Its tables.
        views: Their current rows.
    """

    root: str
    catalog: Catalog
    views: Views


def open_reference(root: str, catalog: Catalog, views: Views, levels: Collection[str]) -> Reference:
    """Open a held-out dataset and check that it can be compared with this one.

    Args:
        root: Path or URL.
        catalog: The dataset that is curated.
        views: Its current rows.
        levels: How the two will be compared.

    Raises:
        CatalogError: There is no dataset.
        ConfigError: It is this very one, lacks what a level compares, or has it from another model.
    """
    other = Catalog.open(root)
    if other.storage.url == catalog.storage.url:
        raise ConfigError(
            "is the dataset itself: nothing would stay",
            where=f"{WHERE}: {root}",
            mend="name another dataset, or none",
        )
    reference = Reference(root, other, Views(other))
    for level in levels:
        _check_holds(reference, level)
    if "semantic" in levels:
        _check_same_model(reference, views)
    return reference


def _check_holds(reference: Reference, level: str) -> None:
    view, column, maker = HOLDS[level]
    names = reference.views.query("SHOW TABLES").column("name").to_pylist()
    if view not in names or column not in reference.views.columns(view):
        raise ConfigError(
            f"has nothing to compare by dedup.{level}",
            where=f"{WHERE}: {reference.root}",
            mend=f"curate it with {maker}, or leave dedup.{level} out",
        )


def _check_same_model(reference: Reference, views: Views) -> None:
    here, there = embedding_models(views), embedding_models(reference.views)
    if here and there and here != there:
        raise ConfigError(
            f"was embedded with {_named(there)}, this dataset with {_named(here)}",
            where=f"{WHERE}: {reference.root}",
            mend="embed both with one model (embed.model) and run curate on the other again",
        )


def embedding_models(views: Views) -> set[str]:
    """Labels of the models whose vectors are current; empty: no clip has one."""
    if "embedding_model" not in views.columns("embeddings"):
        return set()
    sql = "SELECT DISTINCT embedding_model AS m FROM embeddings"
    return {str(m) for m in views.query(sql).column("m").to_pylist() if m is not None}


def _named(models: set[str]) -> str:
    return ", ".join(sorted(models))
