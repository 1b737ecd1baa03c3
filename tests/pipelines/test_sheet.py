"""The sheet of a score: right clips, right order, mistakes told."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from curation.catalog.views import open_views
from pipelines.sheet import ranked
from tests.pipelines.conftest import Dataset, clipmill


def test_clips_come_in_order_from_both_ends(dataset: Dataset) -> None:
    views = open_views(str(dataset.root))
    values = views.query("SELECT sharpness FROM clips ORDER BY sharpness").column(0).to_pylist()
    whole = ranked(views, "sharpness", 100)
    assert [r["value"] for r in whole.rows] == values
    few = [r["value"] for r in ranked(views, "sharpness", 3).rows]
    assert len(few) == 3 and few == sorted(few) and few[0] == values[0]


def test_a_picture_is_written(dataset: Dataset, tmp_path: Path) -> None:
    png = tmp_path / "s.png"
    done = clipmill("sheet", str(dataset.root), "motion_per_s", "--png", str(png), "--json")
    told = json.loads(done.stdout)
    image = cv2.imread(str(png))
    assert image is not None and told["num_null"] == 0
    cell = image[80:160, 20:220]  # the first clip's picture
    assert float(np.std(cell)) > 10


def test_a_class_and_an_unknown_column(dataset: Dataset, tmp_path: Path) -> None:
    png = str(tmp_path / "c.png")
    assert clipmill("sheet", str(dataset.root), "codec", "--png", png).returncode == 0
    wrong = clipmill("sheet", str(dataset.root), "sharpnes", "--png", png)
    assert wrong.returncode == 2 and "did you mean 'sharpness'" in wrong.stderr
    nowhere = clipmill("sheet", str(dataset.root), "codec", "--png", str(tmp_path / "no" / "c.png"))
    assert nowhere.returncode == 2 and "cannot be written" in nowhere.stderr
