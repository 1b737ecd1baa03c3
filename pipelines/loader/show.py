"""The plan of a dataset's buckets on a terminal, and as a buckets file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml
from rich.console import Console
from rich.markup import escape

from pipelines.loader.report import BucketShare, Dropped, Report, SourceShare
from training.data.buckets import BucketSettings

SAID = {
    "too_short": "shorter than the shortest bucket",
    "too_small": "would be enlarged beyond max_upscale",
    "too_slow": "fewer frames per second than max_rate allows",
    "too_cropped": "would lose more than max_crop of the picture",
}
MOST_TAKERS = 6
HEAD = (
    *("bucket", "clips", "share", "time", "seen", "samples", "tokens", "cost", "less", "batches"),
    *("crop", "scale"),
)
LEGEND = (
    "seen: share of the time that one epoch shows; samples, cost: of a microbatch, cost in tokens, "
    "less: than the dearest; crop: mean share cut off; scale: factor of a side"
)


def print_plan(report: Report, console: Console) -> None:
    """Print where every clip goes."""
    if report.proposed:
        console.print("[bold]buckets proposed from the clips[/] (to save them: --write FILE)")
    for source in report.sources:
        _print_source(source, report, console)
    console.print(f"[dim]{LEGEND}[/]")
    step, worlds = report.step_microbatches, ", ".join(map(str, report.world_sizes))
    console.print(
        f"a step is {step} microbatches (order.microbatches): ranks x accumulation = {step}, so "
        f"{worlds} ranks can share it"
    )
    for remark in report.remarks:
        console.print(f"[yellow]{escape(remark)}[/]")
    if not report.balanced:
        console.print("[red]the counts do not add up: this is a bug[/]")


def _print_source(source: SourceShare, report: Report, console: Console) -> None:
    what = "single frames of " if source.pictures else ""
    part = "".join(
        f", {name} {value}"
        for name, value in (("split", source.split), ("source", source.source))
        if value is not None
    )
    share = f", {source.weight:.0%} of the microbatches" if source.weight < 1 else ""
    console.print(f"[bold]{what}{escape(source.root)}[/]{escape(part)}{share}")
    for number, line in enumerate(aligned([HEAD, *(_cells(b) for b in source.buckets)])):
        console.print(f"  {line}", style=None if number else "bold")
    for dropped in source.dropped:
        _print_dropped(dropped, console)
    if source.takers:
        console.print("what would take dropped clips in:")
        for taker in source.takers[:MOST_TAKERS]:
            what = f"{taker.clips} clips, {_hours(taker.hours)}"
            console.print(f"  {escape(taker.change)}: {what}")
    other = f" + {source.other_clips} of other splits or sources" if source.other_clips else ""
    console.print(
        f"{source.bucket_clips} clips in buckets + {source.dropped_clips} dropped{other} = "
        f"{source.index_clips} in the index"
    )
    if source.bucket_clips:
        _print_epoch(source, report.step_microbatches, console)


def _print_epoch(source: SourceShare, step: int, console: Console) -> None:
    about = "" if source.weight == 1 else "about "
    steps = f"{about}{max(1, round(source.epoch_steps))} x {step}"
    text = f"an epoch: {source.microbatches} microbatches, steps: {steps}"
    text += f"; repeats of weight 0: {source.repeat_share:.2%} of the tokens"
    if source.imbalance is not None:
        text += f"; fullest bucket : emptiest = {source.imbalance:.3g}"
    if source.seen_share is not None:
        text += f"; {source.seen_share:.0%} of the clips' time is shown"
    console.print(text)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, the first column to the left, the others to the right; never cut off."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _cells(bucket: BucketShare) -> tuple[str, ...]:
    seen = scale = ""
    if bucket.seen_hours is not None and bucket.hours:
        seen = f"{bucket.seen_hours / bucket.hours:.0%}"
    if bucket.scale_min is not None and bucket.scale_max is not None:
        low, high = f"{bucket.scale_min:.2f}", f"{bucket.scale_max:.2f}"
        scale = low if low == high else f"{low}-{high}"
    return (
        bucket.name,
        str(bucket.clips),
        f"{bucket.share:.1%}",
        _hours(bucket.hours),
        seen,
        str(bucket.samples),
        str(bucket.sample_tokens),
        str(bucket.microbatch_tokens),
        f"{bucket.below_dearest:.1%}",
        str(bucket.microbatches),
        "" if bucket.crop_mean is None else f"{bucket.crop_mean:.1%}",
        scale,
    )


def _print_dropped(dropped: Dropped, console: Console) -> None:
    console.print(
        f"[red]dropped, {dropped.reason}[/] ({SAID[dropped.reason]}): {dropped.clips} clips, "
        f"{_hours(dropped.hours)}"
    )
    for shape in dropped.shapes:
        size = f"{shape['height_px']}x{shape['width_px']} at {shape['fps']:g} per second"
        span = f"{shape['shortest_s']:.2f} to {shape['longest_s']:.2f} s"
        console.print(f"  {shape['clips']} of {size}, {span}", highlight=False)


def _hours(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.1f} min" if hours * 60 >= 1 else f"{hours * 3600:.1f} s"


def buckets_yaml(settings: BucketSettings, clips: Mapping[str, int] | None = None) -> str:
    """A buckets file: what ``--buckets`` reads.

    Args:
        settings: With shapes.
        clips: Clips by bucket, told in the comments.
    """
    rest = settings.model_dump(mode="json", exclude={"shapes"})
    lines = ["# Training buckets; `clipmill plan OUT --buckets FILE` tells what falls where."]
    lines += [f"{key}: {_flow(value)}" for key, value in rest.items()]
    lines.append("shapes:")
    named = {(b.frames, b.height_px, b.width_px, b.fps): b for b in settings.buckets()}
    for shape in settings.shapes:
        bucket = named[shape.frames, shape.height_px, shape.width_px, shape.fps]
        note = f"{bucket.samples} x {bucket.tokens} tokens"
        if clips is not None:
            note += f", {clips.get(bucket.name, 0)} clips"
        lines.append(f"  - {_flow(shape.model_dump(mode='json', exclude_none=True))}  # {note}")
    return "\n".join(lines) + "\n"


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.strip().removesuffix("...").strip()
