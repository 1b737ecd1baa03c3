"""A source's bytes: hashed once, recognised when unchanged; scratch of dead workers goes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from curation.engine.locate import hash_source, local_path_if_unchanged, scratch_folder
from curation.errors import MediaError
from curation.storage import Storage
from pipelines.config import InputSettings
from pipelines.sources import expand
from tests.faults.helpers import REPO


def test_a_source_is_hashed_with_a_heartbeat(tmp_path: Path) -> None:
    data = os.urandom(9 * 2**20)
    (tmp_path / "v.mp4").write_bytes(data)
    beats: list[None] = []
    given, sha = hash_source(
        str(tmp_path / "v.mp4"), tmp_path / "scratch", lambda: beats.append(None)
    )
    assert sha == hashlib.sha256(data).hexdigest() and len(beats) == 3
    assert given == {
        "uri": str(tmp_path / "v.mp4"),
        "local_path": str(tmp_path / "v.mp4"),  # read in place
        "size_bytes": len(data),
    }


def test_a_remote_source_is_copied_on_the_way(tmp_path: Path) -> None:
    Storage("memory://bucket").write_bytes("in/v.mp4", b"bytes")
    given, sha = hash_source("memory://bucket/in/v.mp4", tmp_path, lambda: None)
    assert Path(given["local_path"]).read_bytes() == b"bytes"
    assert (
        Path(given["local_path"]).suffix == ".mp4" and sha == hashlib.sha256(b"bytes").hexdigest()
    )


def test_the_state_of_a_listed_source_is_recognised(tmp_path: Path) -> None:
    """Both rooms must mean the same by an etag, or every video would be read twice."""
    video = tmp_path / "v.mp4"
    video.write_bytes(b"12345")
    (row,) = expand([str(video)], InputSettings())
    found = local_path_if_unchanged(row["uri"], row["etag"])
    assert found == {"uri": str(video), "local_path": str(video), "size_bytes": 5}
    os.utime(video, (1, 1))
    assert local_path_if_unchanged(row["uri"], row["etag"]) is None
    video.unlink()
    assert local_path_if_unchanged(row["uri"], row["etag"]) is None
    assert local_path_if_unchanged("s3://b/v.mp4", row["etag"]) is None
    with pytest.raises(MediaError, match="not_found"):
        hash_source(str(video), tmp_path, lambda: None)


def test_scratch_of_a_dead_worker_goes_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    script = (
        "import os, signal; from curation.storage import Storage\n"
        "from curation.engine.locate import scratch_folder\n"
        f"with scratch_folder(Storage({str(tmp_path)!r}), 's') as folder:\n"
        "    (folder / 'copy.mp4').touch(); print(folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False
    )
    left = Path(dead.stdout.strip())
    assert left.parent == Path(tempfile.gettempdir()) and (left / "copy.mp4").exists()
    storage = Storage(tmp_path)
    with scratch_folder(storage, "other"):
        assert left.exists(), "it belongs to another source"
    with scratch_folder(storage, "s") as mine:
        assert not left.exists()
        with scratch_folder(storage, "s") as second:
            assert mine.exists() and second != mine
    assert not mine.exists()
