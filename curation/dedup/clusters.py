"""Which clips are of a kind: clusters of embeddings, to balance a dataset by."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa

from curation.catalog.views import Views
from curation.dedup.semantic import Semantic, spread_over_clusters
from curation.dedup.vector_file import write_vectors
from curation.schema import INT32, STRING, schema

CLUSTERS = schema(clip_id=STRING, cluster=INT32)


def cluster_of(views: Views, num_clusters: int, seed: int = 0) -> pa.Table:
    """The cluster of every clip that has an embedding, by spherical k-means.

    The numbers mean nothing from one call to another with other clips. A clip without a sampled
    frame has no embedding and is not in the table.

    Args:
        views: The dataset.
        num_clusters: How many; with fewer clips, as many as there are clips.
        seed: Of the clustering.

    Returns:
        One row per clip, sorted by id: ``clip_id``, ``cluster`` int32 from 0.

    Raises:
        CatalogError: The dataset has no embeddings.
    """
    with tempfile.TemporaryDirectory(prefix="clipmill-clusters-") as folder:
        file = write_vectors(views, Path(folder))
        if file.count == 0:
            return CLUSTERS.empty_table()
        settings = Semantic(seed=seed, probes=1)
        found = spread_over_clusters(file, settings, num_clusters)
        return pa.table([file.clip_ids(), pa.array(found[:, 0])], schema=CLUSTERS)
