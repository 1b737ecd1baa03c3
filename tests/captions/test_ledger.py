"""The ledger: what is put is got, once, by its own key, and nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.captions.ledger import FOLDER, Ledger
from curation.captions.request import Frame, Reply, Request
from curation.storage import Storage

REQUEST = Request(request_id="clip/0", system="s", prompt="p", frames=(Frame(0.5, b"jpeg"),))
IDENTITY = {"kind": "openai", "model": "m"}
KEY = REQUEST.key(IDENTITY)
REPLY = Reply(
    request_id="clip/0", text='{"a": "\ud800 \u00e4"}', input_tokens=7, output_tokens=8, busy_s=1.5
)


def file_of(root: Path, key: str = KEY) -> Path:
    return root / FOLDER / key[:2] / f"{key}.json"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Storage(tmp_path))


def test_what_is_put_is_got(ledger: Ledger, tmp_path: Path) -> None:
    assert ledger.get(KEY) is None
    ledger.put(KEY, REPLY)
    again = Ledger(Storage(tmp_path)).get(KEY)
    assert again is not None and again.reused
    assert (again.request_id, again.text) == (REPLY.request_id, REPLY.text)
    assert (again.input_tokens, again.output_tokens, again.busy_s) == (7, 8, 1.5)
    assert file_of(tmp_path).is_file()
    assert len(list((tmp_path / FOLDER).rglob("*"))) == 2  # its folder and itself


def test_only_answers_with_text(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put(KEY, Reply(request_id="clip/0", code="caption_backend", message="no"))
    ledger.put(KEY, Reply(request_id="clip/0", text=""))
    assert not (tmp_path / FOLDER).exists()


def test_another_question_is_another_key(ledger: Ledger) -> None:
    ledger.put(KEY, REPLY)
    changes: list[dict[str, Any]] = [
        {"prompt": "q"},
        {"attempt": 2},
        {"frames": (Frame(0.5, b"other"),)},
    ]
    for change in changes:
        assert ledger.get(replace(REQUEST, **change).key(IDENTITY)) is None
    assert ledger.get(REQUEST.key({**IDENTITY, "model": "n"})) is None


def test_damaged_files_are_absent(ledger: Ledger, tmp_path: Path) -> None:
    ledger.put(KEY, REPLY)
    good = file_of(tmp_path).read_bytes()
    stored = json.loads(good)
    swapped = stored | {"reply": stored["reply"] | {"text": "other"}}
    typed = stored | {"reply": stored["reply"] | {"text": 5}}
    damages = [
        *(good[:n] for n in (0, 1, len(good) // 2, len(good) - 1)),
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"{}",
        *(json.dumps(x).encode() for x in (swapped, typed, stored | {"key": "0" * 64})),
    ]
    for damaged in damages:
        file_of(tmp_path).write_bytes(damaged)
        assert ledger.get(KEY) is None, damaged
    ledger.put(KEY, REPLY)
    assert ledger.get(KEY) is not None


def test_a_file_under_another_key_is_absent(ledger: Ledger, tmp_path: Path) -> None:
    """Copied by hand, or by a tool that mixed up names."""
    ledger.put(KEY, REPLY)
    other = file_of(tmp_path, "a" * 64)
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(file_of(tmp_path).read_bytes())
    assert ledger.get("a" * 64) is None


@pytest.mark.parametrize(
    "key", ["../../x", "", "A" * 64, "a" * 63, "a" * 64 + "/x", "a" * 64 + "\n"]
)
def test_keys_that_are_none(ledger: Ledger, key: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        ledger.put(key, REPLY)


def test_remove(ledger: Ledger) -> None:
    ledger.put(KEY, REPLY)
    ledger.remove(KEY)
    ledger.remove(KEY)
    assert ledger.get(KEY) is None


def test_sweep_keeps_what_is_not_done(ledger: Ledger, tmp_path: Path) -> None:
    keys = {}
    for name in ("a/0", "a/1", "b/0"):
        request = Request(request_id=name, system="", prompt="p")
        keys[name] = request.key(IDENTITY)
        ledger.put(keys[name], Reply(request_id=name, text="x"))
    file_of(tmp_path, keys["a/0"]).with_suffix(".json.tmp-12345678").write_text("half")
    damaged = file_of(tmp_path, "f" * 64)
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_text("{")
    assert ledger.sweep(lambda request_id: request_id.startswith("a/")) == 4
    assert ledger.get(keys["a/0"]) is None
    assert ledger.get(keys["b/0"]) is not None
    assert ledger.sweep() == 1
    assert not (tmp_path / FOLDER).exists()
    assert ledger.sweep() == 0
