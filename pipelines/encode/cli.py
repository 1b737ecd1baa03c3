"""``clipmill encode``: latents and text states beside the shards."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

from curation.errors import ConfigError


def encode(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="window=start, batch_size=8, max_tokens=128, tiling=true, num_workers=4, "
            "decode_threads=2, vae_dtype=..., text_dtype=..., and settings of the buckets "
            "(max_crop=0.3, read.scaling=area).",
        ),
    ] = None,
    buckets: Annotated[
        str | None,
        typer.Option(
            "--buckets",
            "-b",
            help="YAML of buckets or of a training's data, or preset: laptop, 256px.",
        ),
    ] = None,
    vae: Annotated[
        str, typer.Option(help="clipmill-small, taef2, a folder or a hub id; none: texts alone.")
    ] = "clipmill-small",
    text_encoder: Annotated[
        str, typer.Option(help="minilm, or T5, UMT5, CLIP by folder or hub id; none: clips alone.")
    ] = "minilm",
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Precision of both networks: float32 (default), bfloat16, float16."),
    ] = None,
    windows: Annotated[
        int | None, typer.Option(help="Most windows of a clip, evenly spread. Default: 1.")
    ] = None,
    engine: Annotated[str, typer.Option(help="ray (default) or inline (this process).")] = "ray",
    address: Annotated[
        str | None, typer.Option(help="Existing Ray cluster: auto or ray://host:port.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Encode clips again that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be encoded; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Encode every sample once, for trainings that read latents instead of pixels.

    Into OUT/latents/FINGERPRINT, tar beside tar; no shard changes. Run the same command again to go
    on after a kill, or when samples came or changed: only their shards are encoded.
    """
    from pipelines.encode.job import encode as run
    from pipelines.encode.settings import read_encode_settings
    from pipelines.encode.show import print_report

    options: dict[str, Any] = {
        "vae": vae,
        "text_encoder": text_encoder,
        "device": device,
        "vae_dtype": dtype,
        "text_dtype": dtype,
        "windows": windows,
    }
    chosen, data = read_encode_settings(buckets, settings or [], options)
    if engine not in ("ray", "inline"):
        raise ConfigError(f"no engine {engine!r}", where="--engine", mend="ray or inline")
    report = run(
        out,
        chosen,
        data,
        engine="inline" if engine == "inline" else "ray",
        address=address,
        retry_failed=retry_failed,
        dry_run=dry_run,
        quiet=quiet or as_json,
    )
    if as_json:
        typer.echo(json.dumps(report.as_dict(), ensure_ascii=False))
    else:
        print_report(report, Console(highlight=False, soft_wrap=True))
    raise typer.Exit(0 if report.ok else 1)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill encode data --buckets laptop[/]; "
        "[bold]clipmill encode data -b buckets.yaml --vae ./wan#vae --text-encoder ./umt5 "
        "--device cuda --dtype bfloat16 --windows 4[/]; "
        "[bold]clipmill encode data --vae none --text-encoder minilm --engine inline[/]"
    )(encode)
