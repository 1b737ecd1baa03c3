"""A curated dataset, judged anew with another bound: the comparison, and its page with pictures."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.catalog.catalog import Catalog
from curation.catalog.views import open_views
from pipelines.compare.comparison import compare
from pipelines.compare.page import MAX_PICTURE_BYTES
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.redo import rejudge, stored_config
from tests.compare.parts import clipmill
from tests.faults.helpers import make_video, settings
from tests.pipelines.page_parts import EVIL_FILE, Page


@dataclass(frozen=True)
class Pair:
    """Two roots of the same videos; B's bound lies between the sharpness of its clips."""

    a: str
    b: str
    num_kept: int
    num_lost: int


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("compare")
    videos = folder / "videos"
    make_video(videos / EVIL_FILE, [(1.5, 1), (1.5, 2)])
    make_video(videos / "other.mp4", [(2.5, 4)])
    report = curate([str(videos)], str(folder / "a"), settings(judge={"rules": {}}))
    assert report.balanced and report.account.clips["kept"] >= 3
    shutil.copytree(folder / "a", folder / "b")
    values = open_views(str(folder / "a")).query(
        "SELECT sharpness FROM clips WHERE verdict = 'kept' ORDER BY sharpness"
    )
    found = values.column("sharpness").to_pylist()
    bound = (found[0] + found[1]) / 2
    base = stored_config(Catalog.open(str(folder / "b")))
    rejudge(str(folder / "b"), load_config(None, [f"judge.rules.sharpness.min={bound}"], base=base))
    return Pair(str(folder / "a"), str(folder / "b"), len(found), 1)


def test_another_bound_loses_the_softest_clip(real: Pair) -> None:
    found = compare(real.a, real.b)
    assert found.fates is not None
    assert (found.fates.lost_clips, found.fates.gained_clips) == (real.num_lost, 0)
    assert found.fates.lost[0].reason == "low_sharpness"
    assert found.fates.both_clips == real.num_kept - real.num_lost
    # A whole rule is new: its bound, and what it says of nulls.
    keys = [c.key for c in found.settings]
    assert "judge.rules.sharpness.min" in keys
    assert all(k.startswith("judge.rules.sharpness.") for k in keys)
    assert found.stages == [] and found.versions == []
    assert all(s.paired.num_changed == 0 for s in found.shifts)
    # What was not measured again must be equal to the last bit: one shift comes from the loss.
    assert next(s for s in found.shifts if s.column == "sharpness").effect != 0
    assert found.captions is not None and found.captions.changed == 0
    back = compare(real.b, f"{real.b}@latest~1")
    assert back.fates is not None and back.fates.gained_clips == real.num_lost
    assert back.fates.gained[0].reason == "low_sharpness"


def test_the_page_shows_what_was_lost(real: Pair, tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    done = clipmill("compare", real.a, real.b, "--html", str(path), "--fail-if", "lost.clips > 0")
    assert done.code == 1, done.err
    html = path.read_text()
    page = Page(html)
    assert "low_sharpness" in page.text and "a gate failed" in page.text
    pictures = page.named("img")
    assert pictures and all((p["src"] or "").startswith("data:image/jpeg") for p in pictures)
    assert sum(len(p["src"] or "") for p in pictures) < MAX_PICTURE_BYTES
    assert not page.named("script") and not page.named("link")
    assert "<img src=x" not in html
    assert not re.search(r'(?:src|href)="(?!data:)', html)
    assert list(path.parent.iterdir()) == [path]
