"""May this dataset be frozen as it is? What a release promises is looked at before it is made."""

from __future__ import annotations

import json
from collections.abc import Callable

from curation.catalog.account import Account, take_account
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import CatalogError
from curation.redact import secret_in
from curation.shards.index import PLAN, metadata_of
from curation.shards.plans import plan_digest
from curation.shards.samples import kept_samples
from curation.shards.settings import ShardSettings
from curation.shards.verify import verify_shards

SHOWN = 3
"""Problems that a message names."""


def check_ready(
    catalog: Catalog, settings: ShardSettings, on_bytes: Callable[[int], None]
) -> Account:
    """Look whether everything is accounted for, packed, whole and fit to leave the house.

    Args:
        catalog: The dataset.
        settings: How its own configuration packs.
        on_bytes: Called with the bytes of each sample looked at.

    Returns:
        The account, which balances.

    Raises:
        CatalogError: Something is not well.
    """
    where = catalog.storage.url
    account = take_account(catalog)
    if not account.balanced:
        raise CatalogError(
            f"does not balance: {'; '.join(account.imbalances[:SHOWN])}",
            where=where,
            mend=f"clipmill curate --out {where}",
        )
    if not account.clips.get("kept"):
        raise CatalogError(
            "keeps no clip: there is nothing to release", where=where, mend="clipmill status OUT"
        )
    found = verify_shards(catalog, decode=False, on_sample=on_bytes)
    if found.problems:
        more = len(found.problems) - SHOWN
        told = "; ".join(found.problems[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise CatalogError(f"the shards are not well: {told}", where=where, mend="clipmill shard")
    if stored_digest(catalog) != plan_digest(kept_samples(catalog, settings), settings):
        raise CatalogError(
            "the shards hold older scores or captions than the catalog, or were packed with other "
            "settings than those of the latest run",
            where=where,
            mend=f"clipmill shard {where}; settings of packing are kept by `clipmill curate`",
        )
    _check_secrets(Views(catalog), where)
    return account


def stored_digest(catalog: Catalog) -> str:
    """What the index says that the shards hold, see ``plan_digest``."""
    return (metadata_of(catalog.storage) or {}).get(PLAN, b"").decode()


def _check_secrets(views: Views, where: str) -> None:
    """Columns of a manifest travel with every sample: none may hold a login.

    Raises:
        CatalogError: One does.
    """
    rows = views.reader("SELECT metadata FROM sources WHERE metadata IS NOT NULL", 4096)
    for batch in rows:
        for text in batch.column("metadata").to_pylist():
            secret = secret_in(json.loads(text))
            if secret is not None:
                raise CatalogError(
                    f"the manifest's column {secret!r} looks like a password or a key, and travels "
                    "with every sample",
                    where=where,
                    mend="take it out of the manifest, then clipmill curate MANIFEST --out OUT",
                )
