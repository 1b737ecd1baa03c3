"""From what the user typed to source rows: files, folders, globs, manifests, local or by URL."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from curation.errors import ConfigError
from curation.ids import canonical_json, source_id
from curation.schema import SOURCES
from pipelines.config import InputSettings

MANIFESTS = (".jsonl", ".csv", ".parquet")
GIVEN = ("title", "license", "source", "caption")
ALIASES = {"licence": "license", "text": "caption"}
GLOB_CHARS = "*?["


def expand(inputs: list[str], settings: InputSettings) -> Iterator[dict[str, Any]]:
    """Rows of ``sources`` for every input, in a stable order, each URI once.

    A URI that cannot be found becomes a row too: what was asked for is accounted for. Metadata of
    a manifest wins over a bare mention of the same URI.

    Raises:
        ConfigError: A manifest that cannot be read, or a folder or glob without any video.
    """
    rows: dict[str, dict[str, Any]] = {}
    for given in inputs:
        listed = _suffix(given) in MANIFESTS
        for row in _expand_one(given, settings):
            told = listed and (row["metadata"] or any(row[k] for k in GIVEN))
            if told or row["uri"] not in rows:
                rows[row["uri"]] = row
    yield from (rows[uri] for uri in sorted(rows))


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    """Source rows as an Arrow table."""
    return pa.Table.from_pylist(rows, schema=SOURCES)


def _expand_one(given: str, settings: InputSettings) -> Iterator[dict[str, Any]]:
    suffix = _suffix(given)
    fs, path = _filesystem(given)
    if suffix in MANIFESTS:
        yield from _manifest(given, suffix, settings)
    elif _is_glob(given) and not fs.exists(path):
        found = sorted(str(p) for p in fs.glob(path))
        yield from _many(given, [p for p in found if not fs.isdir(p)], fs, settings)
    elif fs.isdir(path):
        found = sorted(str(p) for p in fs.find(path))
        wanted = {f".{e}" for e in settings.extensions}
        videos = [p for p in found if PurePosixPath(p).suffix.lower() in wanted]
        yield from _many(given, videos, fs, settings)
    else:
        yield _source(given, {}, settings)


def _suffix(given: str) -> str:
    return PurePosixPath(given).suffix.lower()


def _is_glob(given: str) -> bool:
    """True for a pattern; a question mark in a web address begins its query."""
    chars = GLOB_CHARS.replace("?", "") if given.startswith(("http://", "https://")) else GLOB_CHARS
    return any(c in given for c in chars)


def _many(
    given: str, paths: list[str], fs: fsspec.AbstractFileSystem, settings: InputSettings
) -> Iterator[dict[str, Any]]:
    if not paths:
        raise ConfigError(
            "holds no video",
            where=given,
            mend=f"looked for: {', '.join(settings.extensions)} (inputs.extensions)",
        )
    for path in paths:
        uri = path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)
        yield _source(uri, {}, settings)


def _manifest(given: str, suffix: str, settings: InputSettings) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL, CSV or Parquet manifest; relative URIs are relative to it."""
    try:
        with fsspec.open(given, "rb") as source:
            records = list(_records(source.read(), suffix))  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, ValueError, csv.Error, pa.ArrowException) as exc:
        raise ConfigError(f"manifest cannot be read: {exc}", where=given) from exc
    for number, record in enumerate(records, start=1):
        uri = record.pop("uri", None)
        if not isinstance(uri, str) or not uri:
            raise ConfigError(
                "row has no uri", where=f"{given}, row {number}", mend="add a column named uri"
            )
        yield _source(_relative_to(given, uri), record, settings)


def _records(data: bytes, suffix: str) -> Iterator[dict[str, Any]]:
    if suffix == ".jsonl":
        for line in data.decode("utf-8-sig").split("\n"):  # others may stand inside a string
            if line.strip():
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise ValueError("a line is not an object")
                yield record
    elif suffix == ".csv":
        yield from csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
    else:
        yield from pq.read_table(io.BytesIO(data)).to_pylist()


def _relative_to(manifest: str, uri: str) -> str:
    if "://" in uri or os.path.isabs(uri):
        return uri
    return f"{manifest.rsplit('/', 1)[0]}/{uri}" if "/" in manifest else uri


def _source(uri: str, record: dict[str, Any], settings: InputSettings) -> dict[str, Any]:
    """One row: normal form of the URI, its state, and its metadata."""
    fs, path = _filesystem(uri)
    local = isinstance(fs, LocalFileSystem)
    if local:  # a step up from a linked folder leads elsewhere than its text says
        uri = os.path.realpath(path) if ".." in Path(path).parts else os.path.abspath(path)
    uri = _text(uri)
    row: dict[str, Any] = {"source_id": source_id(uri), "uri": uri} | _state(fs, path)
    values = {k: _plain(v) for k, v in record.items() if k}
    named = {ALIASES.get(k, k): v for k, v in values.items() if v not in (None, "")}
    for key in GIVEN:
        value = named.pop(key, None)
        row[key] = None if value is None else str(value)
    row["caption_origin"] = None if row["caption"] is None else "manifest"
    if row["caption"] is None and settings.text_sidecars:
        row["caption"] = _sidecar(fs, path)
        row["caption_origin"] = None if row["caption"] is None else "sidecar"
    row["metadata"] = canonical_json(named) if named else None
    return row


def _state(fs: fsspec.AbstractFileSystem, path: str) -> dict[str, Any]:
    """Size and version of a source; unknown when it cannot be listed (its worker will say why)."""
    try:
        info = fs.info(path)
    except Exception:  # each remote store raises a family of its own
        return {"size_bytes": None, "etag": ""}
    version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("LastModified")
    return {"size_bytes": info.get("size"), "etag": f"{info.get('size')}-{version or ''}"}


def _sidecar(fs: fsspec.AbstractFileSystem, path: str) -> str | None:
    """The caption in a ``.txt`` beside a local video."""
    if not isinstance(fs, LocalFileSystem):
        return None  # one more request per remote video: a manifest is the way there
    beside = Path(path).with_suffix(".txt")
    if beside == Path(path) or not beside.is_file():
        return None
    return beside.read_text(errors="replace").strip() or None


def _filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    try:
        return fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as exc:
        raise ConfigError(
            f"cannot open this kind of URL: {exc}",
            where=uri,
            mend="install the store's package: s3fs for s3://, gcsfs for gs://, aiohttp for http://",
        ) from exc


def _plain(value: Any) -> Any:  # noqa: ANN401 - any metadata
    """Metadata as JSON-able values; dates and the like as text, what is no number as null."""
    if isinstance(value, dict):
        return {_text(str(k)): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(str(value))


def _text(value: str) -> str:
    """Text that can be stored: half characters (undecodable file names) become ``?``."""
    return value.encode("utf-8", "replace").decode()
