"""The ledger: answers that cost something, kept from the moment they arrive.

One small JSON file per answer in the dataset root, under the request's key. A run that is killed
and started again finds in it every answer that it had stored, and asks for none of them again.

What it cannot promise: an answer on its way at the moment of the kill was perhaps charged for, and
is asked for again; that is at most one per connection of the backend (``concurrency``). Files are
published by rename and not forced to disk, so a power cut may take the newest ones along.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from curation.captions.request import Reply
from curation.ids import canonical_json
from curation.storage import Storage

FOLDER = "replies"
KEY = re.compile(r"[0-9a-f]{64}")
TYPES: dict[str, tuple[type, ...]] = {
    "request_id": (str,),
    "text": (str,),
    "message": (str,),
    "input_tokens": (int, type(None)),
    "output_tokens": (int, type(None)),
    "busy_s": (int, float),
}
"""What is stored of a reply."""


class Ledger:
    """Stored answers of one dataset root.

    Args:
        storage: The root.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def get(self, key: str) -> Reply | None:
        """The stored answer to a request, marked as reused; None without one.

        A file that is damaged, or that holds the answer of another key, counts as absent.

        Args:
            key: Of the request, see :meth:`Request.key`.
        """
        return self._read(_name(key), key)

    def put(self, key: str, reply: Reply) -> None:
        """Store an answer; a reply without text is no answer and is not stored.

        Args:
            key: Of the request.
            reply: What came back.
        """
        if not reply.text:
            return
        told = {name: value for name, value in asdict(reply).items() if name in TYPES}
        self._storage.write_json(_name(key), {"key": key, "reply": told, "sum": _sum(key, told)})

    def remove(self, key: str) -> None:
        """Forget an answer, for instance one of a batch that failed a check of integrity."""
        self._storage.remove(_name(key))

    def sweep(self, done: Callable[[str], bool] | None = None) -> int:
        """Remove answers that are not needed any more, damaged files, and leftovers of kills.

        No other process may be writing answers meanwhile.

        Args:
            done: Told the id of a request; True when the rows made of its answer are committed.
                None: all are done, and the whole folder goes.

        Returns:
            How many files were removed.
        """
        removed = 0
        for name in self._storage.walk(FOLDER):
            key = name.rpartition("/")[2].removesuffix(".json")
            whole = KEY.fullmatch(key) is not None and name == _name(key)
            reply = self._read(name, key) if whole and done is not None else None
            if done is None or reply is None or done(reply.request_id):
                self._storage.remove(name)
                removed += 1
        if done is None:
            self._storage.remove_tree(FOLDER)
        return removed

    def _read(self, name: str, key: str) -> Reply | None:
        try:
            stored = json.loads(self._storage.read_bytes(name))
        except (FileNotFoundError, ValueError):  # not JSON, or not even text
            return None
        return _reply(stored, key)


class ReadLedger(Ledger):
    """The same to look at: what is written to it or removed from it stays as it is."""

    def put(self, key: str, reply: Reply) -> None:
        """Do nothing."""

    def remove(self, key: str) -> None:
        """Do nothing."""


def _name(key: str) -> str:
    """File of an answer.

    Raises:
        ValueError: The key is not 64 hex digits.
    """
    if KEY.fullmatch(key) is None:
        raise ValueError(f"a key of the ledger has 64 hex digits, not {key!r}")
    return f"{FOLDER}/{key[:2]}/{key}.json"


def _reply(stored: Any, key: str) -> Reply | None:  # noqa: ANN401 - whatever the file held
    """The reply in a stored file; None unless it is whole and belongs to the key."""
    if not isinstance(stored, dict) or stored.get("key") != key:
        return None
    told = stored.get("reply")
    if not isinstance(told, dict) or stored.get("sum") != _sum(key, told):
        return None
    if told.keys() != TYPES.keys():  # written by another version
        return None
    if not all(isinstance(told[name], types) for name, types in TYPES.items()):
        return None
    return replace(Reply(**told), reused=True)


def _sum(key: str, told: dict[str, Any]) -> str:
    """Checksum of an entry, so that a file that is damaged but still JSON is noticed."""
    return hashlib.sha256(canonical_json([key, told]).encode(errors="surrogatepass")).hexdigest()
