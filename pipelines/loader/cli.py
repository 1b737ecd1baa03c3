"""``clipmill plan``, ``order``, ``inspect`` and ``loader-bench``: what a training would read."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.console import Console

Root = Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Buckets = Annotated[
    str | None,
    typer.Option(
        "--buckets",
        "-b",
        help="YAML of buckets or of a training's data, or preset: laptop, 256px. Without: proposed "
        "from the clips.",
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. max_crop=0.3 order.seed=1"),
]

PROPOSE = "propose"


def plan(
    out: Root,
    settings: Keys = None,
    buckets: Buckets = None,
    propose: Annotated[
        bool, typer.Option("--propose", help="Propose buckets from the clips; print them as YAML.")
    ] = False,
    write: Annotated[
        str | None, typer.Option("--write", metavar="FILE", help="Save the buckets as a file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell before training which clips fall in which bucket, and what is cropped and dropped."""
    from pipelines.files import write_text
    from pipelines.loader.plan import make_plan
    from pipelines.loader.show import buckets_yaml, print_plan
    from training.data.settings_file import read_settings

    report = make_plan(out, read_settings(buckets, settings or []), repropose=propose)
    clips: dict[str, int] = {}
    for bucket in (b for source in report.sources for b in source.buckets):
        clips[bucket.name] = clips.get(bucket.name, 0) + bucket.clips
    text = buckets_yaml(report.settings.buckets, clips)
    if write is not None:
        write_text(write, text)
    if as_json:
        typer.echo(json.dumps(report.as_dict() | {"buckets_file": write}, ensure_ascii=False))
    elif propose and write is None:
        typer.echo(text, nl=False)
    else:
        print_plan(report, Console(highlight=False, soft_wrap=True))
        if write is not None:
            typer.echo(f"buckets: {write}")
    raise typer.Exit(0 if report.balanced and report.trainable else 1)


def order(
    out: Root,
    settings: Keys = None,
    steps: Annotated[
        str, typer.Option("--steps", metavar="A:B", help="From A up to B, without B; or one step.")
    ] = "0",
    world: Annotated[int, typer.Option("--world", min=1, help="Ranks that share a step.")] = 1,
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, help="Only what this rank computes.")
    ] = None,
    buckets: Buckets = None,
    as_json: Json = False,
) -> None:
    """List which clips make up which step of a training, for every rank."""
    from pipelines.loader.order import parse_steps, planned_lines, write_json, write_table
    from training.data.plan import open_plan
    from training.data.settings_file import read_settings

    wanted = parse_steps(steps)
    planned = open_plan(
        read_settings(buckets, settings or []), out, world_size=world, rank=rank or 0
    )
    lines = planned_lines(planned, wanted, world_size=world, rank=rank)
    try:
        (write_json if as_json else write_table)(lines, sys.stdout.write)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_pipe()


def inspect(
    out: Root,
    settings: Keys = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most samples shown.")] = 12,
    split: Annotated[str | None, typer.Option(help="Only of this split.")] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            help="Only of this stored bucket (48x720x1280); with --buckets of this training "
            "bucket (17x256x256@8)."
        ),
    ] = None,
    buckets: Annotated[
        str | None,
        typer.Option(
            "--buckets",
            "-b",
            help="Show frames as the loader delivers them into the buckets of this YAML or preset; "
            "propose: into proposed ones.",
        ),
    ] = None,
    epoch: Annotated[int, typer.Option(min=0, help="With --buckets: which epoch's draws.")] = 0,
    png: Annotated[str, typer.Option("--png", help="File to write.")] = "inspect.png",
    as_json: Json = False,
) -> None:
    """Draw samples of the shards: frames over time beside captions, scores and origin."""
    from pipelines.files import write_bytes
    from pipelines.loader.frames import as_loaded, stored_frames
    from pipelines.loader.look import choose, looked_at
    from pipelines.loader.look_sheet import draw_sheet
    from pipelines.progress import count_progress
    from training.data.settings_file import read_settings

    read = None
    if buckets is not None or settings:
        read = read_settings(None if buckets == PROPOSE else buckets, settings or [])
    chosen = choose(out, limit=limit, split=split, bucket=bucket, settings=read)
    shown = []
    with count_progress("samples read", quiet=as_json) as progress:
        for one in looked_at(chosen, stored_frames if read is None else as_loaded(read, epoch)):
            shown.append(one)
            progress(len(shown))
    how = "as stored" if read is None else "as the loader delivers them"
    told = f"{len(shown)} of {chosen.num_fitting} samples, {how}"
    write_bytes(png, draw_sheet(f"Shards of {out.rstrip('/')}", told, shown))
    failed = sum(one.error is not None for one in shown)
    if as_json:
        samples = [one.as_dict() for one in shown]
        found = {"png": png, "num_fitting": chosen.num_fitting, "samples": samples}
        typer.echo(json.dumps(found, ensure_ascii=False))
    else:
        typer.echo(f"{told}: {png}" + (f"; {failed} do not decode" if failed else ""))
    raise typer.Exit(1 if failed else 0)


def loader_bench(
    out: Root,
    settings: Keys = None,
    buckets: Buckets = None,
    workers: Annotated[str, typer.Option(help="Numbers of workers to try.")] = "0,1,2",
    kinds: Annotated[str, typer.Option(help="Kinds of workers to try.")] = "thread,process",
    seconds: Annotated[float, typer.Option(min=0.1, help="For each variant.")] = 10.0,
    step_ms: Annotated[
        float, typer.Option(min=0, help="Time a training takes for a microbatch: it is slept.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Measure the loader on these shards and this machine, and say which setting is best here."""
    from dataclasses import asdict

    from pipelines.loader.bench import best_of, measure, parse_variants
    from pipelines.loader.bench_show import bench_progress, print_bench
    from training.data.settings_file import read_settings

    variants = parse_variants(workers, kinds)
    read = read_settings(buckets, settings or [])
    with bench_progress(seconds * len(variants), quiet=as_json) as advance:
        measured = list(
            measure(out, read, variants, seconds=seconds, step_s=step_ms / 1000, advance=advance)
        )
    if as_json:
        found = {"variants": [asdict(m) for m in measured], "best": asdict(best_of(measured))}
        typer.echo(json.dumps(found | {"step_ms": step_ms}))
    else:
        print_bench(measured, step_ms / 1000, Console(highlight=False, soft_wrap=True))


def _close_pipe() -> None:
    """The reader (``head``, say) has what it wanted: end without a complaint at exit."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill plan data --buckets laptop[/]; "
        "[bold]clipmill plan data --propose microbatch_tokens=16384 --write buckets.yaml[/]; "
        "[bold]clipmill plan data -b buckets.yaml max_crop=0.2 order.microbatches=8[/]"
    )(plan)
    app.command(
        epilog="Example: [bold]clipmill order data -b laptop --steps 0:10 --world 4 --rank 1 "
        "--json[/]"
    )(order)
    app.command(
        epilog="Examples: [bold]clipmill inspect data --png samples.png[/]; "
        "[bold]clipmill inspect data --buckets laptop --bucket 17x64x112@8[/]"
    )(inspect)
    app.command(
        name="loader-bench",
        epilog="Example: [bold]clipmill loader-bench data -b laptop --workers 0,2,4[/]",
    )(loader_bench)
