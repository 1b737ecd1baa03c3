"""The Croissant description of a release: its files, and the records in them.

Format: Croissant 1.1 (MLCommons), JSON-LD. Tables are record sets with one field per column, by the
types of their Parquet files. Samples are read out of the tars: a reader of Croissant unpacks these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipelines.release.card import title
from pipelines.release.figures import Figures
from pipelines.release.frozen import INDEX, Frozen
from pipelines.release.licences import licence_url
from pipelines.release.tables import TABLES, data_file

CROISSANT = "croissant.json"
VERSION = "http://mlcommons.org/croissant/1.1"
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{
        name: f"cr:{name}"
        for name in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract"),
            *("field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray"),
            *("isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator"),
            *("source", "subField", "transform"),
        )
    },
}
DESCRIPTIONS = {
    "clips": "Kept clips: span in the source, scores, the cut file, licence, split.",
    "captions": "Every text of a clip, with its kind and who wrote it.",
    "verdicts": "Every clip, kept or not, with all reasons.",
    "sources": "Every given file, with its licence and what became of it.",
    "duplicates": "Clips of groups that show the same.",
    "shard_index": "Where the members of each sample lie in which tar.",
}
KEYS = {"clips": "clip_id", "verdicts": "clip_id", "sources": "source_id", "shard_index": "clip_id"}
MEMBERS = (
    ("mp4", "video/mp4", "sc:VideoObject", "The clip."),
    ("json", "application/json", "sc:Text", "Span, scores and all texts of the clip."),
    ("txt", "text/plain", "sc:Text", "One text of the clip; may be empty."),
)


def croissant_json(
    frozen: Frozen,
    manifest: Mapping[str, Any],
    figures: Figures,
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The whole description.

    Args:
        frozen: The release's tables.
        manifest: Tag, revision, date.
        figures: The release, counted.
        files: ``{name: {"sha256", "bytes"}}`` of all its data.
    """
    licences = [licence_url(r["license"]) for r in figures.licenses]
    known = [one for one in licences if one is not None]
    seconds, number = figures.clips["seconds"], figures.clips["num_clips"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": title(manifest).replace(" ", "-"),
        "description": (
            f"{number} captioned video clips, {seconds:.1f} seconds, curated with Clipmill; "
            "see dataset_card.md."
        ),
        "license": known or ["unknown"],
        "version": f"{manifest['revision']}.0.0",
        "datePublished": manifest["created_at"],
        "citeAs": f"{title(manifest)}, revision {manifest['revision']}",
        "isLiveDataset": False,
        "distribution": [*_tables(files), *_tars(files)],
        "recordSet": [*(_of_table(frozen, t) for t in (*TABLES, "shard_index")), *_samples()],
    }


def _tables(files: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for name in (*map(data_file, TABLES), INDEX):
        yield _file(name, files[name], "application/x-parquet")


def _tars(files: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    tars = [name for name in files if name.endswith(".tar")]
    for name in tars:
        yield _file(name, files[name], "application/x-tar")
    for suffix, encoding, _, about in MEMBERS:
        yield {
            "@type": "cr:FileSet",
            "@id": f"{suffix}-files",
            "name": f"{suffix}-files",
            "description": about,
            "containedIn": [{"@id": name} for name in tars],
            "encodingFormat": encoding,
            "includes": f"*.{suffix}",
        }


def _file(name: str, about: Mapping[str, Any], encoding: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{about['bytes']} B",
        "encodingFormat": encoding,
        "sha256": about["sha256"],
    }


def _of_table(frozen: Frozen, table: str) -> dict[str, Any]:
    source = INDEX if table == "shard_index" else data_file(table)
    found: dict[str, Any] = {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": DESCRIPTIONS[table],
    }
    if table in KEYS:
        found["key"] = {"@id": f"{table}/{KEYS[table]}"}
    found["field"] = [_column(table, field, source) for field in frozen.schema(table)]
    return found


def _column(table: str, column: pa.Field, source: str) -> dict[str, Any]:
    kind, is_list = (
        column.type,
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type),
    )
    found: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{table}/{column.name}",
        "name": column.name,
        "dataType": _data_type(kind.value_type if is_list else kind),
        "source": {"fileObject": {"@id": source}, "extract": {"column": column.name}},
    }
    if is_list:
        found |= {"isArray": True, "arrayShape": "-1"}
    if column.name == "clip_id" and table in ("captions", "shard_index"):
        found["references"] = {"field": {"@id": "clips/clip_id"}}
    return found


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "sc:Boolean"
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _samples() -> Iterator[dict[str, Any]]:
    """One record set for each member of a sample; their ``clip_id`` is the file's name."""
    for suffix, _, kind, about in MEMBERS:
        name = f"samples_{suffix}"
        source = {"fileSet": {"@id": f"{suffix}-files"}}
        key = source | {
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": rf"^(.+)\.{suffix}$"},
        }
        yield {
            "@type": "cr:RecordSet",
            "@id": name,
            "name": name,
            "description": about,
            "key": {"@id": f"{name}/clip_id"},
            "field": [
                {
                    "@type": "cr:Field",
                    "@id": f"{name}/clip_id",
                    "name": "clip_id",
                    "dataType": "sc:Text",
                    "source": key,
                },
                {
                    "@type": "cr:Field",
                    "@id": f"{name}/{suffix}",
                    "name": suffix,
                    "description": about,
                    "dataType": kind,
                    "source": source | {"extract": {"fileProperty": "content"}},
                },
            ],
        }
