"""Storage: nobody sees half a file, nothing leaves the root, local and remote alike."""

from __future__ import annotations

import errno
import io
import pickle
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from curation.errors import CatalogError, ErrorCode, MediaError
from curation.storage import Storage, fetch


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A root on this disk, and one in memory through fsspec, as an object store would be."""
    if request.param == "local":
        yield Storage(tmp_path / "root")
        return
    url = f"memory://{uuid.uuid4().hex}/root"
    yield Storage(url)
    fs = fsspec.filesystem("memory")
    if fs.exists(url):
        fs.rm(url, recursive=True)


def leftovers(storage: Storage) -> list[str]:
    """Files that are neither wanted nor cleaned up."""
    return [n for n in storage.walk("") if ".tmp-" in n]


def test_write_read_list_remove(storage: Storage) -> None:
    assert storage.list("a") == []
    assert storage.walk("a") == []
    assert storage.read_json("a/x.json") is None
    storage.write_bytes("a/b/one.bin", b"1")
    storage.write_bytes("a/two.bin", b"22")
    storage.write_json("a/x.json", {"k": [1, None]})
    assert storage.read_bytes("a/two.bin") == b"22"
    assert storage.size_bytes("a/two.bin") == 2
    assert storage.read_json("a/x.json") == {"k": [1, None]}
    assert storage.list("a") == ["a/two.bin", "a/x.json"]
    assert storage.list("a", ".json") == ["a/x.json"]
    assert storage.walk("a") == ["a/b/one.bin", "a/two.bin", "a/x.json"]
    assert storage.exists("a/b")
    with storage.open_read("a/two.bin") as source:
        assert source.read() == b"22"
    storage.rename("a/two.bin", "c/three.bin")
    assert not storage.exists("a/two.bin")
    assert storage.read_bytes("c/three.bin") == b"22"
    storage.remove("c/three.bin")
    storage.remove("c/three.bin")  # missing is fine
    storage.remove_tree("a")
    storage.remove_tree("a")
    assert not storage.exists("a")


def test_a_failing_writer_leaves_the_old_file(storage: Storage) -> None:
    storage.write_bytes("a/file", b"old")
    with pytest.raises(RuntimeError, match="torn"), storage.open_write("a/file") as out:
        out.write(b"half of the new ")
        out.flush()
        assert storage.read_bytes("a/file") == b"old"  # not before it is whole
        raise RuntimeError("torn")
    assert storage.read_bytes("a/file") == b"old"
    assert not leftovers(storage)
    with pytest.raises(RuntimeError, match="torn"), storage.open_write("a/new") as out:
        raise RuntimeError("torn")
    assert not storage.exists("a/new")
    assert storage.list("a") == ["a/file"]


def test_a_writer_of_many_pieces(storage: Storage) -> None:
    with storage.open_write("deep/er/file") as out:
        for i in range(1000):
            out.write(bytes([i % 256]) * 1000)
    assert storage.size_bytes("deep/er/file") == 1_000_000
    assert not leftovers(storage)


def test_unfinished_json_is_none(storage: Storage) -> None:
    storage.write_bytes("x.json", b'{"half": ')
    assert storage.read_json("x.json") is None


def test_put_file_publishes_and_takes_the_local_one(storage: Storage, tmp_path: Path) -> None:
    made = tmp_path / "made.bin"
    made.write_bytes(b"content")
    storage.write_bytes("m/clip.mp4", b"old")
    storage.put_file(made, "m/clip.mp4")
    assert storage.read_bytes("m/clip.mp4") == b"content"
    assert not made.exists()
    assert not leftovers(storage)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a/\x00b", ".."])
def test_no_name_leaves_the_root(storage: Storage, name: str) -> None:
    for act in (storage.path, storage.uri, storage.read_bytes, storage.exists, storage.remove_tree):
        with pytest.raises(CatalogError, match="leaves the dataset root"):
            act(name)
    with pytest.raises(CatalogError), storage.open_write(name):
        pass


def test_exclusive_creation(storage: Storage) -> None:
    assert storage.create_exclusive("claims/a", b"mine")
    assert not storage.create_exclusive("claims/a", b"yours")
    assert storage.read_bytes("claims/a") == b"mine"
    assert storage.list("claims") == ["claims/a"]
    assert not leftovers(storage)


def test_one_of_many_wins(tmp_path: Path) -> None:
    """Eight threads race for each of fifty names; nobody ever reads a half-written claim."""
    storage, wins, torn = Storage(tmp_path), [], []
    start = threading.Barrier(8)

    def race(me: int) -> None:
        start.wait()
        for i in range(50):
            if storage.create_exclusive(f"c/{i}", b"owner %d" % me):
                wins.append(i)
            if not storage.read_bytes(f"c/{i}").startswith(b"owner "):
                torn.append(i)

    threads = [threading.Thread(target=race, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(50))
    assert not torn


def test_travels_to_workers(storage: Storage) -> None:
    storage.write_bytes("x", b"1")
    again = pickle.loads(pickle.dumps(storage))
    assert again.read_bytes("x") == b"1"
    assert again.uri("x") == storage.uri("x")


def test_uri_opens_elsewhere(storage: Storage) -> None:
    storage.write_bytes("a/x", b"1")
    with fsspec.open(storage.uri("a/x"), "rb") as source:
        assert source.read() == b"1"  # pyright: ignore[reportAttributeAccessIssue]


def test_fetch_reads_every_byte_once(tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000
    local = tmp_path / "video.mp4"
    local.write_bytes(data)
    fsspec.filesystem("memory").pipe("/fetch/video.mp4", data)
    for uri, place in ((str(local), local), ("memory://fetch/video.mp4", tmp_path / "source.mp4")):
        chunks = []
        path = fetch(uri, tmp_path, chunks.append, suffix=".mp4")
        assert Path(path) == place
        assert b"".join(chunks) == data
        assert Path(path).read_bytes() == data


class Broken(MemoryFileSystem):
    """A store whose files fail as they are told to."""

    protocol = "broken"
    store = {}  # noqa: RUF012 - as in the base class
    failures = {  # noqa: RUF012
        "denied": PermissionError("no"),
        "full": OSError(errno.ENOMEM, "no memory"),
        "reset": ConnectionResetError("gone"),
        "strange": RuntimeError("a library's own"),
    }

    def _open(self, path: str, mode: str = "rb", **kwargs: object) -> io.BytesIO:  # pyright: ignore
        raise self.failures[path.rsplit("/", 1)[-1]]


@pytest.mark.parametrize(
    ("uri", "code", "retryable"),
    [
        ("{tmp}/gone.mp4", ErrorCode.NOT_FOUND, True),
        ("{tmp}/empty.mp4", ErrorCode.EMPTY_FILE, False),
        ("{tmp}/folder", ErrorCode.NOT_READABLE, True),
        ("{tmp}/empty.mp4/inside.mp4", ErrorCode.NOT_FOUND, True),
        ("memory://nowhere/gone.mp4", ErrorCode.NOT_FOUND, True),
        ("nosuchscheme://bucket/x.mp4", ErrorCode.NOT_READABLE, True),
        ("broken://x/denied", ErrorCode.NOT_READABLE, True),
        ("broken://x/full", ErrorCode.OUT_OF_MEMORY, True),
        ("broken://x/reset", ErrorCode.NETWORK_ERROR, True),
        ("broken://x/strange", ErrorCode.NETWORK_ERROR, True),
    ],
)
def test_fetch_errors_have_codes(tmp_path: Path, uri: str, code: str, retryable: bool) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    fsspec.register_implementation("broken", Broken, clobber=True)
    with pytest.raises(MediaError) as caught:
        fetch(uri.format(tmp=tmp_path), tmp_path, lambda chunk: None)
    assert caught.value.code == code
    assert caught.value.retryable == retryable
    assert pickle.loads(pickle.dumps(caught.value)).code == code
