"""The card: its numbers are the catalog's, and nothing from outside becomes Markdown."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from curation.catalog.catalog import Catalog
from curation.shards.index import read_index
from curation.storage import Storage
from pipelines.config import CurateConfig
from pipelines.redo import reshard, stored_config
from pipelines.release.card import cell, code
from pipelines.release.freeze import make_release
from pipelines.release.licences import hub_licence, licence_url
from tests.faults.helpers import query


@pytest.fixture(scope="module")
def card(frozen_root: Path) -> str:
    return (frozen_root / "releases/v1/dataset_card.md").read_text()


def head_of(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.split("---\n")[1])


def table_after(card: str, words: str) -> dict[str, list[str]]:
    """Rows of the first table after some words: first cell -> the others."""
    lines = card.split(words, 1)[1].splitlines()
    found = {}
    for line in lines:
        if line.startswith("|"):
            cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
            found[cells[0]] = cells[1:]
        elif found:
            break
    return found


def test_the_head_is_what_hubs_read(card: str) -> None:
    head = head_of(card)
    assert head["license"] == "other" and head["license_name"] == "mixed-and-unknown"
    assert head["size_categories"] == ["n<1K"] and "text-to-video" in head["task_categories"]
    (samples,) = [c for c in head["configs"] if c["config_name"] == "samples"]
    assert samples["data_files"] == [{"split": "train", "path": "shards/**/*.tar"}]


def test_numbers_are_those_of_the_catalog(card: str, frozen_root: Path) -> None:
    (row,) = query(
        frozen_root,
        "SELECT count(*) AS n, count(DISTINCT video_id) AS videos FROM clips "
        "WHERE verdict = 'kept'",
    )
    assert table_after(card, "# ")["Clips, videos"] == [f"{row['n']}, {row['videos']}"]
    verdicts = query(frozen_root, "SELECT verdict, count(*) AS n FROM clips GROUP BY 1")
    funnel = table_after(card, "of footage were looked at")
    assert {v["verdict"]: str(v["n"]) for v in verdicts} == {
        k: v[0] for k, v in funnel.items() if k in ("kept", "rejected", "failed")
    }
    assert "`low_width_px`" in card
    assert table_after(card, "## What was left out")["failed: `not_a_video`"] == ["1"]
    licences = table_after(card, "## Licences")
    assert licences["**unknown**"][1] == "1" and licences["CC0-1.0"][1] == "1"
    assert "1 videos were given several times under different licences" in card


def test_all_sections(card: str) -> None:
    titles = re.findall(r"^## (.+)$", card, re.MULTILINE)
    assert titles == [
        *("Composition", "How it was made", "Texts", "Licences", "What was left out", "Splits"),
        *("Personal data and safety", "Limitations", "How to read it", "Checksums", "Citation"),
    ]
    assert "No vision-language model looked at these clips" in card
    assert "Faces were not blurred" in card and "The dataset is not divided" in card
    assert "Clips were not compared with each other" in card
    assert "title = {data v1}" in card and "{{" not in card and "{%" not in card


def test_nothing_from_outside_becomes_markdown(card: str) -> None:
    assert "<script>" not in card and "[x](y)" not in card
    assert "\n# big" not in card and "first \\| release" in card
    rows = table_after(card, "## Licences")
    assert all(len(cells) == 3 for cells in rows.values())
    assert any(name.startswith("CC&lt;script&gt;\\|") for name in rows)


def test_cells() -> None:
    assert cell("a|b\nc") == "a\\|b c" and cell(None) == "unknown"
    assert cell("<b> & *x*") == "&lt;b&gt; &amp; \\*x\\*" and cell("# x") == "\\# x"
    assert code("a`b|c\n") == "`a'b\\|c`" and code("") == ""


def test_licences() -> None:
    assert hub_licence(["CC BY 4.0", "cc_by_4.0"]) == ("cc-by-4.0", None)
    assert hub_licence([None, None]) == ("unknown", None)
    assert hub_licence(["MIT", None]) == ("other", "mixed-and-unknown")
    assert hub_licence(["ours"]) == ("other", "ours")
    assert licence_url("CC-BY-NC-SA-4.0") == "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    assert licence_url("CC0") == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert licence_url("ours") == "ours" and licence_url(None) is None


def divide(root: Path) -> dict[str, str]:
    """Give the kept clips of a dataset splits, by video, and pack it anew."""
    catalog = Catalog.open(str(root))
    videos = query(root, "SELECT DISTINCT video_id FROM clips WHERE verdict='kept' ORDER BY 1")
    split = {v["video_id"]: "val" if i == 0 else "train" for i, v in enumerate(videos)}
    table = catalog.dataset("verdicts").to_table()
    kept = [v == "kept" for v in table.column("verdict").to_pylist()]
    ids = table.column("video_id").to_pylist()
    names = [split[v] if k else None for v, k in zip(ids, kept, strict=True)]
    at = table.schema.get_field_index("split")
    catalog.replace("verdicts", table.set_column(at, "split", pa.array(names, pa.string())))
    reshard(str(root), CurateConfig.model_validate(stored_config(catalog)))
    return split


def test_a_divided_dataset_with_duplicates(root: Path) -> None:
    split = divide(root)
    catalog = Catalog.open(str(root))
    clips = query(root, "SELECT clip_id, video_id FROM clips WHERE verdict='kept' LIMIT 2")
    rows = [
        c
        | {"group_id": clips[0]["clip_id"], "representative": i == 0}
        | {"fingerprint": catalog.current().tables["verdicts"], "level": ["", "exact"][i] or None}
        for i, c in enumerate(clips)
    ]
    stored = catalog.dataset("duplicates").schema
    catalog.append("duplicates", pa.Table.from_pylist(rows, schema=stored))
    make_release(str(root), "v2")
    card = (root / "releases/v2/dataset_card.md").read_text()
    splits = table_after(card, "## Splits")
    assert splits["val"][1] == "1" and splits["train"][1] == str(len(split) - 1)
    assert "No video has clips in two splits" in card
    assert table_after(card, "### Duplicates")["exact"] == ["1", "1", "0"]
    (samples,) = [c for c in head_of(card)["configs"] if c["config_name"] == "samples"]
    index = read_index(Storage(root))
    assert index is not None
    for one in samples["data_files"]:
        here = set((root / "releases/v2").glob(one["path"]))
        of_it = {r["shard"] for r in index.to_pylist() if f"/{one['split']}/" in f"/{r['shard']}"}
        assert here == {root / "releases/v2" / s for s in of_it} and here
