"""Checkpoints: a folder each, there whole or not at all, and the last good one found again.

    OUT/latest.json                              names the newest
    OUT/checkpoints/step-00000123/model.safetensors    a group of tensors each
                                  optimizer.safetensors
                                  checkpoint.json      last: step, what else is to be known,
                                                       bytes and sha256 of each file, and a sum
                                                       of all this

A checkpoint is written into a temporary folder beside, flushed to the disk, and renamed; then
``latest.json`` is; only then are older ones removed. So at any moment a kill, or a power cut,
leaves a checkpoint to go on from: the new one where it was renamed, else the one before. Every byte
is checked before a run goes on; a damaged checkpoint is named, and the one before is taken. Nothing
is pickled.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from curation.errors import ConfigError
from curation.ids import json_digest
from curation.models.registry import file_sha256
from training.files import written_whole

log = logging.getLogger(__name__)

FORMAT = 1
FOLDER, MANIFEST, LATEST = "checkpoints", "checkpoint.json", "latest.json"
NAME = re.compile(r"step-(\d{8,})(?:\.(\d+))?")
"""Of a folder; a number follows the step where a checkpoint of that step was there already."""
GROUP = re.compile(r"[a-z][a-z0-9_-]*")
SUFFIX = ".safetensors"
HASHING = 4
"""Files whose bytes are summed at a time."""


@dataclass
class Checkpoint:
    """A checkpoint on disk.

    Attributes:
        step: Updates done.
        folder: Where it is.
        about: What was given with it, plain JSON.
        files: Name to bytes and sha256.
    """

    step: int
    folder: Path
    about: dict[str, Any]
    files: dict[str, dict[str, Any]]
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @property
    def groups(self) -> list[str]:
        """Names of the groups of tensors."""
        return [name.removesuffix(SUFFIX) for name in self.files]

    def group(self, name: str) -> dict[str, Tensor]:
        """Read one group, on the CPU, in memory of its own: the file may go afterwards.

        Raises:
            ConfigError: There is no such group, or its file is damaged.
        """
        file = f"{name}{SUFFIX}"
        if file not in self.files:
            raise ConfigError(
                f"has no {name}, only {', '.join(self.groups)}", where=str(self.folder)
            )
        self.check(file)
        try:
            with safe_open(self.folder / file, "pt") as stored:
                # A tensor as it comes is a view of the file; a clone is not.
                return {key: stored.get_tensor(key).clone() for key in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as exc:
            raise self._damaged(f"{file}: {exc}") from exc

    def check(self, *files: str) -> None:
        """Compare bytes and sums of some files, or of all, with those written down.

        Raises:
            ConfigError: One is missing or differs.
        """
        names = [name for name in files or self.files if name not in self._checked]
        for name in names:  # first what costs nothing
            path, told = self.folder / name, self.files[name]["bytes"]
            size = path.stat().st_size if path.is_file() else None
            if size != told:
                found = "is missing" if size is None else f"has {size} bytes instead of {told}"
                raise self._damaged(f"{name} {found}")
        try:
            with ThreadPoolExecutor(HASHING) as pool:
                sums = list(pool.map(lambda name: file_sha256(self.folder / name), names))
        except OSError as exc:
            raise self._damaged(f"cannot be read: {exc.strerror}") from exc
        for name, found in zip(names, sums, strict=True):
            if found != self.files[name]["sha256"]:
                raise self._damaged(f"{name} has other bytes than were written")
        self._checked.update(names)

    def _damaged(self, how: str) -> ConfigError:
        return ConfigError(
            f"is damaged: {how}", where=str(self.folder), mend="another checkpoint, or a copy of it"
        )


def save_checkpoint(
    out: Path,
    step: int,
    groups: Mapping[str, Mapping[str, Tensor]],
    about: dict[str, Any],
    *,
    keep: int = 2,
    keep_every: int | None = None,
) -> Path:
    """Write a checkpoint, name it the latest, and remove those that are not kept.

    Leftovers of killed writes go too, and checkpoints of later steps: a run that comes by here
    again had found them damaged. One process at a time may save in a folder
    (:func:`training.folder.hold_folder`).

    Args:
        out: Folder of the run.
        step: Updates done.
        groups: Name to tensors by name; no two share memory. Small letters, digits, - and _.
        about: Plain JSON.
        keep: Newest checkpoints that stay, this one counted.
        keep_every: Those of steps divisible by it stay for ever.

    Returns:
        Its folder.

    Raises:
        ConfigError: The disk refuses it; what was there before is untouched.
        ValueError: A name or number makes no sense.
    """
    if step < 0 or keep < 1 or (keep_every is not None and keep_every < 1):
        raise ValueError(f"step {step}, keep {keep}, keep_every {keep_every}")
    for group in groups:
        if not GROUP.fullmatch(group):
            raise ValueError(f"no name of a group: {group!r}")
    root = out / FOLDER
    manifest = {"format": FORMAT, "step": step, "about": about}
    with _refusals_told(root):
        root.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out)
        there = [folder for folder in _folders(root) if _place(folder)[0] == step]
        number = f".{_place(there[-1])[1] + 1}" if there else ""
        folder = root / f"step-{step:08d}{number}"
        temporary = root / f".{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
        try:
            _write_folder(temporary, groups, manifest)
            if there and _same(there[-1], temporary):
                folder = there[-1]  # saved twice
            else:
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _flush(root)
        with written_whole(out / LATEST) as pointer:
            pointer.write_text(json.dumps({"checkpoint": f"{FOLDER}/{folder.name}", "step": step}))
            _flush(pointer)
        _flush(out)
    _prune(root, folder, keep, keep_every)
    return folder


def has_checkpoint(out: Path) -> bool:
    """Was a checkpoint of a run ever written? Looks at names alone."""
    return bool(_folders(out / FOLDER)) or _named(out / LATEST) is not None


def latest_checkpoint(out: Path) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole, all of its bytes checked.

    One that was renamed before ``latest.json`` could be counts.

    Args:
        out: Folder of the run.

    Returns:
        None: there is no checkpoint, and there was none.

    Raises:
        ConfigError: All are damaged, or gone though ``latest.json`` names one.
    """
    found = _folders(out / FOLDER)
    named = _named(out / LATEST)
    if named is not None and named not in [folder.name for folder in found]:
        what = f"names {named}, which is not there"
        if not found:
            raise ConfigError(
                what,
                where=str(out / LATEST),
                mend="the missing folder; to begin anew, remove this file",
            )
        log.warning("%s %s", out / LATEST, what)
    failures = []
    for folder in reversed(found):
        try:
            checkpoint = open_checkpoint(folder)
            checkpoint.check()
        except ConfigError as exc:
            failures.append(f"{folder.name} {exc.what}")
            log.warning("%s: %s", folder, exc.what)
        else:
            return checkpoint
    if failures:
        raise ConfigError(
            f"no checkpoint is whole: {'; '.join(failures)}",
            where=str(out / FOLDER),
            mend="a copy of one of them, or another --out to begin anew",
        )
    return None


def open_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint by its folder; bytes are checked when a group is read.

    Raises:
        ConfigError: There is none, or its manifest is damaged or of a later format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError(
            f"is no checkpoint: {MANIFEST} is missing",
            where=str(folder),
            mend=f"a folder such as OUT/{FOLDER}/step-00000100",
        )
    try:
        told = json.loads(path.read_text())
        if told["format"] != FORMAT:
            raise ConfigError(
                f"is of format {told['format']}, not {FORMAT}",
                where=str(path),
                mend="the version that wrote it",
            )
        if told.pop("sum") != json_digest(told):
            raise ValueError("its sum differs")
        if not all(GROUP.fullmatch(name.removesuffix(SUFFIX)) for name in told["files"]):
            raise ValueError("it names files that are none of a checkpoint")
        return Checkpoint(told["step"], folder, told["about"], told["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(
            f"is damaged: {MANIFEST}: {exc}", where=str(folder), mend="another checkpoint"
        ) from exc


def _write_folder(
    folder: Path, groups: Mapping[str, Mapping[str, Tensor]], manifest: dict[str, Any]
) -> None:
    """All files of a checkpoint, flushed; the manifest last."""
    folder.mkdir()
    paths = []
    for group, tensors in groups.items():
        path = folder / f"{group}{SUFFIX}"
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(flat, path)
        path.chmod(0o644)  # safetensors makes files for their owner alone
        _flush(path)
        paths.append(path)
    with ThreadPoolExecutor(HASHING) as pool:
        sums = list(pool.map(file_sha256, paths))
    manifest["files"] = {
        path.name: {"bytes": path.stat().st_size, "sha256": found}
        for path, found in zip(paths, sums, strict=True)
    }
    manifest = json.loads(json.dumps(manifest))  # as it will be read: all keys are text
    manifest["sum"] = json_digest(manifest)
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    _flush(path)
    _flush(folder)


def _prune(root: Path, newest: Path, keep: int, keep_every: int | None) -> None:
    """Remove what is not kept; what cannot be removed is told, and stays."""
    folders = _folders(root)
    step = _place(newest)[0]
    earlier = [folder for folder in folders if _place(folder)[0] < step]
    kept = {newest, *earlier[len(earlier) - keep + 1 :]}
    if keep_every is not None:
        last_of_step = {_place(folder)[0]: folder for folder in earlier}
        kept |= {folder for at, folder in last_of_step.items() if at % keep_every == 0}
    for folder in folders:
        if folder not in kept:
            # Under a name of a leftover first: a folder that is removed in part is no checkpoint.
            gone = root / f".{folder.name}.tmp-{uuid.uuid4().hex[:8]}"
            try:
                os.rename(folder, gone)
                shutil.rmtree(gone)
            except OSError as exc:
                log.warning("%s: cannot be removed: %s", folder, exc.strerror)


def _remove_leftovers(out: Path) -> None:
    """Of writes that were killed."""
    for path in (out / FOLDER).glob(".step-*.tmp-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in out.glob(f".{LATEST}.tmp-*"):
        path.unlink(missing_ok=True)


def _folders(root: Path) -> list[Path]:
    """Folders with the name of a checkpoint, oldest first."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted((p for p in found if NAME.fullmatch(p.name) and p.is_dir()), key=_place)


def _place(folder: Path) -> tuple[int, int]:
    match = NAME.fullmatch(folder.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _same(one: Path, other: Path) -> bool:
    """Are both whole, with the same tensors and the same told of them?"""
    try:
        first = open_checkpoint(one)
        first.check()
        return (one / MANIFEST).read_bytes() == (other / MANIFEST).read_bytes()
    except (ConfigError, OSError):
        return False


def _named(pointer: Path) -> str | None:
    """Name of the folder that ``latest.json`` tells; None where it cannot be read."""
    try:
        return str(json.loads(pointer.read_text())["checkpoint"]).removeprefix(f"{FOLDER}/")
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _flush(path: Path) -> None:
    """Have the disk hold a file's bytes, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as exc:
        if exc.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise  # some network file systems cannot do it for folders
    finally:
        os.close(handle)


@contextlib.contextmanager
def _refusals_told(root: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as exc:
        raise ConfigError(
            f"a checkpoint cannot be written: {getattr(exc, 'strerror', None) or exc}",
            where=str(root),
            mend="room on the disk and the right to write there, then start again: it goes on",
        ) from exc
