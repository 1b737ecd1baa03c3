"""The order of quality: which of several clips is the better one."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from curation.catalog.views import Views
from curation.dedup.lookup import is_among
from curation.errors import CatalogError, ConfigError


def by_quality(views: Views, prefer: Sequence[str], among: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Some clips from the best to the worst: ``clip_id, video_id``.

    Args:
        views: The dataset.
        prefer: Columns of numbers, the first that differs counts: more is better, or less with a
            minus before the name; nulls last, ties by clip id.
        among: Ids of the clips wanted.

    Raises:
        ConfigError: There is no such column, or it holds no numbers.
    """
    names = [name.removeprefix("-") for name in prefer]
    known = views.columns("clips")
    for name in names:
        if name not in known:
            raise ConfigError(
                "there is no such column", where=f"dedup.prefer: {name}", mend="see the view clips"
            )
    # A score that is not a number counts as unknown: it would sort above all others.
    order = [
        f"""nullif(CAST("{name}" AS DOUBLE), 'nan'::DOUBLE) """
        f"""{"ASC" if given.startswith("-") else "DESC"} NULLS LAST"""
        for name, given in zip(names, prefer, strict=True)
    ]
    query = views.clips(dict.fromkeys(["clip_id", "video_id", *names]))
    sql = f"SELECT clip_id, video_id FROM ({query}) ORDER BY {', '.join([*order, 'clip_id'])}"
    try:
        rows = views.query(sql)
    except CatalogError as exc:
        raise ConfigError(
            f"quality can only be told by numbers: {exc.what}", where="dedup.prefer"
        ) from exc
    wanted = among.combine_chunks() if isinstance(among, pa.ChunkedArray) else among
    return rows.filter(is_among(rows.column("clip_id"), wanted))
