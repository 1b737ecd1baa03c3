"""Making a release: everything is written beside, described, checked, and then given its name.

Shards of a local root are hard-linked: a release costs no space until the dataset moves on. It is
safe because nothing in a dataset root is ever written in place: a new shard is written under
another name and renamed over the old one, which leaves the old bytes to the release.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.lease import Lease
from curation.errors import CatalogError
from pipelines.config import CurateConfig
from pipelines.forget import finish_forgetting
from pipelines.redo import stored_config
from pipelines.release.copying import copy_shards
from pipelines.release.describe import describe
from pipelines.release.origins import origins
from pipelines.release.places import (
    FOLDER,
    MAKING,
    publish,
    read_manifest,
    recover,
    release_folder,
    release_tags,
    remove_release,
)
from pipelines.release.ready import check_ready, stored_digest
from pipelines.release.tables import write_tables
from pipelines.remove import finish_removing
from pipelines.run_report import new_run_id

FORMAT, FORMAT_VERSION = "clipmill-release", 1
Advance = Callable[[int], None]


def make_release(
    out: str,
    tag: str,
    note: str = "",
    *,
    on_bytes: Advance = lambda _: None,
    on_rows: Advance = lambda _: None,
) -> dict[str, Any]:
    """Freeze what a dataset root holds now.

    Args:
        out: The dataset root.
        tag: Name of the release.
        note: Goes into the manifest and the card.
        on_bytes: Called with the bytes of each sample looked at.
        on_rows: Called with the number of rows of each batch written.

    Returns:
        The manifest.

    Raises:
        ConfigError: The tag is no name.
        CatalogError: The tag is taken, or the dataset is not fit to be released.
    """
    final = release_folder(tag)
    catalog = Catalog.open(out)
    storage = catalog.storage
    with Lease(storage, new_run_id()):
        _tidy(catalog)
        finish_forgetting(catalog)
        finish_removing(catalog)
        if tag in release_tags(storage):
            raise CatalogError(
                "there is a release of this name",
                where=tag,
                mend=f"another --tag, or clipmill release {out} --delete {tag}",
            )
        config = CurateConfig.model_validate(stored_config(catalog))
        account = check_ready(catalog, config.shard, on_bytes)
        staged = f"{FOLDER}/{MAKING}{tag}"
        files = copy_shards(storage, "", staged)
        write_tables(catalog, staged, config.shard, on_rows)
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "tag": tag,
            "note": note,
            "state": "released",
            "revision": 1,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "root": os.path.basename(storage.url.rstrip("/")),
            "shard_digest": stored_digest(catalog),
            **origins(catalog, config),
            "catalog_tag": tag,
            "account": account.as_dict(),
            "removals": [],
        }
        _tag_tables(catalog, tag, manifest["catalog_versions"])
        described = describe(storage, staged, manifest, known=files)
        publish(storage, staged, final)
    return described


def list_releases(out: str) -> list[dict[str, Any]]:
    """The releases of a dataset root: ``tag, state, revision, created_at, note, counts``."""
    storage = Catalog.open(out).storage
    wanted = ("tag", "state", "revision", "created_at", "note", "counts")
    found = (read_manifest(storage, tag) for tag in release_tags(storage))
    return [{k: manifest.get(k) for k in wanted} for manifest in found]


def delete_release(out: str, tag: str) -> None:
    """Remove a release whole, and the tags of its table versions.

    Raises:
        CatalogError: There is none of this name.
    """
    catalog = Catalog.open(out)
    with Lease(catalog.storage, new_run_id()):
        _tidy(catalog)
        read_manifest(catalog.storage, tag)
        untag_tables(catalog, tag)
        remove_release(catalog.storage, release_folder(tag))


def untag_tables(catalog: Catalog, tag: str) -> None:
    """Let go of the table versions of a release; clean-ups may drop them then."""
    for table in catalog.tables():
        dataset = catalog.dataset(table)
        if tag in dataset.tags.list():
            dataset.tags.delete(tag)


def _tidy(catalog: Catalog) -> None:
    """End what a killed release left; a first making that came to nothing holds no versions."""
    done = set(release_tags(catalog.storage))
    for tag in recover(catalog.storage):
        if tag not in done:
            untag_tables(catalog, tag)


def _tag_tables(catalog: Catalog, tag: str, versions: dict[str, int]) -> None:
    """Keep the versions of the tables that the release speaks of from being cleaned up."""
    for table, version in versions.items():
        tags = catalog.dataset(table).tags
        if tag in tags.list():
            tags.update(tag, version)
        else:
            tags.create(tag, version)
