"""One small dataset for the tests of removal: two videos, curated once and copied for each test."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq

from curation.catalog.account import take_account
from curation.catalog.catalog import Catalog
from curation.removal.choose import Selection
from curation.shards.verify import verify_shards
from pipelines.remove import Removed, finish_removing, remove
from pipelines.run_report import RunReport
from tests.faults.helpers import make_video, query, run

WORDS = "two textures that were drawn for a test of removal"
SHARDS: dict[str, Any] = {"target_bytes": 62_000}
"""So small that the samples of one shape fill several tars, of up to three each."""


@dataclass(frozen=True)
class Made:
    """The inputs and the root made of them."""

    inputs: list[Path]
    out: Path

    def copy(self, folder: Path) -> Made:
        """A root of one's own; the inputs are shared."""
        shutil.copytree(self.out, folder / "out")
        return Made(self.inputs, folder / "out")

    def curate(self, inputs: Sequence[Path] | None = None, **sections: Any) -> RunReport:  # noqa: ANN401
        """Run the whole job inline."""
        given = list(self.inputs if inputs is None else inputs)
        return run(given, self.out, address=None, **({"shard": SHARDS} | sections))

    def remove(self, **named: Any) -> Removed:  # noqa: ANN401 - fields of a selection
        """Remove what is named; without the report's page, which has a test of its own."""
        with mock.patch("pipelines.remove.write_page"):
            return remove(str(self.out), Selection(**named), "a test")

    def clips(self) -> list[dict[str, Any]]:
        """Clips in order."""
        columns = "clip_id, video_id, uri, start_s, end_s, start_pts, end_pts, media_path"
        return query(self.out, f"SELECT {columns} FROM clips ORDER BY uri, start_s")

    def problems(self) -> list[str]:
        """What ``clipmill verify`` finds."""
        catalog = Catalog.open(str(self.out))
        return verify_shards(catalog, decode=False).problems + take_account(catalog).imbalances

    def finish(self) -> Removed | None:
        """Go on with a removal that was cut short, as every run does."""
        return finish_removing(Catalog.open(str(self.out)))

    def tars(self) -> dict[str, str]:
        """sha256 of every tar, by name."""
        return {
            str(p.relative_to(self.out)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted((self.out / "shards").rglob("*.tar"))
        }

    def index(self) -> dict[str, str]:
        """Shard of each sample."""
        rows = pq.read_table(self.out / "shards" / "index.parquet").to_pylist()
        return {r["clip_id"]: r["shard"] for r in rows}


def make(folder: Path) -> Made:
    """Two videos of two shots each, one with words, curated."""
    videos = [
        make_video(folder / "in" / "a.mp4", [(3.0, 1), (2.5, 2)]),
        make_video(folder / "in" / "b.mp4", [(3.0, 11), (2.0, 12)]),
    ]
    (folder / "in" / "b.txt").write_text(WORDS)
    made = Made(videos, folder / "out")
    report = made.curate()
    assert report.balanced, report.account.imbalances
    return made
