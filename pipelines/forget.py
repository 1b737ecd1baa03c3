"""``clipmill redo``: forget the rows of one stage, so that the next ``curate`` makes them again.

A stage runs again by itself when its settings change. This is for the rest: captions that failed
the gate, a server that answered badly for an hour, a model behind an unchanged name. What was made
of the forgotten rows is forgotten with them: all stages that read a column of the stage, and those
that read theirs.

Several tables cannot be changed in one step, and both orders of deleting can go wrong in a crash.
So what is to be forgotten is written down first; ``finish_forgetting`` carries it out, as often as
it takes, and removes the note last. Every run has to call it before it looks for work.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

import typer

from curation.captions.ledger import Ledger
from curation.catalog.catalog import Catalog, PlanRecord
from curation.catalog.commit import Committer
from curation.catalog.lease import Lease
from curation.errors import CatalogError, ConfigError
from curation.plan import Plan
from curation.storage import Storage
from pipelines.run_report import new_run_id

NOTE = "forget.json"
IDS_AT_A_TIME = 1000


def forget(out: str, stage: str, clips: Sequence[str] | None = None) -> int:
    """Forget what a stage made of all clips or of some, and what was made of that.

    Args:
        out: The dataset root.
        stage: A stage of the latest run, by name.
        clips: Only these clips; None: all.

    Returns:
        Rows of the stage's first table that are gone: clips, or videos.

    Raises:
        ConfigError: There is no such stage, or it works on whole videos and clips are named.
        CatalogError: A named clip is unknown, or another run holds the root.
    """
    from pipelines.remove import finish_removing  # which needs this module in turn

    storage, catalog = Storage(out), Catalog.open(out)
    with Lease(storage, new_run_id()):
        finish_removing(catalog)
        finish_forgetting(catalog)
        # Finished work that waits to be committed would come back behind our back.
        Committer(catalog).recover()
        record = catalog.current()
        stages = _with_readers(_plan_of(catalog), record, stage)
        if clips is not None:
            _check_clips(catalog, record, stage, clips)
        tables = _tables(record, stages)
        count = _count(catalog, tables[stage][0], record.stages[stage], clips)
        note = {
            "stages": {name: record.stages[name] for name in stages},
            "tables": tables,
            "clips": None if clips is None else sorted(set(clips)),
        }
        storage.write_json(NOTE, note)
        finish_forgetting(catalog)
    return count


def finish_forgetting(catalog: Catalog) -> bool:
    """Carry out what was written down; harmless when there is nothing or it was done already.

    The caller holds the lease.

    Returns:
        True when there was something.
    """
    note = catalog.storage.read_json(NOTE)
    if note is None:
        return False
    for stage, fingerprint in note["stages"].items():
        for table in note["tables"][stage]:
            _delete(catalog, table, f"fingerprint = '{fingerprint}'", note["clips"])
        mine = f"stage = '{stage}' AND fingerprint = '{fingerprint}'"
        _delete(catalog, "errors", mine, note["clips"])
        if note["clips"] is None:
            catalog.dataset("done").delete(mine)
    _forget_replies(catalog, note)
    catalog.storage.remove(NOTE)
    return True


def redo(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Dataset root (path or URL).")],
    stage: Annotated[str, typer.Argument(help="A stage of the dataset, such as caption.")],
    clip: Annotated[
        list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget what a stage made, and what was made of it; the next `curate` makes it again."""
    catalog = Catalog.open(out)
    stages = _with_readers(_plan_of(catalog), catalog.current(), stage)
    what = f"{len(clip)} clips" if clip else "every clip"
    if not yes:
        typer.confirm(f"Forget {', '.join(stages)} of {what} in {out}?", abort=True)
    count = forget(out, stage, clip or None)
    typer.echo(f"{count} rows of {stage} forgotten; `clipmill curate --out {out}` makes them again")


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog="Examples: [bold]clipmill redo data caption[/]; "
        "[bold]clipmill redo data caption --clip ID --yes[/]"
    )(redo)


def _plan_of(catalog: Catalog) -> Plan:
    """The plan of the dataset's own configuration, for what reads what."""
    from pipelines.config import load_config
    from pipelines.redo import stored_config

    return load_config(None, None, base=stored_config(catalog)).plan()


def _with_readers(plan: Plan, record: PlanRecord, stage: str) -> list[str]:
    """A stage and all that reads it, over any number of steps, in the plan's order."""
    if stage not in record.stages:
        near = difflib.get_close_matches(stage, record.stages, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(record.order)}"
        raise ConfigError("the dataset has no such stage", where=f"stage {stage!r}", mend=mend)
    known, found = plan.columns(), [stage]
    for other in plan.stages:
        sources = {known[f.name].stage for f in other.reads if f.name in known}
        if other.name not in found and other.name in record.stages and sources & set(found):
            found.append(other.name)
    return found


def _tables(record: PlanRecord, stages: list[str]) -> dict[str, list[str]]:
    """The tables of each stage, first the one that says what is done."""
    tables = {}
    for stage in stages:
        mine = [t for t, print_ in record.tables.items() if print_ == record.stages[stage]]
        first = record.clip_stages.get(stage)
        tables[stage] = sorted(mine, key=lambda table: (table != first, table))
    return tables


def _check_clips(catalog: Catalog, record: PlanRecord, stage: str, clips: Sequence[str]) -> None:
    if stage not in record.clip_stages:
        raise ConfigError(
            "works on whole videos", where=f"stage {stage!r}", mend="leave out the clips"
        )
    known: set[str] = set()
    for chunk in _chunks(clips):
        rows = catalog.dataset("clips").to_table(columns=["clip_id"], filter=_among(chunk))
        known |= set(rows.column("clip_id").to_pylist())
    lost = sorted(set(clips) - known)
    if lost:
        raise CatalogError(
            f"{len(lost)} clips are unknown, such as {lost[0]!r}",
            where=catalog.storage.url,
            mend="clip ids stand in the view clips",
        )


def _count(catalog: Catalog, table: str, fingerprint: str, clips: Sequence[str] | None) -> int:
    where = f"fingerprint = '{fingerprint}'"
    dataset = catalog.dataset(table)
    if clips is None:
        return dataset.count_rows(where)
    return sum(dataset.count_rows(f"{where} AND {_among(c)}") for c in _chunks(sorted(set(clips))))


def _delete(catalog: Catalog, table: str, where: str, clips: Sequence[str] | None) -> None:
    if not catalog.has(table):
        return
    dataset = catalog.dataset(table)
    if clips is None:
        dataset.delete(where)
        return
    for chunk in _chunks(clips):
        dataset.delete(f"{where} AND {_among(chunk)}")


def _forget_replies(catalog: Catalog, note: Mapping[str, Any]) -> None:
    """Remove stored answers, which would be taken for new ones; those of other clips were paid for.

    The id of a request tells whose it is: ``CLIP/WINDOW`` or ``CLIP/merge`` of a caption, or
    ``CLIP/STYLE/ATTEMPT`` of its rewriting.
    """
    tables = {table for mine in note["tables"].values() for table in mine}
    caption, rewrite = "captions" in tables, "rewrites" in tables
    if not caption and not rewrite:
        return
    clips = None if note["clips"] is None else frozenset(note["clips"])

    def forgotten(request_id: str) -> bool:
        clip_id, _, rest = request_id.partition("/")
        return (rewrite if "/" in rest else caption) and (clips is None or clip_id in clips)

    Ledger(catalog.storage).sweep(done=forgotten)


def _among(clips: Sequence[str]) -> str:
    return "clip_id IN ({})".format(", ".join("'" + c.replace("'", "''") + "'" for c in clips))


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    left: Any = iter(items)
    while chunk := list(islice(left, IDS_AT_A_TIME)):
        yield chunk
