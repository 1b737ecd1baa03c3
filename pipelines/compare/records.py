"""What two runs were told and what they counted: settings, stages, versions, account, cost.

All of it comes from the record of a run, so it can be compared for ever, also when the rows of the
run are long gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from curation.errors import ClipmillError
from pipelines.compare.side import Side

SHORT_PRINT_CHARS = 12


@dataclass(frozen=True, kw_only=True)
class Change:
    """One setting, library or stage that differs.

    Attributes:
        key: Dotted name.
        a: Value in A; None also where A has no such key, see ``only``.
        b: Value in B.
        only: ``a`` or ``b`` when the other side has no such key.
        note: Why, where that is known.
    """

    key: str
    a: Any
    b: Any
    only: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Count:
    """One figure of both sides.

    Attributes:
        name: Dotted name, as ``--fail-if`` knows it.
        a: In A; None: not known.
        b: In B.
    """

    name: str
    a: float | None
    b: float | None

    @property
    def delta(self) -> float | None:
        """B less A."""
        return None if self.a is None or self.b is None else round(self.b - self.a, 9)

    @property
    def ratio(self) -> float | None:
        """B as a multiple of A; None where A is zero."""
        return None if self.a is None or self.b is None or not self.a else self.b / self.a

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "a": self.a,
            "b": self.b,
            "delta": self.delta,
            "ratio": self.ratio,
        }


def flatten(value: object, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of nested mappings, and of lists of mappings; other lists stay whole."""
    if isinstance(value, Mapping) and (value or not prefix):
        for key, inner in value.items():
            yield from flatten(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        for i, inner in enumerate(value):
            yield from flatten(inner, f"{prefix}[{i}]")
    else:
        yield prefix, value


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Change]:
    """Keys of two flat mappings whose values differ, in the order of A, then B's own."""
    changes = []
    for key in dict.fromkeys([*a, *b]):
        if key in a and key in b and _same(a[key], b[key]):
            continue
        only = "a" if key not in b else "b" if key not in a else None
        changes.append(Change(key=key, a=a.get(key), b=b.get(key), only=only))
    return changes


def settings_changed(a: Side, b: Side) -> list[Change]:
    """Settings that differ; those of ``run`` (engine, workers, limits) last.

    A key that one side lacks and that is empty on the other says the same on both: a newer version
    writes down what an older one did not know of.
    """
    flat = [dict(flatten(side.run.config)) if side.run else {} for side in (a, b)]
    found = [
        c for c in differences(*flat) if not (c.only and (c.a or c.b) in (None, "", [], {}, ()))
    ]
    return sorted(found, key=lambda c: c.key.split(".")[0] == "run")


def stages_changed(a: Side, b: Side, settings: list[Change]) -> list[Change]:
    """Stages that are new, gone, or have another fingerprint, with what is known of why."""
    prints = []
    for side in (a, b):
        plan = side.run.plan if side.run else None
        order = plan.order if plan else []
        prints.append({s: plan.stages[s][:SHORT_PRINT_CHARS] for s in order} if plan else {})
    told = {c.key.split(".")[0].split("[")[0] for c in settings}
    reads = _reads(b)
    changes: list[Change] = []
    changed: set[str] = set()
    for change in differences(*prints):
        read = [s for s in reads.get(change.key, ()) if s in changed]
        if change.only:
            note = f"only in {change.only.upper()}"
        elif change.key in told:
            note = "other settings"
        elif read:
            note = "reads a stage that changed"
        else:
            note = "another model or other code"
        changed.add(change.key)
        changes.append(Change(key=change.key, a=change.a, b=change.b, only=change.only, note=note))
    return changes


def _reads(side: Side) -> dict[str, list[str]]:
    """Stage -> stages whose columns it reads; empty when this version cannot read the settings."""
    from pipelines.config import load_config

    try:
        plan = load_config(None, None, base=side.run.config if side.run else {}).plan()
        known = plan.columns()
    except ClipmillError:
        return {}
    return {
        stage.name: [known[f.name].stage or "" for f in stage.reads if f.name in known]
        for stage in plan.stages
    }


def versions_changed(a: Side, b: Side) -> list[Change]:
    """Libraries recorded in another version."""
    return differences(*[side.run.versions if side.run else {} for side in (a, b)])


def account_counts(a: Side, b: Side) -> list[Count]:
    """Sources, clips, hours, reasons, lost spans and errors side by side."""
    accounts = [side.account or {} for side in (a, b)]
    counts = []
    for key in ("total", "done", "failed", "pending", "duplicates"):
        videos = [_get(account, "videos", key) for account in accounts]
        counts.append(Count(name=f"sources.{key}", a=videos[0], b=videos[1]))
    for verdict in ("total", "kept", "rejected", "failed"):
        clips = [_get(account, "clips", verdict) for account in accounts]
        hours = [_hours(_get(account, "seconds", verdict)) for account in accounts]
        counts.append(Count(name=f"{verdict}.clips", a=clips[0], b=clips[1]))
        counts.append(Count(name=f"{verdict}.hours", a=hours[0], b=hours[1]))
    for group, key in (("reason", "rejected_by_reason"), ("error", "errors_by_code")):
        counts += _by_name(group, accounts, key)
    spans = _by_name("span_hours", accounts, "seconds_by_reason")
    counts += [Count(name=c.name, a=_hours(c.a), b=_hours(c.b)) for c in spans]
    return counts


def cost_counts(a: Side, b: Side) -> list[Count]:
    """What the runs themselves did, from their reports: elapsed time, work, work of each stage."""
    reports = [side.run.report if side.run and side.run.report else {} for side in (a, b)]
    counts = [
        Count(name=f"cost.{k}", a=reports[0].get(k), b=reports[1].get(k))
        for k in ("wall_s", "video_s", "videos_run")
    ]
    stages = [r.get("stages") or {} for r in reports]
    busy = [
        round(sum(s.get("busy_s", 0.0) for s in mine.values()), 3) if r else None
        for mine, r in zip(stages, reports, strict=True)
    ]
    counts.append(Count(name="cost.busy_s", a=busy[0], b=busy[1]))
    for name in dict.fromkeys([*stages[0], *stages[1]]):
        work = [
            mine.get(name, {}).get("busy_s", 0.0) if r else None
            for mine, r in zip(stages, reports, strict=True)
        ]
        counts.append(Count(name=f"cost.stage.{name}", a=work[0], b=work[1]))
    return counts


def _by_name(group: str, accounts: list[dict[str, Any]], key: str) -> list[Count]:
    found = [account.get(key) or {} for account in accounts]
    known = [bool(account) for account in accounts]
    return [
        Count(
            name=f"{group}.{name}",
            a=found[0].get(name, 0) if known[0] else None,
            b=found[1].get(name, 0) if known[1] else None,
        )
        for name in sorted({*found[0], *found[1]})
    ]


def _get(account: Mapping[str, Any], group: str, key: str) -> float | None:
    """A figure of an account; one without clips has counted none."""
    if not account:
        return None
    return (account.get(group) or {}).get(key, 0)


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds / 3600, 6)


def _same(a: object, b: object) -> bool:
    """Equal, and true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)
