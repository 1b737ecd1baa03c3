"""Sources: what the user typed becomes one row per URI, with what is known of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.errors import ConfigError
from curation.ids import source_id
from curation.schema import SOURCES
from pipelines.config import InputSettings
from pipelines.sources import as_table, expand


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, one in a folder below, and files that are none."""
    root = tmp_path / "videos"
    (root / "more.mp4").mkdir(parents=True)  # a folder may look like a video
    (root / "a.mp4").write_bytes(b"a")
    (root / "more.mp4" / "b.MOV").write_bytes(b"bb")
    (root / "a.txt").write_text("  words about a\n")
    (root / "notes.md").write_text("no video")
    return root


def rows_of(*inputs: str | Path, **settings: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Source rows, checked against the table's schema."""
    rows = list(expand([str(i) for i in inputs], InputSettings(**settings)))
    assert as_table(rows).schema == SOURCES
    for row in rows:
        assert row["source_id"] == source_id(row["uri"])
    return rows


def test_folder_with_sidecar_text(folder: Path) -> None:
    rows = rows_of(folder)
    assert [r["uri"] for r in rows] == [f"{folder}/a.mp4", f"{folder}/more.mp4/b.MOV"]
    assert [r["caption"] for r in rows] == ["words about a", None]
    assert [r["size_bytes"] for r in rows] == [1, 2]
    assert all(r["metadata"] is None for r in rows)
    assert [r["caption"] for r in rows_of(folder, text_sidecars=False)] == [None, None]
    assert [r["uri"] for r in rows_of(folder, extensions=("mov",))] == [f"{folder}/more.mp4/b.MOV"]


def test_a_changed_file_has_another_etag(folder: Path) -> None:
    before = rows_of(folder / "a.mp4")[0]
    os.utime(folder / "a.mp4", (1, 1))
    assert rows_of(folder / "a.mp4")[0]["etag"] != before["etag"]


def test_globs_take_files_only(folder: Path) -> None:
    assert [r["uri"] for r in rows_of(f"{folder}/*.mp4")] == [f"{folder}/a.mp4"]
    assert len(rows_of(f"{folder}/**/*.MOV")) == 1
    assert len(rows_of(f"{folder}/[ab].mp?")) == 1


def test_a_name_with_brackets_is_a_file_when_it_exists(folder: Path) -> None:
    odd = folder / "take [1].mp4"
    odd.write_bytes(b"x")
    assert [r["uri"] for r in rows_of(odd)] == [str(odd)]


def test_each_uri_once_and_in_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    rows = rows_of("a.mp4", folder, f"{folder}/*.mp4", "./a.mp4", "more.mp4/../a.mp4")
    assert [r["uri"] for r in rows] == sorted(
        {str(folder / "a.mp4"), str(folder / "more.mp4/b.MOV")}
    )


def test_a_missing_file_is_still_a_row(folder: Path) -> None:
    """What was asked for is accounted for; the worker says why it failed."""
    (row,) = rows_of(folder / "gone.mp4")
    assert (row["uri"], row["size_bytes"]) == (str(folder / "gone.mp4"), None)
    (remote,) = rows_of("memory://nowhere/gone.mp4")
    assert (remote["uri"], remote["size_bytes"]) == ("memory://nowhere/gone.mp4", None)


@pytest.mark.parametrize("given", ["empty", "*.webm"])
def test_nothing_found_is_an_error(folder: Path, given: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no video"):
        rows_of(folder / given)


RECORDS: list[dict[str, Any]] = [
    {"uri": "videos/a.mp4", "licence": "CC0-1.0", "text": "from the manifest", "views": 7},
    {
        "uri": "videos/gone.mp4",
        "title": "Gone",
        "source": "me",
        "license": "MIT",
        "tags": ["x", "y"],
    },
]


def write_manifest(folder: Path, kind: str) -> Path:
    """The records as a manifest beside the folder of videos."""
    path = folder.parent / f"list.{kind}"
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(r) for r in RECORDS) + "\n\n")
    elif kind == "csv":
        lines = ["uri,licence,text,title,source,views,tags"]
        lines.append("videos/a.mp4,CC0-1.0,from the manifest,,,7,")
        lines.append('videos/gone.mp4,MIT,,Gone,me,,"x, y"')
        path.write_bytes(b"\xef\xbb\xbf" + "\n".join(lines).encode())  # as Excel writes it
    else:
        pq.write_table(pa.Table.from_pylist([RECORDS[1] | RECORDS[0], RECORDS[1]]), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_manifests(folder: Path, kind: str) -> None:
    a, gone = rows_of(write_manifest(folder, kind))
    assert a["uri"] == str(folder / "a.mp4")  # relative to the manifest
    assert (a["license"], a["caption"]) == ("CC0-1.0", "from the manifest")  # not the sidecar's
    assert a["size_bytes"] == 1
    assert json.loads(a["metadata"])["views"] in (7, "7")
    assert gone["uri"] == str(folder / "gone.mp4")
    assert (gone["title"], gone["source"], gone["license"]) == ("Gone", "me", "MIT")
    assert gone["size_bytes"] is None
    assert "tags" in json.loads(gone["metadata"])
    assert "views" not in json.loads(gone["metadata"])


@pytest.mark.parametrize("first", ["manifest", "folder"])
def test_a_manifest_wins_over_a_bare_mention(folder: Path, first: str) -> None:
    manifest = write_manifest(folder, "jsonl")
    given = [manifest, folder] if first == "manifest" else [folder, manifest]
    rows = {Path(r["uri"]).name: r for r in rows_of(*given)}
    assert rows["a.mp4"]["license"] == "CC0-1.0"
    assert rows["a.mp4"]["caption"] == "from the manifest"
    assert set(rows) == {"a.mp4", "b.MOV", "gone.mp4"}


def test_remote_manifest_and_files() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/set/videos/a.mp4", b"abc")
    fs.pipe("/set/list.jsonl", b'{"uri": "videos/a.mp4", "title": "A"}')
    (row,) = rows_of("memory://set/list.jsonl")
    assert (row["uri"], row["size_bytes"], row["title"]) == ("memory://set/videos/a.mp4", 3, "A")
    for given in ("memory://set/videos", "memory://set/*/*.mp4"):
        (row,) = rows_of(given)
        assert row["uri"] == "memory:///set/videos/a.mp4"  # as this store spells it
        assert row["size_bytes"] == 3


def test_text_that_is_hard_to_store(folder: Path) -> None:
    """Line separators inside a caption, numbers that are none, half characters, file names."""
    manifest = folder.parent / "hard.jsonl"
    lines = [
        {"uri": "videos/a.mp4", "caption": "one\u2028two\x85three", "score": float("nan")},
        {"uri": "videos/b.mp4", "caption": "\ud800 half", "note": "\udc00"},
    ]
    text = "\n".join(json.dumps(r, ensure_ascii=i == 1) for i, r in enumerate(lines))
    manifest.write_text(text)
    a, b = rows_of(manifest)
    assert a["caption"] == "one\u2028two\x85three"
    assert a["metadata"] is None
    assert b["caption"] == "? half"
    assert json.loads(b["metadata"]) == {"note": "?"}


def test_undecodable_file_name_costs_no_run(folder: Path) -> None:
    try:
        (folder / os.fsdecode(b"bad\xff.mp4")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system refuses such names")
    assert f"{folder}/bad?.mp4" in [r["uri"] for r in rows_of(folder)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b'{"uri": "a.mp4"', "cannot be read"),
        ("bad.jsonl", b'["a.mp4"]', "not an object"),
        ("bad.jsonl", b'{"url": "a.mp4"}', "row has no uri"),
        ("bad.csv", b"path\na.mp4\n", "row has no uri"),
        ("bad.csv", b"uri\n\xff\xfe\n", "cannot be read"),
        ("bad.csv", b"uri,caption\na.mp4,x" + b"y" * 200_000, "cannot be read"),
        ("bad.parquet", b"no parquet", "cannot be read"),
        ("gone.jsonl", None, "cannot be read"),
    ],
)
def test_bad_manifests_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        rows_of(path)
    assert str(path) in str(caught.value)


def test_unknown_scheme_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="install the store's package"):
        rows_of("nosuchscheme://bucket/x.mp4")


def test_a_web_address_with_a_query_is_no_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    from fsspec.implementations.http import HTTPFileSystem

    def offline(*args: object, **kwargs: object) -> bool:
        raise OSError("offline")

    HTTPFileSystem.clear_instance_cache()  # one of another test would have its methods already
    for name in ("exists", "info", "isdir", "glob"):
        monkeypatch.setattr(
            HTTPFileSystem, name, offline if name == "info" else lambda *a, **k: False
        )
    (row,) = rows_of("https://example.org/video.mp4?token=abc")
    assert row["uri"] == "https://example.org/video.mp4?token=abc"
    assert row["size_bytes"] is None
