"""Judging and packing a known dataset anew: no source is opened, no pixel looked at."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from curation.captions.gate import run_gate
from curation.catalog.account import Account, take_account
from curation.catalog.catalog import Catalog
from curation.catalog.choosing import Comparing
from curation.catalog.lease import Lease
from curation.catalog.verdicts import FINAL, SERIAL, judge_catalog, preview
from curation.catalog.views import VERDICT, Views
from curation.errors import CatalogError, ConfigError
from curation.judging.rights import apply_defaults
from curation.plan import Plan
from curation.shards.samples import kept_samples
from curation.shards.writer import ShardReport, write_shards
from curation.storage import Storage
from pipelines.config import CurateConfig
from pipelines.forget import finish_forgetting
from pipelines.remove import finish_removing
from pipelines.run_report import new_run_id

if TYPE_CHECKING:
    from curation.judging.waterfall import Waterfall


JUDGING = ("judge", "rights", "dedup", "sample", "splits")
"""Sections that may differ when a dataset is judged anew."""


def rejudge(out: str, config: CurateConfig, comparing: Comparing = SERIAL) -> Account:
    """Judge a dataset anew with a configuration's rules; no pixels.

    Newly kept clips have no media yet and count as uncut until the next ``curate``.
    """
    storage = Storage(out)
    catalog = Catalog.open(out)
    config, plan = _judging_plan(catalog, config)
    run_id = new_run_id()
    with Lease(storage, run_id):
        finish_forgetting(catalog)
        finish_removing(catalog)
        apply_defaults(catalog, config.rights)
        catalog.create(plan.table_schemas())
        catalog.start_run(
            *(run_id, "judge", config.model_dump(mode="json"), plan), rows=catalog.current()
        )
        judge_catalog(catalog, plan, comparing)
        account = take_account(catalog)
        catalog.finish_run(run_id, {"run_id": run_id, "account": account.as_dict()})
        return account


def preview_verdicts(
    out: str, config: CurateConfig, comparing: Comparing = SERIAL
) -> tuple[Waterfall, list[str]]:
    """What a configuration's rules would keep, step by step, and remarks; no verdict changes."""
    storage = Storage(out)
    catalog = Catalog.open(out)
    _, plan = _judging_plan(catalog, config)
    from curation.judging.waterfall import waterfall

    with Lease(storage, new_run_id()):
        finish_forgetting(catalog)
        finish_removing(catalog)
        views, made = preview(catalog, plan, comparing)
        rows = views.reader(
            f"""SELECT clip_id, duration_s, {VERDICT}
            FROM {FINAL} v JOIN current_clips USING (clip_id) LEFT JOIN broken_clips b
                USING (clip_id)"""
        )
        return waterfall(rows, _steps(plan)), made.remarks


def _steps(plan: Plan) -> list[str]:
    """Reasons in the order of the work."""
    from curation.judging.waterfall import reasons_in_order

    order = {s.name: i for i, s in enumerate(plan.stages)}
    known = plan.columns()
    columns = sorted(plan.rules.rule_columns(), key=lambda c: order.get(known[c].stage or "", -1))
    sample = plan.choice.sample
    return reasons_in_order(columns, sample.reasons() if sample is not None else ())


def _judging_plan(catalog: Catalog, config: CurateConfig) -> tuple[CurateConfig, Plan]:
    """The dataset's own plan with other rules: another split or scorer would need a run.

    Raises:
        ConfigError: The rules need rows that only a run can bring.
    """
    given = config.model_dump(mode="json")
    own = stored_config(catalog) | {key: given[key] for key in JUDGING}
    config = CurateConfig.model_validate(own)
    plan = config.plan()
    plan.check()
    new = [s.name for s in plan.stages if s.name not in catalog.current().stages]
    if new:
        keys = " ".join(f"{k}='{json.dumps(given[k])}'" for k in JUDGING if given[k] is not None)
        raise ConfigError(
            f"this needs what the dataset was made without: {', '.join(new)}",
            where=catalog.storage.url,
            mend=f"clipmill curate --out {catalog.storage.url} {keys}",
        )
    return config, plan


def reshard(
    out: str,
    config: CurateConfig,
    on_sample: Callable[[int], None] = lambda _: None,
    *,
    repack: bool = False,
) -> ShardReport:
    """Bring the shards of a dataset to its current verdicts.

    Args:
        out: The dataset root.
        config: Settings; those of ``shard`` count.
        on_sample: Called with the bytes of each packed sample.
        repack: Pack everything anew, as one run over everything would have.

    Raises:
        CatalogError: Clips or captions are still to come, or media are damaged.
        GateError: The captions may not be shipped.
    """
    storage = Storage(out)
    catalog = Catalog.open(out)
    run_id = new_run_id()
    with Lease(storage, run_id):
        finish_forgetting(catalog)
        finish_removing(catalog)
        views = Views(catalog)
        _check_captioned(views, out)
        if config.run.caption_gate == "fail":
            run_gate(views).raise_if_failed(storage.url)
        _check_finished(catalog, out)
        return write_shards(
            storage,
            lambda: kept_samples(catalog, config.shard),
            config.shard,
            on_sample,
            repack=repack,
        )


def _check_finished(catalog: Catalog, out: str) -> None:
    """Refuse to ship what a run that was cut short brought and nobody judged.

    Raises:
        CatalogError: The latest run did not come to its end.
    """
    run = catalog.last_run()
    mine = f"event = 'finished' AND run_id = '{run['run_id']}'" if run else "false"
    if not catalog.dataset("runs").count_rows(mine):
        raise CatalogError(
            "the latest run was cut short, so not all is judged",
            where=out,
            mend=f"clipmill judge {out}, or clipmill curate --out {out}",
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
