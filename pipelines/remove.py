"""``clipmill remove``: take videos or clips out of a dataset for good, and prove it.

What goes is written down first and carried out then (``curation/removal/carry_out.py``). Every run
has to call :func:`finish_removing` before it looks for work: it goes on with a removal that was cut
short, and costs one look for a file when there is none.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from curation.catalog.catalog import Catalog
from curation.catalog.commit import Committer
from curation.catalog.lease import Lease
from curation.catalog.views import Views
from curation.errors import CatalogError, ConfigError
from curation.removal.carry_out import Removed, Surroundings, begin, carry_out
from curation.removal.choose import Selection, choose
from curation.removal.proof import Proof
from curation.removal.removal import Removal, read_note
from curation.shards.writer import ShardSettings
from curation.storage import Storage
from pipelines.forget import finish_forgetting
from pipelines.progress import byte_progress
from pipelines.report.page import write_page
from pipelines.run_report import new_run_id

RELEASE_MODULE = "pipelines.release"
"""Has ``rebuild(out, tag, removed_clip_ids, removed_video_ids, reason)`` and
``withdraw(out, tag, reason)``."""
MAX_NAMED = 10
OK, FOUND = 0, 1


def remove(
    out: str, selection: Selection, reason: str, *, withdraw: bool = False, quiet: bool = True
) -> Removed:
    """Take videos or clips out of a dataset, and whatever was made of them.

    Args:
        out: The dataset root.
        selection: What is named.
        reason: Why; it is kept with the tombstones.
        withdraw: Withdraw the releases concerned instead of rebuilding them.
        quiet: No progress on stderr.

    Returns:
        What went, and what the proof found; ``proof.found`` is empty when all is well.

    Raises:
        ConfigError: Nothing is named, or no reason is given.
        CatalogError: What is named is unknown, or another run holds the root.
    """
    storage, catalog = Storage(out), Catalog.open(out)
    run_id = new_run_id()
    with Lease(storage, run_id), _told(quiet, out) as around:
        finish_forgetting(catalog)
        finished = carry_out(catalog, around)
        if finished is not None and finished.removal.asked == selection.as_dict():
            _write_page(catalog)
            return finished  # this very removal was cut short
        # Finished work that waits to be committed would come back behind our back.
        Committer(catalog).recover()
        removal = _chosen(catalog, selection, reason, run_id, withdraw)
        begin(catalog, removal, around)
        removed = carry_out(catalog, around)
        _write_page(catalog)
    assert removed is not None
    return removed


def plan_removal(out: str, selection: Selection, reason: str, *, withdraw: bool = False) -> Removal:
    """What would go; nothing is changed.

    Raises:
        ConfigError: Nothing is named, or no reason is given.
        CatalogError: What is named is unknown.
    """
    return _chosen(Catalog.open(out), selection, reason, new_run_id(), withdraw)


def finish_removing(catalog: Catalog, *, quiet: bool = True) -> Removed | None:
    """Go on with a removal that was cut short; harmless when there is none.

    The caller holds the lease.

    Raises:
        CatalogError: The proof found something: what was removed is still here.
    """
    with _told(quiet, catalog.storage.url) as around:
        removed = carry_out(catalog, around)
    if removed is not None and removed.proof.found:
        raise CatalogError(
            f"a removal that was cut short was finished, but {removed.proof.found[0]}",
            where=catalog.storage.url,
            mend="delete that, then see `clipmill verify OUT`",
        )
    return removed


def _finish(out: str, *, quiet: bool) -> None:
    """Finish another removal, before this one is planned."""
    with Lease(Storage(out), new_run_id()):
        finish_removing(Catalog.open(out), quiet=quiet)


def _chosen(
    catalog: Catalog, selection: Selection, reason: str, run_id: str, withdraw: bool
) -> Removal:
    from pipelines.config import load_config
    from pipelines.redo import stored_config

    settings: ShardSettings = load_config(None, None, base=stored_config(catalog)).shard
    removal = choose(
        catalog, selection, run_id=run_id, reason=reason, settings=settings, withdraw=withdraw
    )
    if removal.releases:
        _release_module(removal.releases[0])  # refuse before anything is done
    return removal


@contextmanager
def _told(quiet: bool, out: str) -> Iterator[Surroundings]:
    """Progress: the step in words, and bytes read."""

    def release(removal: Removal, tag: str) -> None:
        room = _release_module(tag)
        if removal.withdraw:
            room.withdraw(out, tag, removal.reason)
        else:
            room.rebuild(out, tag, removal.clips, removal.videos, removal.reason)

    with byte_progress("reading", quiet=quiet) as advance:
        console = Console(stderr=True, quiet=quiet)
        yield Surroundings(
            on_step=lambda title: console.print(f"[dim]{escape(title)}[/]"),
            on_bytes=advance,
            release=release,
        )


def _release_module(tag: str) -> Any:  # noqa: ANN401 - a module
    """The module that makes releases.

    Raises:
        CatalogError: This install has none.
    """
    try:
        return importlib.import_module(RELEASE_MODULE)
    except ImportError as exc:
        raise CatalogError(
            "holds some of it, and this install cannot change releases",
            where=f"release {tag!r}",
            mend="delete the folder of the release first",
        ) from exc


def _write_page(catalog: Catalog) -> None:
    """The run's page anew: the old one showed pictures, and went."""
    finished = "SELECT count(*) AS n FROM runs WHERE event = 'finished' AND report IS NOT NULL"
    if Views(catalog).query(finished).column("n")[0].as_py():
        write_page(catalog)


def command(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")],
    video: Annotated[
        list[str] | None, typer.Option("--video", help="Id of a video; its first digits will do.")
    ] = None,
    clip: Annotated[
        list[str] | None, typer.Option("--clip", help="Id of a clip; its first digits will do.")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option("--source", help="URI of a source: its whole video.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="SQL condition over the view clips.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept with the tombstones.")] = "",
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="Also clips that show the same.")
    ] = False,
    withdraw_releases: Annotated[
        bool, typer.Option("--withdraw-releases", help="Withdraw releases, do not rebuild them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Take videos or clips out for good, and prove it.

    Rows, files, shards, releases and old versions go. Nothing of it comes back, and afterwards
    every byte of the dataset is searched for it.
    """
    selection = Selection(
        videos=video or (),
        clips=clip or (),
        sources=source or (),
        where=where,
        with_duplicates=duplicates,
    )
    if as_json and not (yes or dry_run):
        raise ConfigError("cannot ask", where="--json", mend="add --yes or --dry-run")
    console = Console()
    note = read_note(Storage(out))
    if note is not None:
        # What is half gone cannot be planned again, and was agreed to.
        yes = yes or (note.asked == selection.as_dict() and not dry_run)
        Console(stderr=True).print("a removal was cut short: [yellow]it is finished first[/]")
        if not dry_run and not yes:
            _finish(out, quiet=as_json)
    if dry_run or not yes:
        planned = plan_removal(out, selection, reason, withdraw=withdraw_releases)
        if as_json:
            typer.echo(json.dumps(planned.summary() | {"dry_run": True}, ensure_ascii=False))
        else:
            print_plan(planned, console)
        if dry_run:
            return
        typer.confirm("Remove this for good?", abort=True)
    removed = remove(out, selection, reason, withdraw=withdraw_releases, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(removed.as_dict(), ensure_ascii=False))
    else:
        print_removed(removed, console)
    raise typer.Exit(FOUND if removed.proof.found else OK)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        name="remove",
        epilog='Examples: [bold]clipmill remove data --source films/a.mp4 --reason "takedown"[/]; '
        "[bold]clipmill remove data --clip 3fa9 --reason consent --dry-run[/]; "
        "[bold]clipmill remove data --where \"license = 'unknown'\" --reason rights --yes[/]",
    )(command)


def print_plan(removal: Removal, console: Console) -> None:
    """What would go, and what would stay."""
    for line in plan_lines(removal):
        console.print(escape(line), highlight=False, soft_wrap=True)


def plan_lines(removal: Removal) -> Iterator[str]:
    """The plan in sentences."""
    videos, clips = _many(len(removal.videos), "video"), _many(len(removal.clips), "clip")
    yield f"{videos}, {clips}, {removal.seconds:.1f} s ({removal.seconds / 3600:.3f} h) go"
    for name, ids in (("video", removal.videos), ("clip", removal.clips)):
        if ids:
            more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
            yield f"  {name} " + ", ".join(ids[:MAX_NAMED]) + more
    if removal.overlapping:
        count = len(removal.overlapping)
        yield f"{_many(count, 'clip')} of them only because of frames shared with a named one"
    rows = ", ".join(f"{table} {count}" for table, count in sorted(removal.rows.items()))
    yield f"rows: {rows or 'none'}"
    yield f"{_many(removal.num_files, 'file')}, {removal.num_file_bytes / 2**20:.1f} MiB"
    yield f"{_many(len(removal.shards), 'shard')} written anew; the folder report/ goes"
    if removal.releases:
        how = "withdrawn" if removal.withdraw else "rebuilt"
        yield f"releases {how}: {', '.join(removal.releases)}"
    if removal.duplicates:
        ids = removal.duplicates
        yield f"warning: {_many(len(ids), 'clip')} showing the same stay (--duplicates takes them):"
        yield "  " + ", ".join(ids[:MAX_NAMED])
        yield "  the next `clipmill curate` may keep one of them in place of what goes"


def print_removed(removed: Removed, console: Console) -> None:
    """What went, and the proof."""
    removal, proof = removed.removal, removed.proof
    videos, clips = _many(len(removal.videos), "video"), _many(len(removal.clips), "clip")
    console.print(f"{videos} and {clips} removed, {removal.seconds:.1f} s")
    if removed.untagged:
        tags = ", ".join(removed.untagged[:MAX_NAMED])
        console.print(f"tags of tables that pinned them are gone: {escape(tags)}")
    for line in proof_lines(proof):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if proof.found:
        console.print("[bold red]not proven[/]: some of it is still here")
    else:
        console.print("[green]proven[/]: nothing of it was found")


def proof_lines(proof: Proof) -> Iterator[str]:
    """The proof in sentences."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in proof.needles.items())
    yield (
        f"searched {_many(proof.num_files, 'file')} ({proof.num_bytes / 2**20:.1f} MiB) and "
        f"{proof.num_versions} versions of tables for {sum(proof.needles.values())} pieces "
        f"({kinds}) in {proof.seconds:.1f} s"
    )
    yield from proof.found


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
