"""``clipmill models``: which weights there are, where they lie, and how they get here."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.errors import ConfigError
from curation.models.pull import Finding, look_up, pull
from curation.models.registry import MODELS_DIR_VARIABLE, how_to_get, models_folder
from curation.models.weights import KNOWN, Weights

app = typer.Typer(
    no_args_is_help=True,
    help="Weights of the models: list, fetch, check, locate.",
    epilog=f"Without internet: fill one folder elsewhere and name it in {MODELS_DIR_VARIABLE}.",
)
Keys = Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Which; see list.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command("list", epilog="Example: [bold]clipmill models list --json[/]")
def list_models(as_json: Json = False) -> None:
    """All weights that Clipmill knows, with licence and place."""
    found = [look_up(w, check=False) for w in KNOWN.values()]
    _show(found, as_json)


@app.command(epilog="Example: [bold]clipmill models verify[/] (all that are here)")
def verify(keys: Keys = None, as_json: Json = False) -> None:
    """Read the files and compare their sha256; exit code 1 when one is not what it should be."""
    found = [look_up(w, check=True) for w in _chosen(keys)]
    if keys is None:
        found = [f for f in found if f.state != "missing"]
    _show(found, as_json)
    bad = [f for f in found if f.state in ("changed", "missing")]
    raise typer.Exit(1 if bad else 0)


@app.command(epilog="Example: [bold]clipmill models where transnet-v2[/]")
def where(keys: Keys = None) -> None:
    """Print paths; without KEY the models folder."""
    if not keys:
        typer.echo(str(models_folder()))
        return
    found = [look_up(w, check=False) for w in _chosen(keys)]
    for one in found:
        typer.echo(str(one.path) if one.path else f"missing: {how_to_get(one.weights)}")
    raise typer.Exit(1 if any(f.path is None for f in found) else 0)


@app.command("pull", epilog="Example: [bold]clipmill models pull clip-vit-l-14 yunet[/]")
def pull_models(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Which; see list.")],
    agree: Annotated[
        bool, typer.Option("--accept-agpl", help="Fetch weights under the AGPL as well.")
    ] = False,
) -> None:
    """Fetch weights into the models folder and check them."""
    from pipelines.progress import byte_progress

    chosen = _chosen(keys)
    for weights in chosen:
        if weights.licence.startswith("AGPL") and not agree:
            raise ConfigError(
                f"{weights.name} is under {weights.licence}, which reaches what is built with it",
                mend="add --accept-agpl if that suits you",
            )
    for weights in chosen:
        with byte_progress(weights.key, quiet=False) as advance:
            path = pull(weights, advance)
        typer.echo(f"{weights.key}: {path}")


def _chosen(keys: list[str] | None) -> list[Weights]:
    """The named weights, or all."""
    if not keys:
        return list(KNOWN.values())
    for key in keys:
        if key not in KNOWN:
            near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"one of: {', '.join(KNOWN)}"
            raise ConfigError(f"no weights are called {key!r}", mend=hint)
    return [KNOWN[key] for key in keys]


def _show(found: list[Finding], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_as_dict(f) for f in found], ensure_ascii=False))
        return
    table = Table()
    for name in ("key", "for", "licence", "state", "where"):
        table.add_column(name, overflow="fold")
    for f in found:
        w = f.weights
        place = _place(f)
        cells = (w.key, w.purpose, w.licence, f.state, place)
        table.add_row(*(escape(cell) for cell in cells))
    console = Console()
    console.print(table)
    console.print(f"models folder: {models_folder()}", highlight=False)


def _place(found: Finding) -> str:
    """Where weights are, or how they get here, in few words."""
    if found.path is None:
        return how_to_get(found.weights)
    if found.path.parent == models_folder():
        return "models folder"
    return f"package {found.weights.package}"


def _as_dict(f: Finding) -> dict[str, Any]:
    w = f.weights
    size = w.size_bytes or (f.path.stat().st_size if f.path else None)
    return {
        "key": w.key,
        "name": w.name,
        "purpose": w.purpose,
        "file": w.file,
        "licence": w.licence,
        "source": w.source,
        "revision": w.revision if w.hub else None,
        "devices": w.devices,
        "state": f.state,
        "path": str(f.path) if f.path else None,
        "expected_sha256": w.sha256,
        "sha256": f.sha256,
        "size_bytes": size,
        "get": None if f.path else how_to_get(w),
    }
