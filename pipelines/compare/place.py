"""What a person calls one side of a comparison.

``ROOT`` is a dataset as it is now, ``ROOT@TAG`` a release of it, ``ROOT@RUN_ID``, ``ROOT@latest``
and ``ROOT@latest~N`` (N runs before the latest) what a run left.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation.catalog.catalog import Catalog, PlanRecord
from curation.errors import CatalogError
from curation.storage import Storage

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~+-]{0,199}")
LATEST = re.compile(r"latest(?:~(\d{1,6}))?")
MIN_PREFIX_CHARS = 8
"""A run may be named by the first characters of its id: day and hour at least."""
MAX_LISTED = 8


@dataclass(frozen=True)
class Place:
    """One side as it was given.

    Attributes:
        text: As typed.
        root: The dataset root.
        name: What follows the ``@``; None: the dataset as it is now.
    """

    text: str
    root: str
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What the catalog remembers of one run.

    Attributes:
        run_id: Its id.
        command: ``curate``, ``judge``, ...
        started_at: When it was recorded as begun, UTC.
        finished_at: When it was recorded as ended; None: it was killed, or records no end.
        config: The whole configuration.
        fingerprints: ``Plan.record()`` of its plan.
        versions: Library -> version.
        report: ``RunReport.as_dict()``; None as above.
    """

    run_id: str
    command: str
    started_at: datetime
    finished_at: datetime | None
    config: dict[str, Any]
    fingerprints: dict[str, Any]
    versions: dict[str, str]
    report: dict[str, Any] | None

    @property
    def plan(self) -> PlanRecord:
        """The plan whose rows the run made current."""
        return PlanRecord(**self.fingerprints)

    @property
    def began_at(self) -> datetime:
        """The moment its id was made, before it wrote anything, UTC."""
        try:
            stamp = datetime.strptime(self.run_id.partition("-")[0], "%Y%m%dT%H%M%S%f")
        except ValueError:
            return self.started_at
        return stamp.replace(tzinfo=UTC)


def parse_place(text: str) -> Place:
    """Read one side.

    A root may hold an ``@`` itself (``s3://key@host/data``): what is a dataset as it stands is
    taken as one.

    Raises:
        CatalogError: Neither it nor what stands before its last ``@`` can be a dataset.
    """
    root, at, name = text.rpartition("@")
    here = Storage(text)
    if not at or Catalog(here).has("runs") or here.exists("manifest.json"):
        return Place(text, text)
    if not root or not NAME.fullmatch(name):
        raise CatalogError(
            "no dataset here, and no name of a run or release behind the @",
            where=text,
            mend="OUT, OUT@TAG, OUT@RUN_ID, OUT@latest or OUT@latest~1",
        )
    return Place(text, root, name)


def read_runs(catalog: Catalog) -> list[dict[str, Any]]:
    """Every recorded run, oldest first, without its settings: ``run_id``, ``command``, times."""
    columns = ["run_id", "event", "recorded_at", "command"]
    runs: dict[str, dict[str, Any]] = {}
    rows = catalog.dataset("runs").to_table(columns=columns).to_pylist()
    for row in sorted(rows, key=lambda r: r["recorded_at"]):
        if row["event"] == "started":
            runs[row["run_id"]] = row | {"finished_at": None}
        elif row["run_id"] in runs:
            runs[row["run_id"]]["finished_at"] = row["recorded_at"]
    return list(runs.values())


def find_run(runs: Sequence[dict[str, Any]], place: Place) -> int | None:
    """Which of the runs a name means; None: it names no run.

    Raises:
        CatalogError: ``latest~N`` with too large an N, or the beginning of several ids.
    """
    name = place.name or "latest"
    if found := LATEST.fullmatch(name):
        back = int(found[1] or 0)
        if back >= len(runs):
            raise CatalogError(
                f"{len(runs)} runs are recorded here", where=place.text, mend=known_names(runs, ())
            )
        return len(runs) - 1 - back
    exact = [i for i, run in enumerate(runs) if run["run_id"] == name]
    if not exact and len(name) >= MIN_PREFIX_CHARS:
        exact = [i for i, run in enumerate(runs) if run["run_id"].startswith(name)]
    if len(exact) > 1:
        ids = [runs[i]["run_id"] for i in exact[-MAX_LISTED:]]
        raise CatalogError(
            f"{len(exact)} runs begin like this", where=place.text, mend="one of " + ", ".join(ids)
        )
    return exact[0] if exact else None


def read_run(catalog: Catalog, run_id: str) -> RunRecord:
    """All that is recorded of one run."""
    where = f"run_id = '{run_id}'"
    rows = catalog.dataset("runs").to_table(filter=where).to_pylist()
    start = max((r for r in rows if r["event"] == "started"), key=lambda r: r["recorded_at"])
    ends = [r for r in rows if r["event"] == "finished"]
    end = max(ends, key=lambda r: r["recorded_at"]) if ends else None
    return RunRecord(
        run_id=run_id,
        command=start["command"] or "",
        started_at=_utc(start["recorded_at"]),
        finished_at=_utc(end["recorded_at"]) if end else None,
        config=json.loads(start["config"] or "{}"),
        fingerprints=json.loads(start["fingerprints"] or "{}"),
        versions=json.loads(start["versions"] or "{}"),
        report=json.loads(end["report"]) if end and end["report"] else None,
    )


def known_names(runs: Sequence[dict[str, Any]], tags: Collection[str], near: str = "") -> str:
    """What could have been meant: the nearest name first, then the newest."""
    ids = [r["run_id"] for r in runs]
    names = [*sorted(tags), *reversed(ids)]
    close = difflib.get_close_matches(near, names, n=1) if near else []
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}there are: {listed}; or latest~1" if names else "nothing is recorded here"


def _utc(at: datetime) -> datetime:
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
