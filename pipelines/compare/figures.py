"""The figures that ``--fail-if`` may ask for, by name.

Counts of both sides have four names: ``kept.hours`` is B as a multiple of A, ``a.kept.hours`` and
``b.kept.hours`` are the values, ``delta.kept.hours`` is B less A. What exists only between the two
(``lost.clips``, ``shift.sharpness``) has one. A name whose value is not known is there, with None.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from curation.errors import ErrorCode
from pipelines.compare.records import Count

if TYPE_CHECKING:
    from pipelines.compare.comparison import Comparison

REASON_PREFIXES = ("low", "high", "null", "not")
SAMPLING = (
    *("duplicate_exact", "duplicate_perceptual", "duplicate_semantic"),
    *("held_out_exact", "held_out_perceptual", "held_out_semantic"),
    *("over_source_cap", "over_video_cap", "over_duration_mix", "over_cluster_cap", "over_total"),
)
"""Reasons that no rule on a column gives."""


def figures_of(found: Comparison) -> dict[str, float | None]:
    """All figures, the most asked for first."""
    figures: dict[str, float | None] = {}
    for count in _zeros(found, [*found.account, *found.cost]):
        figures |= {
            count.name: count.ratio,
            f"a.{count.name}": count.a,
            f"b.{count.name}": count.b,
            f"delta.{count.name}": count.delta,
        }
    figures |= dict(_between(found))
    for shift in found.shifts:
        c, pair = shift.column, shift.paired
        a_null, b_null = shift.a.null_share, shift.b.null_share
        figures |= {
            f"shift.{c}": shift.ks,
            f"effect.{c}": shift.effect,
            f"p.{c}": shift.p,
            f"q.{c}": shift.q,
            f"changed.{c}": pair.num_changed / pair.n if pair.n else None,
            f"nulls.{c}": None if a_null is None or b_null is None else b_null - a_null,
            f"mean.{c}": Count(name=c, a=shift.a.mean, b=shift.b.mean).ratio,
        }
    return figures


def _between(found: Comparison) -> Iterator[tuple[str, float | None]]:
    """Figures that exist only between the two."""
    fates, captions, sources = found.fates, found.captions, found.sources
    kept_a = None
    if fates is not None:
        kept_a = fates.both_clips + fates.recut_a + fates.lost_clips
    yield "lost.clips", fates.lost_clips if fates else None
    yield "lost.hours", fates.lost_hours if fates else None
    yield "lost.share", fates.lost_clips / kept_a if fates and kept_a else None
    yield "gained.clips", fates.gained_clips if fates else None
    yield "gained.hours", fates.gained_hours if fates else None
    yield "both.clips", fates.both_clips if fates else None
    yield "recut.clips", fates.recut_a if fates else None
    yield "sources.lost", sources.lost if sources else None
    yield "sources.gained", sources.gained if sources else None
    yield "captions.changed", captions.changed if captions else None
    yield "captions.lost", captions.lost if captions else None
    share = captions.changed / captions.both if captions and captions.both else None
    yield "captions.changed_share", share
    yield "settings.changed", len(found.settings)
    yield "stages.changed", len(found.stages)
    yield "versions.changed", len(found.versions)
    yield "models.changed", None if found.models is None else len(found.models)


def _zeros(found: Comparison, counts: Iterable[Count]) -> Iterator[Count]:
    """The counts, and zeros for reasons and errors that can occur but did not on either side.

    A gate on a reason must not fail as misspelt on the day that no clip has it.
    """
    counts = list(counts)
    yield from counts
    there = {count.name for count in counts}
    possible = [f"error.{code}" for code in ErrorCode]
    possible += [f"reason.{name}" for name in (*SAMPLING, *_of_rules(found.configs))]
    zeros = [0 if account else None for account in found.accounts_known]
    for name in dict.fromkeys(possible):
        if name not in there:
            yield Count(name=name, a=zeros[0], b=zeros[1])


def _of_rules(configs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Reasons that the rules of a configuration may give."""
    for config in configs:
        judge = config.get("judge") or {}
        rules = [judge.get("rules") or {}]
        overrides = judge.get("overrides") or []
        for override in overrides if isinstance(overrides, list) else []:
            rules.append(override.get("rules") or {} if isinstance(override, Mapping) else {})
        for column in ["residual_cut", *(column for mine in rules for column in mine)]:
            for prefix in REASON_PREFIXES:
                yield f"{prefix}_{column}"
