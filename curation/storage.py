"""Files of a dataset root, local or remote, through fsspec: atomic writes, no path leaves the root.

A write goes to a temporary name beside the target and is renamed, so a reader never sees half a
file. For an object store it goes to a local temporary file first, which is then put in one piece:
closing a half-written remote file would publish it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from curation.errors import CatalogError, DamagedError, ErrorCode, MediaError

CHUNK_BYTES = 4 * 2**20
DAMAGE = (pa.ArrowException, OSError, ValueError, LookupError)
"""What Arrow raises at bytes that are no sound Parquet: most often a plain OSError."""


class Storage:
    """A folder of files named by POSIX paths relative to it.

    Args:
        root: A local path, or a URL that fsspec understands (``s3://bucket/data``).
    """

    def __init__(self, root: str | Path) -> None:
        text = os.fspath(root)
        fs, path = fsspec.core.url_to_fs(text)
        self.fs: fsspec.AbstractFileSystem = fs
        self.local = isinstance(fs, LocalFileSystem)
        self.root = str(Path(path).resolve()) if self.local else path.rstrip("/")
        self.url = self.root if self.local else text.rstrip("/")

    def __reduce__(self) -> tuple[type[Storage], tuple[str]]:
        """Travel to workers as the URL alone."""
        return Storage, (self.url,)

    def path(self, name: str) -> str:
        """The full path of a relative name.

        Raises:
            CatalogError: The name is absolute or climbs out of the root.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or "\x00" in name:
            raise CatalogError("path leaves the dataset root", where=repr(name))
        return f"{self.root}/{pure}"

    def uri(self, name: str) -> str:
        """The name as a URL or path that other libraries open."""
        self.path(name)
        return f"{self.url}/{name}"

    def exists(self, name: str) -> bool:
        """True when a file or folder has this name."""
        return bool(self.fs.exists(self.path(name)))

    def size_bytes(self, name: str) -> int:
        """The size of a file."""
        return int(self.fs.info(self.path(name))["size"])

    def list(self, name: str, suffix: str = "") -> list[str]:
        """Sorted names of the files directly in a folder; empty when there is none."""
        self.fs.invalidate_cache()
        try:
            entries = self.fs.ls(self.path(name), detail=True)
        except FileNotFoundError:
            return []
        bases = [PurePosixPath(e["name"]).name for e in entries if e["type"] == "file"]
        return sorted(f"{name}/{b}" for b in bases if b.endswith(suffix) and ".tmp-" not in b)

    def walk(self, name: str) -> list[str]:
        """Sorted names of all files below a folder."""
        self.fs.invalidate_cache()
        if not self.exists(name):
            return []
        found = cast("list[str]", self.fs.find(self.path(name)))
        prefix = f"{self.root}/"
        return sorted(str(f).removeprefix(prefix) for f in found)

    def open_read(self, name: str) -> BinaryIO:
        """Open a file for reading bytes."""
        return cast(BinaryIO, self.fs.open(self.path(name), "rb"))

    @contextlib.contextmanager
    def open_table(
        self,
        name: str,
        *,
        mend: str = "",
        **options: Any,  # noqa: ANN401 - of ParquetFile
    ) -> Iterator[pq.ParquetFile]:
        """Open a Parquet table; the block does nothing but read it.

        What the reader of Parquet cannot make sense of is damage, and so is a page that differs
        from its checksum, where it has one. What the store itself raises (no such file, no network,
        no right to read) is none and passes as it is.

        Raises:
            DamagedError: With the mend that was given.
        """
        with self.open_read(name) as source:
            watched = _Watched(source)
            try:
                yield pq.ParquetFile(watched, page_checksum_verification=True, **options)
            except DAMAGE as exc:
                if watched.failed:
                    raise
                raise DamagedError(f"damaged: {_first_line(exc)}", where=name, mend=mend) from exc

    def local_copy(self, name: str, folder: Path) -> str:
        """Path of a file for readers that need one: itself, or a copy in a scratch folder."""
        if self.local:
            return self.path(name)
        target = folder / PurePosixPath(name).name
        with self.open_read(name) as inp, target.open("wb") as out:
            shutil.copyfileobj(inp, out)
        return str(target)

    @contextlib.contextmanager
    def open_write(self, name: str) -> Iterator[BinaryIO]:
        """Write a file under a temporary name and publish it when the block ends well."""
        target = self.path(name)
        self.fs.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
        if not self.local:
            with tempfile.TemporaryDirectory(prefix="clipmill-put-") as folder:
                staged = Path(folder) / "file"
                with open(staged, "wb") as out:
                    yield out
                self.fs.put_file(str(staged), target)
            return
        temporary = f"{target}.tmp-{uuid.uuid4().hex[:8]}"
        try:
            with open(temporary, "wb") as out:
                yield out
            os.replace(temporary, target)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def read_bytes(self, name: str) -> bytes:
        """The whole content of a small file."""
        return cast(bytes, self.fs.cat_file(self.path(name)))

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write a small file atomically."""
        with self.open_write(name) as out:
            out.write(data)

    def read_json(self, name: str) -> Any:  # noqa: ANN401 - JSON is any
        """Parse a JSON file; None when it is missing, was never finished or is no JSON."""
        try:
            return json.loads(self.read_bytes(name))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
            return None

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON file atomically."""
        self.write_bytes(name, json.dumps(value, sort_keys=True).encode())

    def create_exclusive(self, name: str, data: bytes) -> bool:
        """Create a file unless it exists; True when this call created it."""
        target = self.path(name)
        if not self.local:  # no portable conditional put: a lost race is caught at commit
            if self.fs.exists(target):
                return False
            self.write_bytes(name, data)
            return True
        os.makedirs(os.path.dirname(target), exist_ok=True)
        temporary = f"{target}.tmp-{uuid.uuid4().hex[:8]}"
        try:
            with open(temporary, "wb") as out:
                out.write(data)
            _link(temporary, target)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        return True

    def remove(self, name: str) -> None:
        """Remove a file; missing is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.path(name))

    def remove_tree(self, name: str) -> None:
        """Remove a folder and all below it; missing is fine."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path(name), recursive=True)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, replacing the target."""
        if self.local:
            os.makedirs(os.path.dirname(self.path(new)), exist_ok=True)
            os.replace(self.path(old), self.path(new))
        else:
            self.fs.mv(self.path(old), self.path(new))

    def put_file(self, local: Path, name: str) -> None:
        """Publish a finished local file under a name (and remove the local one)."""
        target = self.path(name)
        if self.local:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            temporary = f"{target}.tmp-{uuid.uuid4().hex[:8]}"
            shutil.move(str(local), temporary)
            os.replace(temporary, target)
        else:
            self.fs.put_file(str(local), target)
            local.unlink()


class _Watched:
    """A file that remembers whether its store failed: that is no damage of what stands in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.failed = file, False
        self.closed = False  # asked by Arrow; the one who opened the file closes it

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        try:
            return self._file.read(size)
        except (MemoryError, OverflowError, ValueError):  # a damaged file tells of absurd sizes
            raise
        except Exception:  # aiohttp and botocore raise families of their own
            self.failed = True
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, of which the store hears at the next reading."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()

    def readable(self) -> bool:
        """Asked by Arrow."""
        return True

    def seekable(self) -> bool:
        """Asked by Arrow."""
        return True

    def close(self) -> None:
        """Nothing: see ``closed``."""


def _first_line(exc: BaseException) -> str:
    return next(iter(str(exc).splitlines()), type(exc).__name__)


def _link(finished: str, target: str) -> None:
    """Give a finished file a second name that must not exist: its content is there at once.

    Raises:
        FileExistsError: The name exists.
    """
    try:
        os.link(finished, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: the name is still claimed by one alone
        with open(target, "xb") as out, open(finished, "rb") as source:
            shutil.copyfileobj(source, out)


def fetch(uri: str, folder: Path, on_chunk: Callable[[bytes], object], *, suffix: str = "") -> str:
    """Read a source once, whole, in chunks; return a local path to its bytes.

    A local file is read in place; a remote one is copied to ``folder`` on the way.

    Args:
        uri: Local path or any fsspec URL.
        folder: Where a remote file is put.
        on_chunk: Called with every chunk in order (hashing, heartbeat).
        suffix: File ending of the copy.

    Raises:
        MediaError: ``not_found``, ``not_readable``, ``empty_file`` or ``network_error``.
    """
    try:
        fs, path = fsspec.core.url_to_fs(uri)
    except (ImportError, ValueError) as exc:
        raise MediaError(
            ErrorCode.NOT_READABLE, f"no file system for this URL here: {exc}"
        ) from exc
    try:
        local = isinstance(fs, LocalFileSystem)
        target = path if local else str(folder / f"source{suffix}")
        total = 0
        with fs.open(path, "rb") as inp, contextlib.ExitStack() as stack:
            out = None if local else stack.enter_context(open(target, "wb"))
            while chunk := inp.read(CHUNK_BYTES):
                total += len(chunk)
                on_chunk(chunk)
                if out is not None:
                    out.write(chunk)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise MediaError(ErrorCode.NOT_FOUND, f"no such file: {exc}") from exc
    except (PermissionError, IsADirectoryError) as exc:
        raise MediaError(ErrorCode.NOT_READABLE, str(exc)) from exc
    except OSError as exc:
        kind = ErrorCode.OUT_OF_MEMORY if exc.errno == errno.ENOMEM else ErrorCode.NETWORK_ERROR
        raise MediaError(kind, f"{type(exc).__name__}: {exc}") from exc
    except Exception as exc:  # aiohttp and botocore raise families of their own
        raise MediaError(ErrorCode.NETWORK_ERROR, f"{type(exc).__name__}: {exc}") from exc
    if total == 0:
        raise MediaError(ErrorCode.EMPTY_FILE, "the file has 0 bytes")
    return target


def host_name() -> str:
    """This machine's name, for leases."""
    return socket.gethostname()
