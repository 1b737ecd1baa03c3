"""``clipmill export``: clips of the catalog for other tools, or the weights of a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from curation.catalog.catalog import Catalog
from pipelines.export.choice import KEPT, Choice


class Form(StrEnum):
    """What an export is."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    FIFTYONE = "fiftyone"
    HF = "hf"
    WEIGHTS = "weights"


class Media(StrEnum):
    """Where FiftyOne finds the videos."""

    PATH = "path"
    LINK = "link"


class Kind(StrEnum):
    """Which weights of a training."""

    EMA = "ema"
    MODEL = "model"


def export(
    out: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="Dataset root (path or URL); of weights: a run or checkpoint."
        ),
    ],
    form: Annotated[Form, typer.Option("--format", "-f", help="What to write.")],
    to: Annotated[str, typer.Option("--to", help="File (jsonl) or folder that is to appear.")],
    where: Annotated[str, typer.Option("--where", help="SQL condition on the view clips.")] = KEPT,
    columns: Annotated[
        str, typer.Option("--columns", help="Columns of the view clips, with commas; all.")
    ] = "",
    media: Annotated[
        Media, typer.Option("--media", help="fiftyone: name the files' paths, or link them.")
    ] = Media.PATH,
    weights: Annotated[
        Kind | None, typer.Option("--weights", help="weights: the average, or the last step's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Write clips as Parquet, lines of JSON, a FiftyOne dataset, or a Hugging Face dataset.

    Or a trained denoiser as safetensors that plain PyTorch loads.
    """
    if form is Form.WEIGHTS:
        _export_weights(out, to, weights, as_json)
        return
    from pipelines.export.choice import choose
    from pipelines.export.target import appearing
    from pipelines.progress import count_progress

    catalog = Catalog.open(out)
    named = [c.strip() for c in columns.split(",") if c.strip()]
    with appearing(to) as beside, count_progress("clips", quiet=as_json) as advance:
        chosen = choose(catalog, where, named)
        count = _writer(catalog, form, media)(chosen, beside, advance)
    left = chosen.num_clips - count
    if as_json:
        told = {"format": form.value, "to": to, "clips": count, "without_media": left}
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        note = f" ({left} clips without media are left out)" if left else ""
        typer.echo(f"{count} clips as {form.value}: {to}{note}")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill export data --format parquet --to clips[/]; "
        "[bold]clipmill export data -f jsonl --to rejected.jsonl --where \"verdict = 'rejected'\" "
        "--columns clip_id,reasons[/]; [bold]clipmill export data -f fiftyone --to fo[/]; "
        "[bold]clipmill export runs/mine -f weights --to model[/]"
    )(export)


def _export_weights(run: str, to: str, weights: Kind | None, as_json: bool) -> None:
    from pipelines.export.weights import write_weights

    told = write_weights(run, to, weights.value if weights else None)
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo(
            f"{told['parameters'] / 1e6:.1f} M weights of {told['steps']} steps: {to}; "
            f"`clipmill sample {to} --prompt ... --out FILE.mp4`"
        )


def _writer(
    catalog: Catalog, form: Form, media: Media
) -> Callable[[Choice, Path, Callable[[int], None]], int]:
    """The function that writes a form; only its own libraries are loaded."""
    if form is Form.FIFTYONE:
        from pipelines.export.fiftyone import write_fiftyone

        name = Path(catalog.storage.url.rstrip("/")).name or "clipmill"
        link = media is Media.LINK
        return lambda c, p, a: write_fiftyone(catalog, c, p, a, link=link, name=name)
    if form is Form.HF:
        from pipelines.config import CurateConfig
        from pipelines.export.hub import write_hub
        from pipelines.redo import stored_config

        settings = CurateConfig.model_validate(stored_config(catalog)).shard
        return lambda c, p, a: write_hub(catalog, c, settings, p, a)
    from pipelines.export.files import write_jsonl, write_parquet

    return write_parquet if form is Form.PARQUET else write_jsonl
