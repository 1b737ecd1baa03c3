"""What commands print for people: the funnel, tables, shots, the effective config."""

from __future__ import annotations

import csv
import io
from typing import Any

import pyarrow as pa
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.catalog.account import Account
from curation.stages.signals import NO_TRANSNET
from pipelines.config import CurateConfig
from pipelines.run_report import RunReport

MAX_ROWS = 200
CELL_CHARS = 60


def config_yaml(config: CurateConfig) -> str:
    """The whole effective configuration as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def print_run(report: RunReport, console: Console) -> None:
    """The summary at the end of a run: work by stage, then the root's account."""
    title = f"run {report.run_id} ({report.engine})"
    # Without lines between the columns all of them fit a terminal of 80 characters.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("stage", no_wrap=True)
    for name in ("videos", "reused", "rows", "failed", "work s", "share", "clips/s", "video s/s"):
        table.add_column(name, justify="right")
    costs = report.economics()
    for name, count in report.stages.items():
        cost = costs[name]
        table.add_row(
            name,
            str(count["videos_run"]),
            str(count["videos_reused"]),
            str(count["rows"]),
            str(count["failed"]),
            f"{count['busy_s']:.1f}",
            f"{cost.share:.0%}",
            "" if cost.clips_per_s is None else f"{cost.clips_per_s:.1f}",
            "" if cost.video_s_per_s is None else f"{cost.video_s_per_s:.1f}",
        )
    console.print(table)
    if report.interrupted:
        console.print(f"{len(report.interrupted)} videos were in work when the last run was ended")
    if report.recovered_parts:
        console.print(f"{report.recovered_parts} finished parts of the last run were taken over")
    long = report.long_videos
    if long.get("videos") or long.get("shares"):
        console.print(
            f"{long.get('videos', 0)} long videos in {long.get('parts', 0)} parts "
            f"({long.get('reused', 0)} reused, {long.get('passed_whole', 0)} videos passed over "
            f"whole), {long.get('shares', 0)} shares of clips"
        )
    for text in report.fallbacks:
        console.print(f"[bold yellow]fallback:[/] {escape(text)}", soft_wrap=True)
    for text in [report.distrusted, *report.gate.get("problems", [])]:
        if text:
            console.print(f"[bold red]captions:[/] {escape(text)}", soft_wrap=True)
    print_account(report.account, console)
    if report.shards is not None:
        left = report.shards.num_shards - report.shards.num_written
        note = f", {report.shards.num_written} written, {left} left as they were"
        note = ", unchanged" if report.shards.reused else note
        console.print(
            f"{report.shards.num_samples} samples in {report.shards.num_shards} shards, "
            f"{report.shards.num_bytes / 2**20:.1f} MiB{note}"
        )
    first = f"{report.first_video_s:.1f} s" if report.first_video_s is not None else "-"
    console.print(
        f"{report.wall_s:.1f} s in all; first video after {first}; "
        f"Ray's start {report.engine_start_s:.1f} s; {report.video_s:.1f} s of video decoded"
    )
    console.print(f"dataset: {escape(report.root)}", soft_wrap=True)
    page = report.page if "://" in report.page else f"file://{report.page}"
    console.print(f"[bold]page:[/] {escape(page)}", soft_wrap=True)


def print_account(account: Account, console: Console) -> None:
    """The funnel of a dataset root."""
    table = Table(title="account", title_justify="left")
    for name in ("", "total", "done / kept", "rejected", "failed"):
        table.add_column(name, justify="left" if not name else "right")
    videos, clips, seconds = account.videos, account.clips, account.seconds
    table.add_row("videos", str(videos["total"]), str(videos["done"]), "", str(videos["failed"]))
    if clips:
        keys = ("total", "kept", "rejected", "failed")
        table.add_row("clips", *(str(clips[k]) for k in keys))
        table.add_row("seconds", *(f"{seconds[k]:.1f}" for k in keys))
    console.print(table)
    if removed := videos.get("removed"):
        console.print(f"{removed} videos were removed on request")
    _print_counts("clips rejected for", account.rejected_by_reason, console)
    _print_counts("seconds that became no clip", account.seconds_by_reason, console)
    _print_counts("errors", account.errors_by_code, console)
    if seconds.get("unknown_videos"):
        console.print(f"{seconds['unknown_videos']:.0f} failed videos have no known length")
    if account.balanced:
        console.print("[green]balanced[/]: everything that came in is accounted for")
    for text in account.imbalances:
        console.print(f"[bold red]not balanced[/]: {text}")


def _print_counts(title: str, counts: dict[str, Any], console: Console) -> None:
    if counts:
        parts = ", ".join(f"{escape(str(k))} {v}" for k, v in counts.items())
        console.print(f"{title}: {parts}", highlight=False)


def print_shots(found: dict[str, Any], console: Console) -> None:
    """Shots and transitions of one video."""
    table = Table(title=escape(found["video"]), title_justify="left")
    for name in ("shot", "frames", "seconds"):
        table.add_column(name, justify="right")
    for i, s in enumerate(found["shots"]):
        table.add_row(str(i), *_span(s))
    console.print(table)
    if found["transitions"]:
        table = Table(title="transitions", title_justify="left")
        for name in ("kind", "frames", "seconds", "confidence"):
            table.add_column(name, justify="left" if name == "kind" else "right")
        for t in found["transitions"]:
            table.add_row(t["kind"], *_span(t), f"{t['confidence']:.2f}")
        console.print(table)
    if found["transnet"] == "missing":
        console.print(f"[bold yellow]fallback:[/] {escape(NO_TRANSNET)}", soft_wrap=True)
    for path in found.get("plots", []):
        console.print(f"[bold]strip:[/] {escape(path)}", soft_wrap=True)


def _span(row: dict[str, Any]) -> tuple[str, str]:
    """Frames and seconds of a half-open span."""
    frames = f"{row['start_frame']}-{row['end_frame']}"
    return frames, f"{row['start_s']:.3f}-{row['end_s']:.3f}"


def print_table(table: pa.Table, console: Console) -> None:
    """The first rows of a query's answer."""
    grid = Table()
    for name in table.column_names:
        grid.add_column(escape(name))
    for row in table.slice(0, MAX_ROWS).to_pylist():
        grid.add_row(*(escape(_cell(v)) for v in row.values()))
    console.print(grid)
    if table.num_rows > MAX_ROWS:
        console.print(f"{table.num_rows} rows, {MAX_ROWS} shown: use --json or --csv for all")


def as_csv(table: pa.Table) -> str:
    """A query's answer as CSV with a header; lists joined by semicolons."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow(
            ";".join(map(str, v)) if isinstance(v, list) else ("" if v is None else v)
            for v in row.values()
        )
    return out.getvalue()


def _cell(value: Any) -> str:  # noqa: ANN401 - any SQL value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    text = "" if value is None else str(value)
    return text if len(text) <= CELL_CHARS else text[: CELL_CHARS - 1] + "…"
