"""Which clips and which of their columns are exported: a checked query over the view ``clips``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError, ConfigError

KEPT = "verdict = 'kept'"


@dataclass(frozen=True)
class Choice:
    """Clips to be exported.

    Attributes:
        views: The catalog's.
        where: Condition on the view ``clips``.
        columns: Of the view, in their order.
        num_clips: How many there are.
    """

    views: Views
    where: str
    columns: tuple[str, ...]
    num_clips: int

    def batches(
        self, more: Sequence[str] = (), joins: str = "", order: str = "", batch_rows: int = 4096
    ) -> Iterator[pa.RecordBatch]:
        """Stream the clips.

        Args:
            more: Further columns or expressions.
            joins: SQL to follow the view, that adds columns.
            order: What the clips are sorted by before video and time.
            batch_rows: Rows held in memory at a time.
        """
        names = [f'"{c}"' for c in self.columns]
        wanted = ", ".join([*names, *(m for m in more if m not in {*self.columns, *names})])
        sql = f"SELECT {wanted} FROM (SELECT * FROM clips WHERE ({self.where})) clips{joins}"
        sql += f" ORDER BY {order}clips.video_id, clips.start_s, clip_id"
        yield from self.views.reader(sql, batch_rows)


def choose(catalog: Catalog, where: str = KEPT, columns: Sequence[str] = ()) -> Choice:
    """Check what is asked for, before anything is written.

    Args:
        catalog: The dataset.
        where: SQL condition on the view ``clips``.
        columns: Its columns; none: all.

    Raises:
        ConfigError: There is no such column.
        CatalogError: The condition is no SQL, or no clip meets it.
    """
    views = Views(catalog)
    if "clips" not in catalog.current().tables:
        raise CatalogError("has no clips", where=catalog.storage.url, mend="clipmill curate")
    known = views.columns("clips")
    for name in columns:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            mend = f"did you mean {near[0]!r}?" if near else "columns are those of the view clips"
            raise ConfigError("clips have no such column", where=f"column {name!r}", mend=mend)
    found = views.query(f"SELECT count(*) AS n FROM clips WHERE ({where})").column("n")[0].as_py()
    if not found:
        raise CatalogError(
            "no clip meets the condition, so there is nothing to export",
            where=f"--where {where!r}",
            mend='try it with clipmill sql OUT "select count(*) from clips where ..."',
        )
    return Choice(views, where, tuple(dict.fromkeys(columns)) or tuple(known), found)
