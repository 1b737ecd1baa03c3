"""SIGKILL while answers that cost money arrive: what was stored is never asked for again.

python -m tests.faults.test_captions_kill ROOT URL

captions 20 clips in this process with the stage ``caption`` and the server at URL, and prints the
rows as JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from curation.captions.ledger import FOLDER
from tests.captions.scripted import COLOURS
from tests.captions.server import Act, FaultServer, seen_text, serve
from tests.captions.test_openai_stage import Clips, captions, stage_of

REPO = Path(__file__).resolve().parents[2]
NUM_CLIPS, CONCURRENCY = 20, 3
NUM_REQUESTS = NUM_CLIPS + 2
"""With two canaries."""
CLIPS: Clips = [(f"clip{i}", list(COLOURS)[i % 6]) for i in range(NUM_CLIPS)]


def start(root: Path, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.test_captions_kill", str(root), url],
        cwd=REPO,
        env=os.environ | {"PYTHONPATH": str(REPO)},
        stdout=subprocess.PIPE,
        text=True,
    )


def kill_at(process: subprocess.Popen[str], server: FaultServer, num_calls: int) -> None:
    """SIGKILL when the server has seen so many calls, and let the server finish with them."""
    deadline = time.monotonic() + 120
    while len(server.calls) < num_calls:
        assert process.poll() is None, "it ended before its moment"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    time.sleep(0.3)


def stored(root: Path) -> set[str]:
    """Ids of the requests with a whole answer in the ledger."""
    files = [p for p in (root / FOLDER).rglob("*") if p.is_file() and p.suffix == ".json"]
    return {json.loads(p.read_bytes())["reply"]["request_id"] for p in files}


def vouched(ids: set[str]) -> set[str]:
    """Of stored answers those to clips, if a canary's stands beside them: these are believed."""
    clips = {name for name in ids if name.startswith("clip")}
    return clips if clips < ids else set()


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_no_stored_answer_is_asked_for_again(kills: int, tmp_path: Path) -> None:
    pytest.importorskip("openai")
    rng = random.Random(kills)
    with serve(lambda c: Act(text=seen_text(c), wait_s=rng.uniform(0.03, 0.15))) as server:
        for i in range(kills):
            before = server.counts(), stored(tmp_path)
            process = start(tmp_path, server.url)
            step = (NUM_REQUESTS - len(before[1])) // (kills - i + 1)
            kill_at(process, server, len(server.calls) + max(1, step))
            calls = server.counts()
            assert all(calls[name] == before[0][name] for name in vouched(before[1]))
            assert vouched(before[1]) <= stored(tmp_path)
        paid, calls = stored(tmp_path), server.counts()
        assert 0 < len(paid) < NUM_REQUESTS
        out, _ = start(tmp_path, server.url).communicate(timeout=120)
        after = server.counts()
    rows: dict[str, dict[str, Any]] = json.loads(out.strip().splitlines()[-1])
    assert sorted(rows) == sorted(name for name, _ in CLIPS)
    for clip_id, colour in CLIPS:
        assert f"plain {colour}" in rows[clip_id]["caption_short"]
        assert f"as {clip_id}/0." in rows[clip_id]["caption_short"]
    for name in vouched(paid):
        assert after[name] == calls[name]
    assert len(after) == NUM_REQUESTS
    # Canaries are sent anew with the rest, and the first answers may have had none beside them.
    assert sum(after.values()) <= NUM_REQUESTS + kills * (2 * CONCURRENCY + 2)
    assert len(stored(tmp_path)) == NUM_REQUESTS


def main() -> None:
    root, url = sys.argv[1:3]
    rows, failures = captions(stage_of(Path(root), url, concurrency=CONCURRENCY), CLIPS)
    assert not failures, failures
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
