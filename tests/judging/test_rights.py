"""Rights: what is missing, unlisted, denied; licences as people write them; defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from curation.catalog.catalog import Catalog
from curation.judging.licenses import allowed, alternatives, denied, is_unknown, normal
from curation.judging.rights import Rights, apply_defaults
from curation.judging.rules import KEPT, REJECTED, Rules
from curation.schema import SOURCES
from curation.storage import Storage


def reasons(rights: dict[str, Any], **columns: list[str | None]) -> list[list[str]]:
    rules = Rules.model_validate({"rights": rights})
    arrays = {k: pa.array(v, pa.string()) for k, v in columns.items()}
    ids = pa.array([str(i) for i in range(len(next(iter(arrays.values()))))])
    found = rules.judge(pa.table({"clip_id": ids, "video_id": ids, **arrays}))
    for row in found.to_pylist():
        assert row["verdict"] == (REJECTED if row["reasons"] else KEPT)
        assert row["margins"] == [None] * len(row["reasons"])
    return found.column("reasons").to_pylist()


def test_required_fields_must_say_something() -> None:
    found = reasons(
        {"require": ["source", "license"]},
        license=["CC0", None, " ", "NOASSERTION", "MIT"],
        source=["a", None, "b", "c", ""],
    )
    missing = "rights_missing_"
    assert found == [
        [],
        [f"{missing}license", f"{missing}source"],
        [f"{missing}license"],
        [f"{missing}license"],
        [f"{missing}source"],
    ]


def test_a_list_of_the_allowed_asks_for_a_value_unless_null_is_in_it() -> None:
    values: dict[str, list[str | None]] = {"license": ["CC BY 4.0", "CC BY-NC 4.0", None]}
    strict = reasons({"allow": {"license": "CC-BY-[0-9]*"}}, **values)
    assert strict == [[], ["rights_unlisted_license"], ["rights_missing_license"]]
    lenient = reasons({"allow": {"license": ["CC-BY-[0-9]*", None]}}, **values)
    assert lenient == [[], ["rights_unlisted_license"], []]
    both = {"allow": {"license": ["CC-BY-[0-9]*", None]}, "require": "license"}
    assert reasons(both, **values)[2] == ["rights_missing_license"]


def test_what_is_denied_is_denied_whatever_is_allowed() -> None:
    found = reasons(
        {"allow": {"license": "CC*"}, "deny": {"license": "*-NC-*", "uri": "*/private/*"}},
        license=["CC-BY-NC-4.0", "CC-BY-4.0", "GPL", None],
        uri=["/a", "/private/a", "/private/b", "/c"],
    )
    assert found == [
        ["rights_denied_license"],
        ["rights_denied_uri"],
        ["rights_unlisted_license", "rights_denied_uri"],
        ["rights_missing_license"],
    ]


def test_rights_stand_before_rules_and_stay_in_workers() -> None:
    rules = Rules.model_validate({"rules": {"a": {"min": 1}}, "rights": {"require": "title"}})
    table = pa.table(
        {"clip_id": ["c"], "video_id": ["v"], "a": [0.0], "title": pa.nulls(1, pa.string())}
    )
    assert rules.columns() == ["a", "title"]
    assert rules.judge(table).column("reasons").to_pylist() == [["rights_missing_title", "low_a"]]
    gate = rules.only(["b"]).local()
    assert gate.judge(table).column("reasons").to_pylist() == [["rights_missing_title"]]


@pytest.mark.parametrize(
    ("text", "spdx"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by_sa v3", "CC-BY-SA-3.0"),
        ("CC BY-NC-ND 2.5 SE", "CC-BY-NC-ND-2.5-SE"),
        ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("http://www.creativecommons.org/licenses/by-nc-sa/3.0/us/deed.en", "CC-BY-NC-SA-3.0-US"),
        ("https://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0-1.0"),
        ("CC0", "CC0"),
        ("cc zero 1.0", "CC0-1.0"),
        ("Apache-2.0", "Apache-2.0"),
        ("  All rights\nreserved ", "All rights reserved"),
        ("CC BYE", "CC BYE"),
    ],
)
def test_one_name_for_one_licence(text: str, spdx: str) -> None:
    assert normal(text) == spdx


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("MIT", [["MIT"]]),
        ("A OR B AND C", [["A"], ["B", "C"]]),
        ("(A OR B) AND C", [["A", "C"], ["B", "C"]]),
        ("G WITH e OR M", [["G WITH e"], ["M"]]),
        ("(A OR B", [["(A OR B"]]),
        ("A OR", [["A OR"]]),
        ("mine and yours", [["mine and yours"]]),
        ("A OR " * 2000 + "A", [["A OR " * 2000 + "A"]]),
        ("(" * 5000 + " OR ", [["(" * 5000 + " OR "]]),
    ],
)
def test_expressions(text: str, ways: list[list[str]]) -> None:
    assert alternatives(text) == ways


def test_of_alternatives_one_allowed_is_enough_and_all_must_be_denied() -> None:
    texts = pa.array(["GPL-3.0 OR MIT", "MIT AND GPL-3.0", "GPL-3.0", "CC BY 4.0", None, "Ours OR"])
    assert allowed(texts, ["MIT", "CC-BY-4*"]).tolist() == [True, False, False, True, False, False]
    assert denied(texts, ["GPL*"]).tolist() == [False, True, True, False, False, False]
    assert allowed(texts, ["gpl-3.0 or mit"]).tolist() == [True] + [False] * 5
    assert is_unknown(None) and is_unknown(" noassertion ") and not is_unknown("none")


@pytest.mark.parametrize(
    "fields",
    [
        {"require": ["licence"]},
        {"defaults": {"title": "x"}},
        {"defaults": {"license": " "}},
        {"allow": {"license": []}},
        {"deny": {"license": [None]}},
    ],
)
def test_rights_that_cannot_be_meant(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rights.model_validate(fields)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(Storage(tmp_path))
    made.create({"sources": SOURCES})
    rows = [
        {"source_id": "1", "license": "MIT", "source": None},
        {"source_id": "2", "license": None, "source": "a", "source_origin": "manifest"},
        {"source_id": "3", "license": None, "source": None},
    ]
    made.append("sources", pa.Table.from_pylist(rows, schema=SOURCES))
    return made


def told(catalog: Catalog) -> list[tuple[str | None, ...]]:
    names = ["license", "license_origin", "source", "source_origin"]
    rows = catalog.dataset("sources").to_table(["source_id", *names]).to_pylist()
    return [tuple(r[n] for n in names) for r in sorted(rows, key=lambda r: r["source_id"])]


def test_defaults_come_change_and_go(catalog: Catalog) -> None:
    before = told(catalog)
    rights = Rights(defaults={"license": "it's ours", "source": "lab"})
    assert apply_defaults(catalog, rights) == 4
    assert told(catalog) == [
        ("MIT", None, "lab", "default"),
        ("it's ours", "default", "a", "manifest"),
        ("it's ours", "default", "lab", "default"),
    ]
    assert apply_defaults(catalog, Rights(defaults={"license": "CC0-1.0"})) == 4
    assert told(catalog) == [
        ("MIT", None, None, None),
        ("CC0-1.0", "default", "a", "manifest"),
        ("CC0-1.0", "default", None, None),
    ]
    assert apply_defaults(catalog, Rights()) == 2
    assert told(catalog) == before


def test_nothing_is_written_when_nothing_changes(catalog: Catalog) -> None:
    rights = Rights(defaults={"license": "CC0-1.0"})
    for wanted in (Rights(), rights, rights, Rights(), Rights()):
        version = catalog.dataset("sources").version
        changed = apply_defaults(catalog, wanted)
        assert (catalog.dataset("sources").version != version) == bool(changed)


def test_a_table_of_an_older_version(tmp_path: Path) -> None:
    catalog = Catalog(Storage(tmp_path))
    old = pa.schema([f for f in SOURCES if not f.name.endswith("_origin")])
    catalog.create({"sources": old})
    catalog.append("sources", pa.Table.from_pylist([{"source_id": "1"}], schema=old))
    assert apply_defaults(catalog, Rights()) == 0
    assert "license_origin" not in catalog.dataset("sources").schema.names
    assert apply_defaults(catalog, Rights(defaults={"license": "X"})) == 1
    assert told(catalog) == [("X", "default", None, None)]


def test_without_a_catalog_there_is_nothing_to_do(tmp_path: Path) -> None:
    assert apply_defaults(Catalog(Storage(tmp_path)), Rights(defaults={"license": "X"})) == 0
