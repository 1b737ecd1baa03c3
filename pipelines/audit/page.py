"""The audit page: one HTML file that needs nothing but itself.

Everything is counted in SQL and every list is bounded, so neither the page nor the memory it takes
grows with the dataset. Pictures have a budget in bytes. What comes from outside is escaped: by the
templates, and in the data of the scripts by ``script_data.json_for_script``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from curation.catalog.account import take_account
from curation.catalog.catalog import Catalog
from curation.storage import Storage
from pipelines.audit.basis import Basis, open_basis
from pipelines.audit.chosen import Chosen, captions_of, choose_clips
from pipelines.audit.cost import find_costs
from pipelines.audit.curves import make_curves
from pipelines.audit.duplicates import find_duplicates
from pipelines.audit.funnel import make_funnel
from pipelines.audit.histograms import draw_histograms
from pipelines.audit.near import find_borders
from pipelines.audit.origins import config_yaml, find_models
from pipelines.audit.pictures import read_pictures
from pipelines.audit.render import render_within
from pipelines.audit.rights import find_rights
from pipelines.audit.script_data import script_data
from pipelines.audit.splits import find_splits
from pipelines.audit.summary import summarise
from pipelines.audit.why import Story, stories
from pipelines.report.captions import captions_section
from pipelines.report.charts import PLOT_HEIGHT, PLOT_WIDTH
from pipelines.report.failures import clip_failures, source_failures
from pipelines.report.funnel import Row, count_reasons, draw_funnel, shard_totals
from pipelines.report.page import root_name

PAGE = "report/audit.html"
MAX_CLIPS = 500
MAX_PICTURE_BYTES = 9_000_000


@dataclass(kw_only=True)
class AuditReport:
    """What was written.

    Attributes:
        page: Path or URL of the file.
        num_bytes: Its size.
        num_clips: Clips of the dataset; ``num_listed`` of them can be found on the page.
        num_pictures: Clips with a picture.
        balanced: Whether the account balances; ``imbalances`` says what does not.
        seconds: What each part of the work took.
    """

    page: str
    num_bytes: int = 0
    num_clips: int = 0
    num_listed: int = 0
    num_pictures: int = 0
    balanced: bool = True
    imbalances: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def make_audit(
    out: str,
    path: str | Path | None = None,
    *,
    max_clips: int = MAX_CLIPS,
    max_picture_bytes: int = MAX_PICTURE_BYTES,
    seed: int = 0,
    tell: Callable[[str], None] = lambda _: None,
) -> AuditReport:
    """Write the audit page of a dataset.

    Args:
        out: The dataset root.
        path: A local file to write; None: ``report/audit.html`` below the root.
        max_clips: Most clips that can be looked up on the page; a larger dataset is sampled.
        max_picture_bytes: Of all pictures together.
        seed: Of the sample.
        tell: Is told what is being done.

    Raises:
        CatalogError: There is no dataset.
    """
    catalog = Catalog.open(out)
    clock = _Clock(tell)
    account = clock("account", lambda: take_account(catalog).as_dict())
    basis = clock("clips", lambda: open_basis(catalog))
    context, listed = _context(basis, account, clock, max_clips=max_clips, seed=seed)
    pictures = clock("pictures", lambda: read_pictures(basis, listed, max_picture_bytes))
    html = clock("page", lambda: render_within(context, pictures, listed))
    report = AuditReport(
        page=_write(catalog.storage, path, html),
        num_bytes=len(html),
        num_clips=basis.num_clips,
        num_listed=len(context["data"]["clips"]),
        num_pictures=len(context["data"]["pictures"]),
        balanced=account["balanced"],
        imbalances=account["imbalances"],
        seconds=clock.seconds,
    )
    return report


T = TypeVar("T")


class _Clock:
    """Runs the parts of the work, tells what is being done, and notes how long it took."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}

    def __call__(self, name: str, work: Callable[[], T]) -> T:
        self._tell(name)
        began = time.perf_counter()
        result = work()
        self.seconds[name] = round(time.perf_counter() - began, 3)
        return result


def _context(
    basis: Basis, account: Mapping[str, Any], clock: _Clock, *, max_clips: int, seed: int
) -> tuple[dict[str, Any], list[str]]:
    """All that the templates show, and the clips that want a picture, the most wanted first."""
    parts = _sections(basis, account, clock)
    funnel, curves, duplicates = parts["funnel"], parts["curves"], parts["duplicates"]
    near = [c.clip_id for b in parts["borders"] for side in (b.failed, b.passed) for c in side]
    shown = [*duplicates.clip_ids, *near]
    chosen, told = clock("stories", lambda: _stories(basis, shown, max_clips, seed))
    name = root_name(basis.catalog.storage.url)
    context: dict[str, Any] = {
        **parts,
        "name": name,
        "at": basis.run["recorded_at"],
        "account": account,
        "summary": summarise(account, funnel, duplicates, parts["rights"], parts["splits"]),
        "chosen": chosen,
        "num_clips": basis.num_clips,
        "thresholds": basis.thresholds,
        "plot": (PLOT_WIDTH, PLOT_HEIGHT),
        "tables": sorted(basis.catalog.versions().items()),
        "libraries": basis.run["versions"] or {},
        "config": config_yaml(basis.config),
        "run": basis.run,
        "data": script_data(name, told, funnel, curves),
    }
    return context, list(dict.fromkeys([*shown, *chosen.clip_ids]))


def _sections(basis: Basis, account: Mapping[str, Any], clock: _Clock) -> dict[str, Any]:
    """What each section counts, by the name that its template knows."""
    views, catalog = basis.views, basis.catalog
    last, failed = _last_report(basis), account["clips"].get("failed")
    funnel = clock("funnel", lambda: make_funnel(basis))
    curves = clock("curves", lambda: make_curves(basis) if basis.has_clips else [])
    return {
        "funnel": funnel,
        "curves": curves,
        "upstream": clock("sources", lambda: _upstream(basis, account)),
        "charts": clock("charts", lambda: draw_histograms(basis)),
        "borders": clock("borderline", lambda: find_borders(basis, curves)),
        "duplicates": clock("duplicates", lambda: find_duplicates(basis)),
        "captions": clock("captions", lambda: captions_section(catalog, views, last, basis.config)),
        "rights": clock("rights", lambda: find_rights(basis)),
        "source_failures": clock("errors", lambda: source_failures(views)),
        "clip_failures": clock("clip errors", lambda: clip_failures(views) if failed else []),
        "costs": clock("cost", lambda: find_costs(basis)),
        "splits": clock("split", lambda: find_splits(basis, funnel)),
        "models": clock("models", lambda: find_models(basis)),
    }


def _stories(
    basis: Basis, shown: Sequence[str], max_clips: int, seed: int
) -> tuple[Chosen, dict[str, Story]]:
    if not basis.has_clips:
        return Chosen(clip_ids=[], sampled=False), {}
    chosen = choose_clips(basis, shown, max_clips, seed)
    told = stories(basis, chosen.clip_ids)
    said = captions_of(basis, chosen.clip_ids)
    for story in told:
        story.caption = said.get(story.clip_id, "")
    return chosen, {s.clip_id: s for s in told}


def _upstream(basis: Basis, account: Mapping[str, Any]) -> list[Row]:
    """What was lost before there were clips: the first rows of the run's funnel."""
    reasons = count_reasons(basis.views) if account["clips"] else []
    rows = draw_funnel(basis.views, account, reasons, shard_totals(basis.catalog))
    ends = [i for i, r in enumerate(rows) if r.label == "In clips"]
    return rows[: ends[0] + 1] if ends else rows


def _last_report(basis: Basis) -> dict[str, Any]:
    rows = basis.rows(
        "SELECT report FROM runs WHERE event = 'finished' AND report IS NOT NULL "
        "ORDER BY recorded_at DESC LIMIT 1"
    )
    return json.loads(rows[0]["report"]) if rows else {}


def _write(storage: Storage, path: str | Path | None, html: bytes) -> str:
    """Write to the root, or to a local file, under a temporary name first."""
    if path is not None:
        target = Path(path).resolve()
        storage = Storage(target.parent)
        storage.write_bytes(target.name, html)
        return str(target)
    storage.write_bytes(PAGE, html)
    return storage.uri(PAGE)
