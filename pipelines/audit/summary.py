"""The page in words: what is in the dataset, what takes out most, what has to be looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.audit.duplicates import Duplicates
from pipelines.audit.funnel import Funnel
from pipelines.audit.rights import Rights
from pipelines.audit.splits import Splits
from pipelines.report.words import duration, plural


@dataclass(frozen=True, kw_only=True)
class Line:
    """One sentence; ``bad`` ones are to be looked at, ``section`` tells more."""

    text: str
    section: str
    bad: bool = False


def summarise(
    account: Mapping[str, Any],
    funnel: Funnel,
    duplicates: Duplicates,
    rights: Rights,
    splits: Splits,
) -> list[Line]:
    """Sentences, the most important first."""
    videos = account["videos"]
    lines = []
    if not account["clips"]:
        return [
            Line(text=f"{plural(videos['total'], 'source')}, and no clip yet.", section="funnel")
        ]
    (total, total_s), (kept, kept_s) = funnel.all, funnel.of("kept")
    lines.append(
        Line(
            text=f"{kept:,} of {plural(total, 'clip')} are kept, {duration(kept_s)} of "
            f"{duration(total_s)} in clips, from {plural(videos['total'], 'source')}.",
            section="funnel",
        )
    )
    lines += [
        Line(text=f"Not accounted for: {text}.", section="errors", bad=True)
        for text in account["imbalances"]
    ]
    lines += _most(funnel)
    failed, failed_s = funnel.of("failed")
    if failed or videos["failed"]:
        text = f"{plural(videos['failed'], 'source')} and {plural(failed, 'clip')} "
        text += f"({duration(failed_s)}) failed: errors, not rejections."
        lines.append(Line(text=text, section="errors", bad=True))
    lines.append(_licences(rights, kept))
    lines.append(_alike(duplicates))
    if rights.num_removals:
        text = f"{plural(rights.num_removals, 'removal')} on request stand in the catalog."
        lines.append(Line(text=text, section="rights"))
    if splits.divided:
        parts = ", ".join(f"{r['num_clips']:,} {r['split']}" for r in splits.splits)
        lines.append(Line(text=f"Kept clips are divided: {parts}.", section="split"))
    return lines


def _most(funnel: Funnel) -> list[Line]:
    steps = sorted(funnel.steps, key=lambda s: -s.num_clips)
    if not steps:
        return [Line(text="No clip was rejected.", section="funnel")]
    most = steps[0]
    alone = max(funnel.steps, key=lambda s: s.num_alone)
    text = f"Most clips fail “{most.label}”: {most.num_clips:,}, "
    text += f"{most.num_alone:,} of them nothing else."
    if alone.code != most.code and alone.num_alone:
        text += f" Most are lost to “{alone.label}” alone: {alone.num_alone:,}."
    return [Line(text=text, section="scores")]


def _licences(rights: Rights, kept: int) -> Line:
    if not kept:
        return Line(text="No clip is kept, so no licence is in question.", section="rights")
    if not rights.unknown_kept:
        return Line(text="Every kept clip has a licence.", section="rights")
    text = f"{rights.unknown_kept:,} of {plural(kept, 'kept clip')} have no known licence."
    return Line(text=text, section="rights", bad=True)


def _alike(duplicates: Duplicates) -> Line:
    if not duplicates.made:
        return Line(text="Nobody looked for duplicates.", section="duplicates")
    here = sum(t["num_clips"] for t in duplicates.totals if not t["held_out"])
    held = sum(t["num_clips"] for t in duplicates.totals if t["held_out"])
    text = f"{plural(here, 'clip')} went as duplicates" if here else "No clip is a duplicate"
    text += f"; {plural(held, 'clip')} held out as references." if held else "."
    return Line(text=text, section="duplicates")
