"""Carrying a removal out: steps that may each be cut short anywhere and done again.

Tombstones come first, so that from the first moment on nothing comes back; the note goes last, so
that whoever opens the dataset next goes on with what is left. The caller holds the lease.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from curation.catalog.catalog import Catalog
from curation.removal.files import remove_files
from curation.removal.history import purge
from curation.removal.needles import collect, read_needles, write_needles
from curation.removal.proof import Proof, prove
from curation.removal.releases import remove_half_made
from curation.removal.removal import FOLDER, NEEDLES, NOTE, Removal, read_note, write_note
from curation.removal.rows import (
    add_spans,
    add_tombstones,
    blank_sources,
    delete_rows,
    forget_in_runs,
)
from curation.shards.rewrite import rewrite_shards
from curation.shards.settings import ShardSettings
from curation.shards.sibling_check import remove_from_siblings

ReleaseStep = Callable[[Removal, str], None]
"""Makes the release of a tag anew without what goes, or withdraws it; may be called again."""
Progress = Callable[[int], object]


def refuse_releases(removal: Removal, tag: str) -> None:
    """For a dataset without releases."""
    raise RuntimeError(f"nobody here can change release {tag!r} of removal {removal.run_id}")


@dataclass(kw_only=True)
class Removed:
    """What was taken out, and the proof.

    Attributes:
        removal: What was asked for.
        untagged: Tags of tables that pinned a version with it, as ``table:tag``; they are gone.
        proof: What was searched afterwards.
    """

    removal: Removal
    untagged: list[str] = field(default_factory=list)
    proof: Proof = field(default_factory=Proof)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        told = {"run_id": self.removal.run_id, "untagged": self.untagged}
        return self.removal.summary() | told | {"proof": self.proof.as_dict()}


@dataclass(kw_only=True)
class Surroundings:
    """Who is told and asked on the way.

    Attributes:
        on_step: Called with the words for each step before it begins.
        on_bytes: Called with the bytes of each piece read.
        release: See :data:`ReleaseStep`.
    """

    on_step: Callable[[str], object] = lambda _: None
    on_bytes: Progress = lambda _: None
    release: ReleaseStep = refuse_releases


def begin(catalog: Catalog, removal: Removal, around: Surroundings) -> None:
    """Collect the needles and write the removal down: the last moment at which nothing is done."""
    around.on_step("taking samples of what goes")
    write_needles(catalog.storage, collect(catalog, removal, around.on_bytes))
    write_note(catalog.storage, removal)


def carry_out(catalog: Catalog, around: Surroundings) -> Removed | None:
    """Carry out what was written down; harmless when there is nothing.

    Returns:
        What was taken out and what the proof found; None: there was no note.
    """
    storage = catalog.storage
    removal = read_note(storage)
    if removal is None:
        storage.remove(NEEDLES)  # of a removal that was cut short before it began
        return None
    removed = Removed(removal=removal)
    for title, step in _steps(catalog, removed, around):
        around.on_step(title)
        step()
    storage.remove(NEEDLES)
    storage.remove(NOTE)
    return removed


def _steps(
    catalog: Catalog, removed: Removed, around: Surroundings
) -> Iterator[tuple[str, Callable[[], None]]]:
    removal = removed.removal
    gone, storage = removal.gone, catalog.storage

    def rows() -> None:
        delete_rows(catalog, gone)
        blank_sources(catalog)
        forget_in_runs(catalog, gone)

    def shards() -> None:
        settings = ShardSettings.model_validate(removal.shard_settings)
        rewrite_shards(catalog, gone.clips, settings, current=removal.shards_current)
        remove_from_siblings(storage, gone.clips)

    def releases() -> None:
        remove_half_made(storage)
        for tag in removal.releases:
            around.release(removal, tag)

    def history() -> None:
        removed.untagged = purge(catalog, removal)

    def proof() -> None:
        removed.proof = prove(catalog, gone, read_needles(storage), around.on_bytes)

    def record() -> None:
        summary = removal.summary()
        counts = {k: len(v) if isinstance(v, list) else v for k, v in summary.items()}
        told = counts | {"run_id": removal.run_id, "removed_at": removal.removed_at}
        storage.write_json(
            f"{FOLDER}/{removal.run_id}.json",
            told | {"untagged": len(removed.untagged), "proof": removed.proof.as_dict()},
        )

    yield "tombstones", lambda: add_tombstones(catalog, removal)
    yield "seconds", lambda: add_spans(catalog, removal)
    yield "rows", rows
    yield "files", lambda: _ignore(remove_files(storage, gone))
    yield "shards", shards
    yield "releases", releases
    yield "old versions", history
    yield "proof", proof
    yield "record", record


def _ignore(_: object) -> None:
    """For steps whose result nobody asks for."""
