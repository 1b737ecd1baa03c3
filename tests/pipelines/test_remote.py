"""Inputs by URL, and a dataset root that is not a local folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from curation.catalog.views import open_views
from pipelines.config import load_config
from pipelines.curate import curate
from pipelines.demo import demo_footage

pytest.importorskip("aiohttp")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def server() -> Iterator[str]:
    handler = partial(_Quiet, directory=str(demo_footage()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()


def test_http_input_and_a_missing_url(server: str, tmp_path: object) -> None:
    out = f"{tmp_path}/out"
    inputs = [f"{server}/bikes.mp4", f"{server}/nothing.mp4"]
    config = load_config(None, ["run.engine=inline", "split.min_s=1"])
    report = curate(inputs, out, config)
    assert report.balanced
    assert report.account.videos["done"] == 1
    assert report.account.errors_by_code == {"not_found": 1}
    local = curate([str(demo_footage() / "bikes.mp4")], f"{tmp_path}/local", config)
    query = "SELECT clip_id, motion_per_s, media_sha256 FROM clips ORDER BY clip_id"
    assert open_views(out).query(query).equals(open_views(f"{tmp_path}/local").query(query))
    assert local.balanced
