"""What the edges of a level are made from, as a digest: they are made anew when it changes."""

from __future__ import annotations

from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.vectors import TABLES as VECTOR_TABLES
from curation.catalog.views import Views
from curation.dedup.vector_file import no_embeddings
from curation.errors import ConfigError
from curation.ids import json_digest

VERSIONS = {"exact": 1, "perceptual": 3, "semantic": 1}
"""To be raised when a level finds other edges in the same rows."""
READS = {"exact": ("packets",), "perceptual": ("print_pictures", "clips")}
"""Level -> the tables it reads."""
CLIPS = {"exact": "packets", "perceptual": "print_pictures", "semantic": "embeddings"}
"""Level -> the view whose clips it compares."""


def edges_fingerprint(
    level: str,
    settings: Any,  # noqa: ANN401 - the settings of any level
    catalog: Catalog,
    views: Views,
    other: tuple[str, Catalog, Views] | None = None,
) -> str:
    """Of the edges of a level: of its settings and of all rows it reads.

    Args:
        level: Its name.
        settings: Its settings.
        catalog: The dataset.
        views: Its current rows.
        other: Root, catalog and rows of a held-out dataset.

    Raises:
        CatalogError: The dataset has no embeddings, and the level needs them.
        ConfigError: It lacks another table of the level.
    """
    facts = {
        "level": level,
        "version": VERSIONS[level],
        "settings": settings.stored(),
        "rows": _rows(level, catalog, views),
        "reference": None if other is None else [other[0], _rows(level, *other[1:])],
    }
    return json_digest(facts)


def _rows(level: str, catalog: Catalog, views: Views) -> dict[str, Any]:
    """Which clips, made by which stages in which runs.

    A stage's rows under one fingerprint do not change, but for ``clipmill redo``: it forgets them,
    and the next run, which has another id, makes them again.
    """
    current = catalog.current().tables
    prints = {}
    for table in _tables(level, current):
        if table not in current:
            raise ConfigError(
                f"the dataset has no {table}",
                where=f"dedup.{level}",
                mend="run curate with the stage that makes them, or leave the level out",
            )
        prints[table] = current[table]
    # A sum without order over ids and runs: exclusive or of their MD5.
    ids = views.query(
        "SELECT count(*) AS n, CAST(bit_xor(md5_number(clip_id)) AS VARCHAR) AS ids "
        f"FROM {CLIPS[level]}"
    ).to_pylist()[0]
    among = ", ".join(f"'{p}'" for p in sorted(set(prints.values())))
    runs = views.query(
        "SELECT CAST(bit_xor(md5_number(concat_ws(' ', video_id, fingerprint, run_id))) AS VARCHAR)"
        f" AS runs FROM (SELECT DISTINCT video_id, fingerprint, run_id FROM done "
        f"WHERE fingerprint IN ({among}))"
    ).to_pylist()[0]
    return {"tables": prints, **ids, **runs}


def _tables(level: str, current: dict[str, str]) -> tuple[str, ...]:
    if level != "semantic":
        return READS[level]
    found = tuple(sorted(t for t in current if t.startswith(VECTOR_TABLES)))
    if not found:
        raise no_embeddings()
    return found
