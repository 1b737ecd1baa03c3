"""The page as a file: its sections, escaping, that it stands alone, and its size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.audit import render
from pipelines.audit.page import make_audit
from pipelines.audit.script_data import json_for_script
from tests.audit.conftest import Audited
from tests.audit.parts import QUANTILE_VALUE, REFERENCE
from tests.pipelines.page_parts import EVIL, EVIL_FILE, Page, empty_catalog

SECTIONS = [
    *("summary", "find", "funnel", "scores", "borderline", "duplicates", "captions", "rights"),
    *("errors", "cost", "split", "versions"),
]


@pytest.fixture(scope="module")
def page(audited: Audited) -> Page:
    return Page(audited.body)


def data_of(html: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_page_has_every_section_and_says_what_is_in_it(page: Page, audited: Audited) -> None:
    assert [a["id"] for a in page.named("section")] == SECTIONS
    for words in (
        *("Most clips fail", "Every kept clip has a licence", "Kept clips are divided", "train"),
        *("rights: license is not known", "duplicate: looks the same", "sampling: its source"),
        *("held out: shows the same as a reference", REFERENCE, "stays", "mirrored"),
        *("denied license: *NC*", "must be known: license", "stock", "unknown", "not_a_video"),
        *("whole videos", "All thresholds", "film archive*", f"at least {QUANTILE_VALUE:g}"),
        *("What made it", "Libraries", "edge_trim_s: 0.2", "2 Jan 2026"),
    ):
        assert words in page.text, words
    assert audited.report.num_listed == audited.report.num_clips == audited.report.num_pictures


def test_nothing_from_outside_becomes_markup(page: Page, audited: Audited) -> None:
    assert EVIL not in audited.html and EVIL_FILE not in audited.body
    assert "&lt;script&gt;alert" in audited.body
    assert not [a for _, a in page.tags if any(n.startswith("on") and n != "onsubmit" for n in a)]
    assert audited.html.count("</script>") == 3  # the data, plotly, the page's own
    titles = {c["title"] for c in data_of(audited.html)["clips"]}
    assert {EVIL, "Bikes </script>"} <= titles  # in the data they are whole


def test_json_in_a_script_cannot_end_it_and_knows_only_numbers() -> None:
    value = {"</script><!--": ["\u2028", "&", float("nan"), 1.5, (True, None)]}
    text = json_for_script(value)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"</script><!--": ["\u2028", "&", None, 1.5, [True, None]]}


def test_the_page_fetches_nothing_and_holds_plotly_once(page: Page, audited: Audited) -> None:
    links = [a.get("src") or a.get("href") or "" for _, a in page.tags]
    assert all(link.startswith(("#", "data:")) for link in links if link)
    policy = next(a["content"] for a in page.named("meta") if a.get("http-equiv"))
    assert policy is not None and policy.startswith("default-src 'none'")
    assert audited.html.count("* plotly.js v") == 1
    for place in ("/tmp", audited.root):
        assert place not in audited.html


def test_every_clip_is_in_the_data_with_reasons_and_a_picture(audited: Audited) -> None:
    data = data_of(audited.html)
    clips = {c["id"]: c for c in data["clips"]}
    assert set(data["pictures"]) == set(clips)
    assert all(p.startswith("data:image/jpeg;base64,") for p in data["pictures"].values())
    gone = clips[audited.clips["duplicate"]]
    assert gone["like"][0] == audited.clips["stays"] and gone["verdict"] == "rejected"
    for clip in clips.values():
        assert clip["answer"] and (clip["verdict"] == "kept" or clip["why"])
        assert clip["scores"]
    curves = {c["set"]: c for c in data["curves"]}
    share = curves["judge.rules.saturation.min_quantile=null judge.rules.saturation.min={}"]
    assert share["value"] == QUANTILE_VALUE


def test_pictures_and_page_stay_within_their_budgets(
    audited: Audited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 20_000
    few = make_audit(audited.root, tmp_path / "few.html", max_picture_bytes=limit)
    pictures = data_of((tmp_path / "few.html").read_text())["pictures"]
    assert 0 < few.num_pictures < audited.report.num_pictures
    assert sum(map(len, pictures.values())) <= limit
    without = few.num_bytes - sum(map(len, pictures.values()))
    monkeypatch.setattr(render, "MAX_PAGE_BYTES", without + 2 * limit)
    small = make_audit(audited.root, tmp_path / "small.html")
    assert small.num_bytes <= without + 2 * limit
    assert 0 < small.num_pictures < audited.report.num_pictures
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["few.html", "small.html"]


def test_a_dataset_without_clips_still_has_a_page(tmp_path: Path) -> None:
    catalog = empty_catalog(tmp_path / "none")
    with pytest.raises(CatalogError, match="nothing was ever run"):
        make_audit(str(tmp_path / "none"))
    from pipelines.config import load_config

    plan = load_config("laptop").plan()
    catalog.create(plan.table_schemas())
    catalog.start_run("r", "curate", {}, plan)
    report = make_audit(str(tmp_path / "none"))
    html = Path(report.page).read_text()
    page = Page(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    assert [a["id"] for a in page.named("section")] == SECTIONS
    assert report.num_clips == 0 and "no clip yet" in page.text


def test_an_old_dataset_lacks_tables_and_says_so(synthetic: Catalog, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "old"
    shutil.copytree(synthetic.storage.root, root)
    for table in ("thresholds", "duplicates", "edges", "tombstones", "frames"):
        shutil.rmtree(root / "catalog" / f"{table}.lance")
    report = make_audit(str(root), max_clips=50)
    text = Page(
        re.sub(r"<script.*?</script>", "", Path(report.page).read_text(), flags=re.DOTALL)
    ).text
    assert "Not made: nobody looked for duplicates" in text
    assert "Not made: this dataset is older" in text
    assert report.num_pictures == 0 and report.num_listed < report.num_clips == 3000
    assert "of 3,000 clips can be looked up here" in text
