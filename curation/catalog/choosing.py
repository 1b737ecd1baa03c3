"""Of the clips that pass every rule: which stay, and in which split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.dedup.semantic import Mapper
from curation.errors import RETRYABLE
from curation.judging.choice import Choice
from curation.schema import DUPLICATES, FLOAT64, STRING, THRESHOLDS, schema

DROPPED = schema(clip_id=STRING, reason=STRING, margin=FLOAT64)
CLUSTER = "cluster"
CLUSTERS = 100
"""Groups of alike clips to balance by, unless the settings say how many."""


def _silent(name: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Comparing:
    """How clips are compared; the edges come out the same.

    Attributes:
        on_progress: Called with what is compared, how many clips are done, and of how many.
        mapper: Does pieces of the work: ``map``, or ``ray_map.RayMap``.
        scratch: A local folder that all its workers see; None: the system's temporary folder.
        keep: Edges that are not asked for stay in their table.
    """

    on_progress: Callable[[str, int, int], None] = _silent
    mapper: Mapper = map
    scratch: Path | None = None
    keep: bool = False


class Chooser:
    """The choice among judged clips, in one session.

    Args:
        catalog: The dataset.
        views: The session.
        choice: What is wanted.
        judged: A table of the session with the verdicts by the rules alone.
        fingerprint: Of the verdicts.
        comparing: How clips are compared.
    """

    def __init__(
        self,
        catalog: Catalog,
        views: Views,
        choice: Choice,
        judged: str,
        fingerprint: str,
        comparing: Comparing,
    ) -> None:
        self._comparing = comparing
        self._catalog, self._views, self._choice = catalog, views, choice
        self._judged, self._fingerprint = judged, fingerprint
        self.thresholds: pa.Table = THRESHOLDS.empty_table()
        self.duplicates: pa.Table = DUPLICATES.empty_table()
        self.edges: dict[str, Any] = {}
        self.remarks: list[str] = []

    def choose(self) -> None:
        """Fill the session's tables ``dropped`` and ``divided``."""
        self._views.keep("passing", self._passing())
        self._views.keep_rows("near", self._drop_duplicates())
        self._views.keep_rows("sampled", self._drop_sampled())
        self._views.keep("dropped", "SELECT * FROM near UNION ALL SELECT * FROM sampled")
        self._divide()

    def final_sql(self) -> str:
        """All verdicts, with the reasons of the choice and the splits."""
        return f"""
        SELECT j.clip_id, j.video_id,
            CASE WHEN d.reason IS NULL THEN j.verdict ELSE 'rejected' END AS verdict,
            CASE WHEN d.reason IS NULL THEN j.reasons ELSE list_append(j.reasons, d.reason) END
                AS reasons,
            CASE WHEN d.reason IS NULL THEN j.margins ELSE list_append(j.margins, d.margin) END
                AS margins,
            CASE WHEN d.reason IS NULL AND j.verdict = 'kept' THEN s.split END AS split,
            j.fingerprint
        FROM {self._judged} j LEFT JOIN dropped d USING (clip_id)
        LEFT JOIN divided s ON s.video_id = j.video_id
        ORDER BY j.video_id, j.clip_id"""

    def _passing(self) -> str:
        """Clips that pass every rule, and that no error has stopped for good.

        A clip that cannot be cut stands for no other; one that the next run tries again does.
        """
        passing = f"SELECT clip_id FROM {self._judged} WHERE verdict = 'kept'"
        again = ", ".join(f"'{code}'" for code in sorted(RETRYABLE))
        lost = (
            "SELECT clip_id FROM (SELECT clip_id, unnest(codes) AS code FROM broken_clips) "
            f"WHERE code NOT IN ({again})"
        )
        return f"{passing} AND clip_id NOT IN ({lost})"

    def _drop_duplicates(self) -> pa.Table:
        settings = self._choice.dedup
        if settings is None:
            return DROPPED.empty_table()
        from curation.dedup.duplicates import find_duplicates
        from curation.dedup.edges import bring_edges

        how = self._comparing
        edges = bring_edges(
            *(self._catalog, self._views, settings),
            on_progress=how.on_progress,
            mapper=how.mapper,
            scratch=how.scratch,
            keep=how.keep,
        )
        self.edges = edges.as_dict()
        passed = self._views.query("SELECT clip_id FROM passing").column("clip_id")
        found = find_duplicates(
            *(self._catalog, self._views, settings, edges, passed), fingerprint=self._fingerprint
        )
        self.duplicates = found.duplicates
        return found.dropped.select(DROPPED.names).cast(DROPPED)

    def _drop_sampled(self) -> pa.Table:
        sample = self._choice.sample
        if sample is None:
            return DROPPED.empty_table()
        wanted = [c for c in sample.columns() if c != CLUSTER]
        clips = self._views.query(
            f"SELECT * FROM ({self._views.clips(wanted)}) SEMI JOIN "
            "(SELECT * FROM passing ANTI JOIN near USING (clip_id)) USING (clip_id)"
        )
        if CLUSTER in sample.columns():
            clips = self._with_clusters(clips)
        reasons = sample.choose(clips, self.remarks)
        gone = clips.select(["clip_id"]).append_column("reason", reasons)
        gone = gone.filter(reasons.is_valid())
        return gone.append_column("margin", pa.nulls(gone.num_rows, FLOAT64)).cast(DROPPED)

    def _with_clusters(self, clips: pa.Table) -> pa.Table:
        """Clips with the group of alike ones that each is in; null without a vector."""
        from curation.dedup.clusters import cluster_of

        assert self._choice.sample is not None and self._choice.sample.balance is not None
        count = self._choice.sample.balance.num_clusters
        clusters = cluster_of(self._views, count or CLUSTERS, self._choice.sample.seed)
        return clips.join(clusters, keys="clip_id", join_type="left outer")

    def _divide(self) -> None:
        """Fill ``divided``: the split of each video."""
        splits = self._choice.splits
        columns = schema(video_id=STRING, split=STRING)
        if splits is None:
            self._views.keep_rows("divided", columns.empty_table())
            return
        clips = self._views.clips(["video_id", "source"])
        videos = self._views.query(f"SELECT DISTINCT video_id, source FROM ({clips}) ORDER BY ALL")
        sources = videos.column("source")
        divided = splits.assign(videos.column("video_id"), self._links(), sources).cast(columns)
        self._views.keep_rows("divided", divided)
        lengths = self._views.query(
            f"SELECT video_id, end_s - start_s AS duration_s, split FROM ({self.final_sql()}) "
            "JOIN (SELECT clip_id, start_s, end_s FROM current_clips) USING (clip_id) "
            "WHERE verdict = 'kept'"
        )
        self.remarks += splits.report(lengths).remarks

    def _links(self) -> pa.Table:
        """Pairs of videos that show the same somewhere, kept or not."""
        columns = schema(video_a=STRING, video_b=STRING)
        settings = self._choice.dedup
        if settings is None:
            return columns.empty_table()
        prints = ", ".join(f"'{s['fingerprint']}'" for s in self.edges["sets"])
        above = " OR ".join(
            f"(level = '{level}' AND similarity >= {least!r})"
            for level, least in settings.thresholds().items()
        )
        # A session of its own: this one was opened before the edges were written.
        found = Views(self._catalog).query(
            f"""SELECT DISTINCT a.video_id AS video_a, b.video_id AS video_b
            FROM (SELECT clip_a, clip_b FROM raw_edges WHERE reference IS NULL
                AND fingerprint IN ({prints}) AND ({above})) e
            JOIN current_clips a ON a.clip_id = e.clip_a
            JOIN current_clips b ON b.clip_id = e.clip_b
            WHERE a.video_id <> b.video_id ORDER BY ALL"""
        )
        return found.cast(columns)
