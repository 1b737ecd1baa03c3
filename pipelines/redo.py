"""Judging and packing a known dataset anew: no source is opened, no pixel looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from curation.captions.gate import run_gate
from curation.catalog.account import Account, take_account
from curation.catalog.catalog import Catalog
from curation.catalog.lease import Lease
from curation.catalog.verdicts import judge_catalog
from curation.catalog.views import Views
from curation.errors import CatalogError
from curation.shards.samples import kept_samples
from curation.shards.writer import ShardReport, write_shards
from curation.storage import Storage
from pipelines.config import CurateConfig
from pipelines.forget import finish_forgetting
from pipelines.run_report import new_run_id


def rejudge(out: str, config: CurateConfig) -> Account:
    """Judge a dataset anew with a configuration's rules; no pixels.

    Newly kept clips have no media yet and count as uncut until the next ``curate``.
    """
    storage = Storage(out)
    catalog = Catalog.open(out)
    # Only the rules may differ: another split or scorer would need a run.
    own = stored_config(catalog) | {"judge": config.judge.model_dump(mode="json")}
    config = CurateConfig.model_validate(own)
    plan = config.plan()
    plan.check()
    run_id = new_run_id()
    with Lease(storage, run_id):
        finish_forgetting(catalog)
        catalog.start_run(run_id, "judge", config.model_dump(mode="json"), plan)
        judge_catalog(catalog, plan)
        return take_account(catalog)


def reshard(
    out: str, config: CurateConfig, on_sample: Callable[[int], None] = lambda _: None
) -> ShardReport:
    """Bring the shards of a dataset to its current verdicts."""
    storage = Storage(out)
    catalog = Catalog.open(out)
    run_id = new_run_id()
    with Lease(storage, run_id):
        finish_forgetting(catalog)
        views = Views(catalog)
        _check_captioned(views, out)
        if config.run.caption_gate == "fail":
            run_gate(views).raise_if_failed(storage.url)
        return write_shards(
            storage, lambda: kept_samples(catalog, config.shard), config.shard, on_sample
        )


def _check_captioned(views: Views, out: str) -> None:
    """Refuse to ship clips whose captions are still to come.

    Raises:
        CatalogError: There are such clips: a killed run, or captions that were forgotten.
    """
    if "captions" not in views.query("SHOW TABLES").column("name").to_pylist():
        return
    sql = (
        "SELECT count(*) AS n FROM clips WHERE verdict = 'kept' AND media_path IS NOT NULL "
        "AND clip_id NOT IN (SELECT clip_id FROM captions)"
    )
    missing = views.query(sql).column("n")[0].as_py()
    if missing:
        raise CatalogError(
            f"{missing} kept clips have no caption yet",
            where=out,
            mend=f"clipmill curate --out {out}",
        )


def stored_config(catalog: Catalog) -> dict[str, Any]:
    """The configuration of the latest run, to be changed key by key."""
    run = catalog.last_run()
    return dict(run["config"]) if run else {}
