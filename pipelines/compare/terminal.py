"""What a person reads of a comparison in the terminal: short, what matters most first."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.compare.comparison import Comparison
from pipelines.compare.fates import Group
from pipelines.compare.records import Change, Count
from pipelines.compare.shifts import Shift
from pipelines.report.words import number, shorten

MAX_CHANGES = 12
MAX_REASONS = 10
MAX_SHIFTS = 10
SMALL_EFFECT = 0.1
"""Shifts below this effect and this KS are not listed: half of what Cohen calls small."""
VALUE_CHARS = 60
FEW_CHANGES = 0.05
"""Differences of work below this share are noise of the machine."""


def print_comparison(found: Comparison, console: Console) -> None:
    """Print a comparison."""
    console.print(f"A {_who(found, 'a')}\nB {_who(found, 'b')}", highlight=False, soft_wrap=True)
    for gate in found.gates:
        mark = "[bold red]FAILED[/]" if gate.failed else "[green]passed[/]"
        values = ", ".join(f"{name} = {number(value)}" for name, value in gate.values.items())
        console.print(f"{mark} {escape(gate.text)}  ({escape(values)})", highlight=False)
    if found.no_clips:
        why = escape(found.no_clips)
        console.print(f"[yellow]clips cannot be compared:[/] {why}", soft_wrap=True)
    if _nothing(found):
        console.print("[green]no difference[/] in settings, account, clips, scores or captions")
    else:
        _print_clips(found, console)
        _print_changes("settings", found.settings, console)
        _print_stages(found, console)
        _print_changes("models", found.models or [], console)
        _print_shifts(found, console)
        _print_others(found, console)
    _print_account(found.account, console)
    _print_cost(found.cost, console)
    _print_changes("libraries", found.versions, console)


def _who(found: Comparison, name: str) -> str:
    side = found.a if name == "a" else found.b
    text = f"[bold]{escape(side.text)}[/]"
    if side.run is not None:
        at = f"{side.run.started_at:%Y-%m-%d %H:%M} UTC"
        text += f"  {side.kind}, run {escape(side.run.run_id)} ({escape(side.run.command)}, {at})"
        if side.run.report is None:
            text += ", no report recorded"
    return text


def _nothing(found: Comparison) -> bool:
    """True when the two are the same but for cost and libraries."""
    fates, sources, captions = found.fates, found.sources, found.captions
    moved = fates is not None and (
        fates.lost_clips or fates.gained_clips or fates.recut_a or fates.recut_b
    )
    other = sources is not None and (sources.lost or sources.gained)
    words = captions is not None and (captions.changed or captions.lost or captions.gained)
    counts = any(c.delta for c in found.account)
    return not (
        (found.settings or found.stages or found.models or found.no_clips)
        or (moved or other or words or counts)
        or any(_worth(s) or s.paired.num_changed for s in found.shifts)
        or any(found.scores_only.values())
    )


def _print_clips(found: Comparison, console: Console) -> None:
    fates = found.fates
    by_name = {c.name: c for c in found.account}
    clips, hours = by_name["kept.clips"], by_name["kept.hours"]
    console.print(
        f"[bold]kept[/] {number(clips.a)} -> {number(clips.b)} clips{_percent(clips)}, "
        f"{number(hours.a)} -> {number(hours.b)} h{_percent(hours)}",
        highlight=False,
    )
    if fates is None:
        return
    recut = (
        f", {fates.recut_a} cut anew as {fates.recut_b}" if fates.recut_a or fates.recut_b else ""
    )
    console.print(
        f"  {fates.both_clips} in both{recut}, [red]{fates.lost_clips} lost[/] "
        f"({number(fates.lost_hours)} h), [green]{fates.gained_clips} gained[/] "
        f"({number(fates.gained_hours)} h)",
        highlight=False,
    )
    _print_groups("lost, by what B says of them", fates.lost, console)
    _print_groups("gained, by what A said of them", fates.gained, console)


def _print_groups(title: str, groups: Sequence[Group], console: Console) -> None:
    if groups:
        parts = [f"{escape(g.reason)} {g.num_clips}" for g in groups[:MAX_REASONS]]
        more = f", {len(groups) - MAX_REASONS} more" if len(groups) > MAX_REASONS else ""
        console.print(f"  {title}: {'; '.join(parts)}{more}", highlight=False, soft_wrap=True)


def _print_changes(title: str, changes: Sequence[Change], console: Console) -> None:
    if not changes:
        return
    console.print(f"[bold]{title}[/] that differ: {len(changes)}", highlight=False)
    for c in changes[:MAX_CHANGES]:
        text = f"  {c.key}: {value_text(c, 'a')} -> {value_text(c, 'b')}"
        console.print(escape(text), highlight=False, soft_wrap=True)
    if len(changes) > MAX_CHANGES:
        console.print(f"  and {len(changes) - MAX_CHANGES} more (--json shows all)")


def value_text(change: Change, side: str) -> str:
    """One side's value as a person reads it."""
    if change.only not in (None, side):
        return "(not there)"
    value = change.a if side == "a" else change.b
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return shorten(text, VALUE_CHARS)


def _print_stages(found: Comparison, console: Console) -> None:
    if not found.stages:
        return
    by_note: dict[str, list[str]] = {}
    for change in found.stages:
        by_note.setdefault(change.note, []).append(change.key)
    parts = "; ".join(f"{note}: {', '.join(names)}" for note, names in by_note.items())
    text = f"[bold]stages[/] that differ: {escape(parts)}"
    console.print(text, highlight=False, soft_wrap=True)


def _worth(shift: Shift) -> bool:
    small = shift.effect is not None and abs(shift.effect) < SMALL_EFFECT
    return (not small and bool(shift.ks)) or (shift.ks or 0.0) >= SMALL_EFFECT


def _print_shifts(found: Comparison, console: Console) -> None:
    shown = [s for s in found.shifts if _worth(s) or s.paired.num_changed]
    if found.shifts and all(s.ks is None for s in found.shifts):
        console.print("[bold]scores[/] cannot be compared: a side keeps no clip with a score")
        return
    if not shown:
        if found.shifts:
            console.print(f"[bold]scores[/]: none of {len(found.shifts)} moved")
        return
    table = Table(
        title=f"scores of kept clips: {len(shown)} of {len(found.shifts)} moved, by effect",
        title_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("score", no_wrap=True)
    for name in ("median A", "B", "effect", "KS", "q", "null A", "B"):
        table.add_column(name, justify="right", no_wrap=True)
    for s in shown[:MAX_SHIFTS]:
        table.add_row(
            escape(s.column),
            brief(s.a.median),
            brief(s.b.median),
            "" if s.effect is None else f"{s.effect:+.2f}",
            "" if s.ks is None else f"{s.ks:.2f}",
            "" if s.q is None else f"{s.q:.1g}",
            _share(s.a.null_share),
            _share(s.b.null_share),
        )
    console.print(table)
    if len(shown) > MAX_SHIFTS:
        console.print(f"  and {len(shown) - MAX_SHIFTS} more (--json, --html)")
    console.print("  q: p of Kolmogorov-Smirnov, adjusted for all columns (Benjamini-Hochberg)")
    other = [s for s in shown if s.paired.num_changed]
    if other:
        few = [f"{s.column} {s.paired.num_changed} of {s.paired.n}" for s in other[:MAX_SHIFTS]]
        more = f", and {len(other) - MAX_SHIFTS} more" if len(other) > MAX_SHIFTS else ""
        text = f"  same clip, other value: {', '.join(few)}{more}"
        console.print(escape(text), soft_wrap=True, highlight=False)
    for side, names in found.scores_only.items():
        if names:
            text = f"  only in {side.upper()}: {', '.join(names[:MAX_CHANGES])}"
            console.print(escape(text), soft_wrap=True, highlight=False)


def _share(share: float | None) -> str:
    return "" if not share else f"{100 * share:.3g} %"


def brief(value: float | None) -> str:
    """Three significant digits."""
    return "-" if value is None else f"{value:.3g}"


def _print_others(found: Comparison, console: Console) -> None:
    if (c := found.captions) is not None and (c.changed or c.lost or c.gained):
        console.print(
            f"[bold]captions[/] of clips kept in both: {c.changed} of {c.both} changed, "
            f"{c.lost} lost, {c.gained} gained",
            highlight=False,
        )
    if (s := found.sources) is not None and (s.lost or s.gained):
        console.print(
            f"[bold]sources[/]: {s.both} in both, {s.lost} lost, {s.gained} gained", highlight=False
        )
        for title, names in (("lost", s.lost_examples), ("gained", s.gained_examples)):
            if names:
                few = ", ".join(names[:MAX_REASONS])
                console.print(escape(f"  {title}: {few}"), highlight=False, soft_wrap=True)


def _print_account(counts: Sequence[Count], console: Console) -> None:
    """The account: sources, clips and hours always, single reasons where they differ."""
    totals = ("sources.", "total.", "kept.", "rejected.", "failed.")
    shown = [c for c in counts if c.name.startswith(totals) and (c.a or c.b)]
    shown += [c for c in counts if not c.name.startswith(totals) and c.delta]
    table = Table(title="account", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in ("A", "B", "B - A", "B / A"):
        table.add_column(name, justify="right")
    for c in shown:
        ratio = "" if c.ratio is None else f"{c.ratio:.3g}"
        delta = "" if not c.delta else f"{c.delta:+.4g}"
        table.add_row(escape(c.name), number(c.a), number(c.b), delta, ratio)
    console.print(table)


def _print_cost(counts: Sequence[Count], console: Console) -> None:
    main = [c for c in counts if not c.name.startswith("cost.stage.")]
    if all(c.a is None and c.b is None for c in main):
        return
    parts = [f"{c.name.removeprefix('cost.')} {number(c.a)} -> {number(c.b)}" for c in main]
    console.print(f"[bold]cost[/] of the runs: {', '.join(parts)}", highlight=False)
    stages = [c for c in counts if c.name.startswith("cost.stage.")]
    stages = [c for c in stages if abs(c.delta or 0) > FEW_CHANGES * max(c.a or 0, c.b or 0)]
    stages.sort(key=lambda c: -abs(c.delta or 0.0))
    if stages:
        few = [
            f"{c.name.removeprefix('cost.stage.')} {number(c.a)} -> {number(c.b)}"
            for c in stages[:6]
        ]
        console.print(f"  work of stages, s: {escape(', '.join(few))}", highlight=False)


def _percent(count: Count) -> str:
    if count.ratio is None or count.ratio == 1:
        return ""
    change = 100 * (count.ratio - 1)
    return f" ({change:+.1f} %)"
