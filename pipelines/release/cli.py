"""``clipmill release``: freeze a dataset, list what was frozen, check it, let it go."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from curation.errors import ConfigError


def release(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")],
    tag: Annotated[str, typer.Option("--tag", help="Name of the new release: v1.")] = "",
    note: Annotated[str, typer.Option("--note", help="What to say of it in the card.")] = "",
    show: Annotated[bool, typer.Option("--list", help="Show the releases there are.")] = False,
    check: Annotated[
        str, typer.Option("--check", metavar="TAG", help="Compare all files with their checksums.")
    ] = "",
    delete: Annotated[
        str, typer.Option("--delete", metavar="TAG", help="Remove a release whole.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before deleting.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Freeze shards, tables, card and Croissant as OUT/releases/TAG; later runs never touch it."""
    chosen = [bool(tag), show, bool(check), bool(delete)]
    if sum(chosen) != 1:
        raise ConfigError(
            "say one of --tag, --list, --check, --delete", mend="clipmill release data --tag v1"
        )
    if tag:
        _make(out, tag, note, as_json)
    elif show:
        _list(out, as_json)
    elif check:
        _check(out, check, as_json)
    else:
        _delete(out, delete, yes=yes, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog='Examples: [bold]clipmill release data --tag v1 --note "first try"[/]; '
        "[bold]clipmill release data --list[/]; [bold]clipmill release data --check v1[/]"
    )(release)


def _make(out: str, tag: str, note: str, as_json: bool) -> None:
    from pipelines.progress import byte_progress
    from pipelines.release.freeze import make_release

    with byte_progress("verifying", quiet=as_json) as advance:
        made = make_release(out, tag, note, on_bytes=advance)
    counts = made["counts"]
    wanted = ("tag", "state", "revision", "created_at", "note", "counts", "croissant")
    if as_json:
        _print({k: made[k] for k in wanted} | {"folder": f"releases/{tag}"})
        return
    typer.echo(
        f"{tag}: {counts['clips']} clips, {counts['seconds']:.0f} s, in {counts['shards']} shards; "
        f"Croissant {made['croissant']}\n{out.rstrip('/')}/releases/{tag}/dataset_card.md"
    )


def _list(out: str, as_json: bool) -> None:
    from pipelines.release.freeze import list_releases

    found = list_releases(out)
    if as_json:
        _print({"releases": found})
        return
    table = Table()
    for name in ("tag", "state", "revision", "made", "clips", "seconds", "note"):
        table.add_column(name, overflow="fold")
    for one in found:
        counts = one["counts"] or {}
        cells = (one["tag"], one["state"], one["revision"], one["created_at"])
        more = (counts.get("clips", 0), f"{counts.get('seconds', 0):.0f}", one["note"] or "")
        table.add_row(*(escape(str(c)) for c in (*cells, *more)))
    Console().print(table if found else "no releases yet")


def _check(out: str, tag: str, as_json: bool) -> None:
    from pipelines.progress import byte_progress
    from pipelines.release.checking import check_release

    with byte_progress("reading", quiet=as_json) as advance:
        found = check_release(out, tag, advance)
    if as_json:
        _print(asdict(found) | {"ok": not found.problems})
    else:
        console = Console(highlight=False)
        console.print(f"{found.num_files} files, {found.num_bytes} bytes looked at")
        for problem in found.problems:
            console.print(f"[red]{escape(problem)}[/]")
        console.print("[red]not well[/]" if found.problems else "[green]all is well[/]")
    raise typer.Exit(1 if found.problems else 0)


def _delete(out: str, tag: str, *, yes: bool, as_json: bool) -> None:
    from pipelines.release.freeze import delete_release

    if not yes:
        typer.confirm(f"Delete release {tag} of {out}?", abort=True)
    delete_release(out, tag)
    if as_json:
        _print({"deleted": tag})
    else:
        typer.echo(f"release {tag} is gone")


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))
