"""One side of a comparison, opened: its run's record, its account, and its rows where they live."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from curation.catalog.account import take_account
from curation.catalog.catalog import Catalog
from curation.errors import CatalogError
from pipelines.compare.pinned import PinnedCatalog, pins_at, tags_of
from pipelines.compare.place import (
    Place,
    RunRecord,
    find_run,
    known_names,
    parse_place,
    read_run,
    read_runs,
)
from pipelines.compare.released import Released, find_released, release_tags

Kind = Literal["dataset", "run", "release"]


@dataclass(kw_only=True)
class Side:
    """What is known of one side.

    Attributes:
        text: As it was given.
        kind: The dataset as it is now, the end of a run, or a release.
        run: The run whose settings and plan it has; None: no run is recorded.
        catalog: Its rows; None when they are gone.
        account: ``Account.as_dict()``; None when neither rows nor a report are there.
        gone: Why there are no rows, in words.
        released: The rows of a release whose folder is all there is of it.
    """

    text: str
    kind: Kind
    run: RunRecord | None
    catalog: Catalog | None
    account: dict[str, Any] | None = None
    gone: str = ""
    released: Released | None = None

    @property
    def has_clips(self) -> bool:
        """True when its clips can be read."""
        if self.released is not None:
            return True
        return self.catalog is not None and "clips" in self.catalog.current().tables

    def about(self) -> dict[str, Any]:
        """Plain values for JSON."""
        run = self.run
        return {
            "given": self.text,
            "kind": self.kind,
            "run_id": run.run_id if run else None,
            "command": run.command if run else None,
            "started_at": run.started_at.isoformat() if run else None,
            "finished_at": run.finished_at.isoformat() if run and run.finished_at else None,
            "clips_readable": self.has_clips,
            "why_not": self.gone,
        }


def open_side(text: str) -> Side:
    """Open one side.

    Args:
        text: See ``place.py``.

    Raises:
        CatalogError: There is no such dataset, run or release.
    """
    place = parse_place(text)
    if place.name is None and (released := find_released(place.root)) is not None:
        return _folder(text, released)
    catalog = Catalog.open(place.root)
    runs = read_runs(catalog)
    if place.name is None:
        record = read_run(catalog, runs[-1]["run_id"]) if runs else None
        side = Side(text=text, kind="dataset", run=record, catalog=catalog)
        return _with_account(side)
    tags = tags_of(catalog)
    released = find_released(place.root, place.name)
    # The tagged tables know more (pictures, all scores), but what was taken out of a release
    # afterwards is out of its folder alone.
    if released is not None and (
        place.name not in tags or released.manifest.get("revision", 1) != 1
    ):
        return _folder(text, released)
    if place.name in tags:
        return _with_account(_release(place, catalog, tags[place.name]))
    index = find_run(runs, place)
    if index is None:
        raise CatalogError(
            "no run and no release of this name",
            where=place.text,
            mend=known_names(runs, {*tags, *release_tags(place.root)}, place.name),
        )
    return _with_account(_run(place, catalog, runs, index))


def _folder(text: str, released: Released) -> Side:
    """A release by its folder alone."""
    return Side(
        text=text,
        kind="release",
        run=released.run(),
        catalog=None,
        account=released.manifest.get("account"),
        released=released,
    )


def _release(place: Place, catalog: Catalog, versions: dict[str, int]) -> Side:
    """A tagged state of the tables; the tagged table of runs says which run it was."""
    if "runs" not in versions:
        raise CatalogError("the table of runs does not carry this tag", where=place.text)
    pinned = {table: place.name or version for table, version in versions.items()}
    looking = PinnedCatalog(catalog.storage, pinned, _NO_RUN)
    runs = read_runs(looking)
    if not runs:
        raise CatalogError("no run is recorded in this release", where=place.text)
    record = read_run(looking, runs[-1]["run_id"])
    state = PinnedCatalog(catalog.storage, pinned, record)
    return Side(text=place.text, kind="release", run=record, catalog=state)


def _run(place: Place, catalog: Catalog, runs: list[dict[str, Any]], index: int) -> Side:
    """The state that a run left; one that records no end left it to the next run's beginning."""
    record = read_run(catalog, runs[index]["run_id"])
    end: datetime | None = record.finished_at
    if end is None and index + 1 < len(runs):
        end = read_run(catalog, runs[index + 1]["run_id"]).began_at
    pins, gone = pins_at(catalog, end)
    if gone:
        few = ", ".join(gone[:3]) + (", ..." if len(gone) > 3 else "")
        why = f"old versions of {len(gone)} tables ({few}) have been cleaned away"
        return Side(text=place.text, kind="run", run=record, catalog=None, gone=why)
    state = PinnedCatalog(catalog.storage, pins, record)
    return Side(text=place.text, kind="run", run=record, catalog=state)


def _with_account(side: Side) -> Side:
    """Count the rows; where they are gone, what the run counted at its end."""
    if side.catalog is not None:
        side.account = take_account(side.catalog).as_dict()
        if not side.has_clips:
            side.gone = "no clips are recorded"
    elif side.run is not None and side.run.report is not None:
        side.account = side.run.report.get("account")
    return side


_NO_RUN = RunRecord(
    run_id="",
    command="",
    started_at=datetime.min,
    finished_at=None,
    config={},
    fingerprints={},
    versions={},
    report=None,
)
