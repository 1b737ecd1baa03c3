"""A rule on what only kept clips get: a null is judged once the clip has come so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from curation.schema import FLOAT64, INT32, STRING, schema
from curation.stage import Output, Stage
from tests.faults.helpers import make_video, query, run


class Sparse(Stage):
    """Scores kept clips, every second one with null."""

    name: ClassVar[str] = "sparse"
    gated: ClassVar[bool] = True
    reads: ClassVar[pa.Schema] = schema(clip_id=STRING, clip_index=INT32)
    adds: ClassVar[Mapping[str, pa.Schema]] = {"sparse": schema(clip_id=STRING, rarity=FLOAT64)}

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """A score for the clips with an even number."""
        rows = [
            {"clip_id": r["clip_id"], "rarity": 0.5 if r["clip_index"] % 2 == 0 else None}
            for r in batch.to_pylist()
        ]
        yield "sparse", pa.Table.from_pylist(rows, schema=self.adds["sparse"])


@pytest.mark.parametrize(
    ("if_null", "ends"),
    [
        ("keep", ("kept", [])),
        ("reject", ("rejected", ["null_rarity"])),
        ("error", ("failed", ["null_rarity"])),
    ],
)
def test_a_null_is_judged_where_the_stage_has_been(
    tmp_path: Path, if_null: str, ends: tuple[str, list[str]]
) -> None:
    make_video(tmp_path / "in" / "a.mp4", [(4.0, 1)])
    rules: dict[str, Any] = {"clip_index": {"max": 2}, "rarity": {"max": 1, "if_null": if_null}}
    report = run(
        tmp_path / "in",
        tmp_path / "out",
        stages=[{"use": f"{__name__}:Sparse"}],
        judge={"rules": rules},
    )
    assert report.balanced, report.account.imbalances
    rows = query(tmp_path / "out", "SELECT * FROM clips ORDER BY clip_index")
    found = [(r["verdict"], r["reasons"]) for r in rows]
    assert len(rows) == 4 and found[0] == found[2] == ("kept", [])
    assert found[1] == ends
    # The last one was rejected before the stage: its null means nothing.
    assert found[3] == ("rejected", ["high_clip_index"])
    cut = [r["media_path"] is not None for r in rows]
    assert cut == [True, if_null == "keep", True, False]
