"""What a VAE was made of: the footage of its data, with licences, to travel with the weights."""

from __future__ import annotations

from typing import Any

from training.data.loader import ClipLoader
from training.data.settings import DataSettings

MAX_FILES = 20
"""Names of files that are told of one source and licence."""


def footage_of(data: DataSettings, stop_step: int) -> list[dict[str, Any]]:
    """One row for each source and licence: ``source``, ``licence``, ``clips``, ``files``.

    Reads the texts of one epoch, no pixels.

    Args:
        data: Of the training.
        stop_step: Steps of the training: what comes later is not told.
    """
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    over: set[int] = set()
    texts = data.model_copy(update={"pixels": False})
    with ClipLoader(settings=texts, rank=0, world_size=1, stop_step=stop_step) as loader:
        for batch in loader:
            if batch.epoch > 0:
                over.add(batch.source)
                if len(over) == len(data.sources):
                    break
                continue
            for record in batch.records:
                given = record.get("metadata")
                given = given if isinstance(given, dict) else {}
                key = str(given.get("source") or ""), str(given.get("license") or "")
                row = found.setdefault(key, {"clips": set(), "files": set()})
                row["clips"].add(str(record["clip_id"]))
                row["files"].add(str(record.get("file")))
    return [
        {
            "source": source or None,
            "licence": licence or None,
            "clips": len(row["clips"]),
            "files": sorted(row["files"])[:MAX_FILES],
        }
        for (source, licence), row in sorted(found.items())
    ]
