"""Sibling sets: what an encoder made of the samples, in tars beside the shards.

``latents/<fingerprint>/`` mirrors the tars below ``shards/``: the same names, the same keys in the
same order, one member ``<clip_id>.safetensors`` each. No shard changes for it. ``set.json`` says
what the encoder is and what it reads of a sample; the index, written last, says where the members
lie and of which mp4 and texts they were made. A job that is killed goes on tar by tar.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from curation.errors import CatalogError, ConfigError
from curation.ids import canonical_json
from curation.schema import SIBLING_INDEX, sibling_reads
from curation.shards.index import (
    INDEX,
    by_shard,
    metadata_of,
    rows_of_shard,
    write_index,
)
from curation.shards.index import MEND as SHARD_MEND
from curation.shards.sibling_rows import (
    FINGERPRINT,
    READS,
    SetRows,
    in_step,
    is_there,
    same_samples,
)
from curation.shards.tar import Tar, new_tar
from curation.storage import Storage

SUFFIX = "safetensors"
OF_SHARDS = ["clip_id", "key_hash", "mp4_hash", "text_hash"]
OF_TARS = ["key_hash", "mp4_hash", "text_hash", "shard", "sibling", "sibling_bytes"]


class SiblingSet:
    """The siblings that one encoder makes. The caller holds the lease of the dataset.

    Args:
        storage: The dataset root; it has shards.
        fingerprint: Of the encoder and its settings, 8 to 64 hex digits.
        description: What the encoder is, for people; plain JSON.
        reads: What of a sample the encoder looks at, out of ``mp4`` and ``text`` (``.json`` and
            ``.txt``): a change of it makes a sibling stale.

    Raises:
        ConfigError: The fingerprint is none, or ``reads`` names something else.
        CatalogError: There are no shards, or a set of this fingerprint that is another one.
    """

    def __init__(
        self,
        storage: Storage,
        fingerprint: str,
        description: dict[str, Any],
        reads: Collection[str],
    ) -> None:
        self.storage, self.fingerprint = storage, check_fingerprint(fingerprint)
        self.reads = tuple(kind for kind in READS if kind in reads)
        if not reads or set(reads) - set(READS):
            raise ConfigError(
                f"reads {sorted(reads)}: a sample has {' and '.join(READS)}", where=fingerprint
            )
        self.rows = SetRows(storage, fingerprint)
        self._handed_out: dict[str, str] = {}
        if metadata_of(storage) is None:
            raise CatalogError("no shards to encode", where=INDEX, mend=SHARD_MEND)
        about = {"fingerprint": fingerprint, "description": description, "reads": list(self.reads)}
        known = storage.read_json(self.rows.about)
        if known is None:
            storage.write_json(self.rows.about, about)
        elif canonical_json(known) != canonical_json(about):
            raise CatalogError(
                "is a set of another encoder or of one that reads other things",
                where=self.rows.about,
                mend=f"remove {self.rows.folder}, or give the encoder a fingerprint of its own",
            )

    @classmethod
    def open(cls, storage: Storage, fingerprint: str) -> SiblingSet:
        """A set that is there.

        Raises:
            CatalogError: There is none.
        """
        rows = SetRows(storage, check_fingerprint(fingerprint))
        about = read_about(storage, rows)
        if about is None:
            raise CatalogError("no set of siblings", where=rows.folder, mend=rows.mend)
        return cls(storage, fingerprint, about["description"], about["reads"])

    def pending_shards(self, *, drop_damaged: bool = True) -> list[str]:
        """Shards without a current sibling, in order.

        It is missing, or its keys, their order or a hash of what the encoder reads differ. Which
        state of each shard this speaks of is remembered until it is written. Of a damaged index of
        the set nothing stays.

        Args:
            drop_damaged: Take damaged tables of the set out; without, nothing is written.

        Raises:
            DamagedError: The index of the shards is damaged; or one of the set that is to stay.
        """
        if drop_damaged:
            self.rows.drop_damaged()
        columns = ["shard", "shard_sha256", *OF_SHARDS]
        wanted, mine = by_shard(self.storage, INDEX, columns), self.rows.by_shard(OF_TARS)
        found = []
        for shard, samples, rows in in_step(wanted, mine):
            if samples is None:
                continue
            tar = self.rows.tar_of(shard)
            current = rows is not None and same_samples(samples, rows, self.reads)
            if not current or rows is None or not is_there(self.storage, tar, rows):
                found.append(shard)
                self._handed_out[shard] = samples.column("shard_sha256")[0].as_py()
        return found

    def prepare(self, shards: Iterable[str]) -> dict[str, str]:
        """Make ready for several processes, which then write these shards at once.

        What stands of them counts no more, so that none of the writers touches the index.

        Args:
            shards: Of :meth:`pending_shards`.

        Returns:
            The state of each, to be handed to :meth:`write_shard`.
        """
        states = {shard: self._handed_out[shard] for shard in shards}
        for shard in states:
            if self.storage.exists(self.rows.tar_of(shard)):
                self._put_aside(shard)
        return states

    def write_file(self, name: str, data: bytes) -> None:
        """Write a file that belongs to the set beside its tars; before the index.

        Args:
            name: Without a folder.
            data: Its content.

        Raises:
            ConfigError: The name is one that the set uses itself.
        """
        path = f"{self.rows.folder}/{name}"
        own = (self.rows.about, self.rows.index, self.rows.beside)
        if "/" in name or name.endswith(".tar") or path in own:
            raise ConfigError("is no name of a file beside the tars", where=repr(name))
        known = self.storage.read_json(self.rows.beside) or {}
        sha = hashlib.sha256(data).hexdigest()
        if known.get(name) == sha == self.rows.sha256_of(path):
            return
        self.rows.open_up()
        self.storage.write_bytes(path, data)
        self.storage.write_json(self.rows.beside, known | {name: sha})

    def forget_shards(self, shards: Iterable[str]) -> None:
        """Let the siblings of some shards count no more, so that they are made again."""
        for shard in shards:
            self._put_aside(shard)

    def write_shard(
        self, shard: str, samples: Iterable[tuple[str, bytes]], *, state: str | None = None
    ) -> None:
        """Write the tar beside a shard; durable when this returns.

        Args:
            shard: Its name.
            samples: Key and safetensors bytes of each sample, in the order of the shard.
            state: Of :meth:`prepare`, where another process said that it is pending.

        Raises:
            CatalogError: No such shard, other keys or another order than the shard's, or the
                shard is another one than when it was said to be pending.
        """
        wanted = rows_of_shard(self.storage, shard, [*OF_SHARDS, "shard_sha256"]).to_pylist()
        if not wanted:
            raise CatalogError("there is no such shard", where=shard, mend=self.rows.mend)
        (now,) = {row.pop("shard_sha256") for row in wanted}
        if (state or self._handed_out.get(shard, now)) != now:
            raise CatalogError("changed while it was encoded", where=shard, mend=self.rows.mend)
        name = self.rows.tar_of(shard)
        if self.storage.exists(name):
            self._put_aside(shard)
        with new_tar(self.storage, name) as tar:
            rows = list(_add_all(tar, shard, wanted, samples))
        whole = {
            "shard": shard,
            "sibling": name,
            "sibling_bytes": tar.size,
            "sibling_sha256": tar.sha256.hexdigest(),
        }
        self.rows.put_part(shard, [row | whole for row in rows])
        self._handed_out.pop(shard, None)

    def commit(self) -> None:
        """Write the index, and drop siblings of shards that are gone; harmless when called again.

        Raises:
            CatalogError: Shards lack a current sibling.
        """
        if pending := self.pending_shards():
            raise CatalogError(
                f"{len(pending)} shards have no current sibling, {pending[0]} the first",
                where=self.rows.folder,
                mend=self.rows.mend,
            )
        named = {self.rows.tar_of(shard) for shard, _ in by_shard(self.storage, INDEX, ["shard"])}
        beside = self.rows.more_files()
        strays = [n for n in self.rows.files() if n not in named and n not in beside]
        if strays:
            self.rows.open_up()
        for name in strays:
            self.storage.remove(name)
        if not self.rows.finished or self.storage.walk(self.rows.work):
            fold(self.rows, self.rows.index, lambda shard: self.rows.tar_of(shard) in named)
            self.storage.remove_tree(self.rows.work)

    def _put_aside(self, shard: str) -> None:
        self.rows.open_up()
        self.rows.put_part(shard, [])


def fold(rows: SetRows, name: str, among: Any = lambda _: True) -> None:  # noqa: ANN401 - a filter
    """Write all rows that count into one index.

    Args:
        rows: Of the set.
        name: Of the index to write.
        among: Tells of a shard's name whether its rows are taken.
    """
    with write_index(rows.storage, name, SIBLING_INDEX) as take:
        for shard, table in rows.by_shard():
            if among(shard):
                take(table)


def read_about(storage: Storage, rows: SetRows) -> dict[str, Any] | None:
    """What a set says of itself; None when it says nothing that can be used."""
    about = storage.read_json(rows.about)
    return about if sibling_reads(about) else None


def check_fingerprint(text: str) -> str:
    """A fingerprint, which becomes the name of a folder.

    Raises:
        ConfigError: It is none.
    """
    if FINGERPRINT.fullmatch(text) is None:
        raise ConfigError("is no fingerprint: 8 to 64 hex digits", where=repr(text))
    return text


def _add_all(
    tar: Tar, shard: str, wanted: list[dict[str, Any]], samples: Iterable[tuple[str, bytes]]
) -> Iterator[dict[str, Any]]:
    """Add the members; gives the rows, but for what is known of the whole tar."""
    given = iter(samples)
    for row in wanted:
        clip_id, data = next(given, (None, b""))
        if clip_id != row["clip_id"]:
            raise _refused(shard, row["clip_id"], clip_id)
        offset = tar.add(f"{clip_id}.{SUFFIX}", data)
        yield row | {"data_offset": offset, "data_bytes": len(data)}
    if (more := next(given, None)) is not None:
        raise _refused(shard, None, more[0])


def _refused(shard: str, wanted: str | None, given: str | None) -> CatalogError:
    return CatalogError(
        f"a sibling has the keys of its shard in their order: expected {wanted or 'the end'}, got "
        f"{given or 'the end'}",
        where=shard,
    )
