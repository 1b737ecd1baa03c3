"""Of what a release was made: settings, rules, models with their licences, libraries."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import ClipmillError
from curation.models.weights import KNOWN
from curation.plan import Plan
from curation.redact import without_places
from curation.stage import Stage
from pipelines.config import CurateConfig

IN_HOUSE = {
    "shotnet": ("Clipmill's shot network", "Apache-2.0", "part of Clipmill"),
}


def origins(catalog: Catalog, config: CurateConfig) -> dict[str, Any]:
    """What the manifest says of a dataset's making.

    Returns:
        ``catalog_versions`` by table, ``fingerprints``, ``config``, ``rules`` (with those that the
        plan adds), ``thresholds`` that quantiles came to, ``versions`` of libraries, ``models``,
        ``fallbacks`` in words and ``num_removed_before``, clips and videos taken out on request.
    """
    run = catalog.last_run() or {}
    record = catalog.current()
    plan = config.plan()
    return {
        "run_id": run.get("run_id"),
        "catalog_versions": catalog.versions(),
        "fingerprints": asdict(record),
        "config": without_places(run.get("config") or {}),
        "rules": without_places(plan.rules.model_dump(mode="json")),
        "thresholds": _thresholds(catalog, record.tables.get("verdicts", "")),
        "versions": run.get("versions") or {},
        "models": models_of(plan, record.stages),
        "fallbacks": _fallbacks(catalog),
        "num_removed_before": _removed_before(catalog),
    }


def models_of(plan: Plan, stages: dict[str, str]) -> list[dict[str, Any]]:
    """The weights of every stage.

    Args:
        plan: Of the dataset's own configuration.
        stages: Fingerprint of each stage, as recorded by the run.

    Returns:
        ``stage, key, name, licence, source, sha256, confirmed``: a sum is confirmed when the stage
        has the same fingerprint here as in the run, of which the sums of its weights are a part.
    """
    try:
        here = plan.fingerprints()
    except ClipmillError:  # weights that were there are not here: nothing can be confirmed
        here = {}
    found = []
    for stage in plan.stages:
        confirmed = here.get(stage.name) == stages.get(stage.name)
        for key, sha256 in _sums(stage).items():
            name, licence, source = _about(key)
            one = {"stage": stage.name, "key": key, "name": name, "licence": licence}
            found.append(one | {"source": source, "sha256": sha256, "confirmed": confirmed})
        found += _named(stage)
    return found


def _sums(stage: Stage) -> dict[str, str | None]:
    """sha256 by key; the expected ones where the weights are not on this machine."""
    try:
        return dict(stage.model_checksums())
    except ClipmillError:
        weights = getattr(stage, "weights", tuple)()
        return {w.key: w.sha256 for w in weights}


def _about(key: str) -> tuple[str, str | None, str | None]:
    """Name, licence and source of weights."""
    if key in IN_HOUSE:
        return IN_HOUSE[key]
    known = KNOWN.get(key.replace("_", "-"))
    return (known.name, known.licence, known.source) if known else (key, None, None)


def _named(stage: Stage) -> list[dict[str, Any]]:
    """A language model that a stage names without having its weights: nobody here knows its sum."""
    backend = getattr(stage, "backend", None)
    name = getattr(backend, "model_name", None)
    if name is None or not getattr(backend, "prompted", True):
        return []
    about = {"name": without_places(name), "licence": None, "source": None}
    return [{"stage": stage.name, "key": None, **about, "sha256": None, "confirmed": False}]


def _fallbacks(catalog: Catalog) -> list[str]:
    """What ran in place of something that was asked for, as the latest run noted it."""
    rows = Views(catalog).query(
        "SELECT arg_max(report, recorded_at) AS report FROM runs "
        "WHERE event = 'finished' AND json_extract(report, '$.fallbacks') IS NOT NULL"
    )
    report = rows.column("report")[0].as_py()
    return list(json.loads(report)["fallbacks"]) if report else []


def _thresholds(catalog: Catalog, verdicts: str) -> list[dict[str, Any]]:
    if not catalog.has("thresholds"):
        return []
    rows = Views(catalog).query(
        "SELECT * EXCLUDE (fingerprint) FROM raw_thresholds "
        f"WHERE fingerprint = '{verdicts}' ORDER BY ALL"
    )
    return rows.to_pylist()


def _removed_before(catalog: Catalog) -> dict[str, int]:
    """What was taken out of the dataset on request, by kind; not what it was."""
    if not catalog.has("tombstones"):
        return {}
    rows = Views(catalog).query("SELECT kind, count(*) AS n FROM raw_tombstones GROUP BY kind")
    return {r["kind"]: r["n"] for r in rows.to_pylist()}
