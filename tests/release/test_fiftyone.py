"""FiftyOne itself reads what is exported for it: in another Python, for it wants a MongoDB.

``CLIPMILL_FIFTYONE`` names a Python that has ``fiftyone``; without it, this one is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from curation.catalog.catalog import Catalog
from pipelines.export.choice import choose
from pipelines.export.fiftyone import write_fiftyone
from tests.faults.helpers import query

FIND = "import importlib.util, sys; sys.exit(not importlib.util.find_spec('fiftyone'))"
PYTHON = os.environ.get("CLIPMILL_FIFTYONE", sys.executable)
READ = """
import json, sys
import fiftyone as fo

try:
    fo.list_datasets()
except Exception as exc:
    print("NONE" + type(exc).__name__ + ": " + str(exc))
    sys.exit()
for folder in sys.argv[2:]:
    found = fo.Dataset.from_dir(folder, dataset_type=fo.types.FiftyOneDataset)
    sharp = found.match(fo.ViewField("sharpness") > float(sys.argv[1]))
    labels = found.count_values("events.detections.label")
    print("FOUND" + json.dumps({
        "count": len(found), "kind": found.media_type, "tags": found.count_sample_tags(),
        "files": sorted(s.filepath for s in found), "sharp": sorted(sharp.values("clip_id")),
        "clips": len(found.to_clips("events")), "labels": labels,
        "reasons": found.count_values("reasons.classifications.label"),
        "margins": found.distinct("reasons.classifications.margin"),
        "fps": found.distinct("metadata.frame_rate"), "lists": found.distinct("caption_flags"),
    }))
    found.delete()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A database of the test's own; skips where FiftyOne is not installed."""
    if subprocess.run([PYTHON, "-c", FIND]).returncode:
        pytest.skip("no fiftyone (set CLIPMILL_FIFTYONE to a Python that has it)")
    own = {"FIFTYONE_DATABASE_DIR": str(tmp_path / "db"), "FIFTYONE_DO_NOT_TRACK": "true"}
    return {**os.environ, **own, "HOME": str(tmp_path)}


def test_fiftyone_reads_it(root: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    catalog = Catalog.open(str(root))
    events = '[{"start_s": 0.1, "end_s": 0.5, "text": "it moves"}]'
    catalog.dataset("captions").update({"caption_events": f"'{events}'"})
    verdicts = catalog.dataset("verdicts")
    verdicts.update({"reasons": "['low_x']", "margins": "[-0.5]"}, where="verdict = 'kept'")
    folders = [tmp_path / "linked", tmp_path / "named"]
    count = write_fiftyone(catalog, choose(catalog), folders[0], link=True)
    assert write_fiftyone(catalog, choose(catalog), folders[1]) == count
    kept = query(root, "SELECT * FROM clips WHERE verdict = 'kept'")
    bound = sorted(c["sharpness"] for c in kept)[len(kept) // 2]
    command = [PYTHON, "-c", READ, repr(bound), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "NONE" in done.stdout:
        pytest.skip(f"fiftyone has no database here: {done.stdout.partition('NONE')[2]}")
    assert done.returncode == 0, done.stderr[-2000:]
    texts = [t.partition("FOUND")[2] for t in done.stdout.splitlines() if "FOUND" in t]
    places = [folders[0] / "data", root / "media"]
    for found, place in zip(map(json.loads, texts), places, strict=True):
        assert found["count"] == count == len(kept) and found["kind"] == "video"
        assert found["tags"] == {"kept": count}
        assert found["labels"] == {"it moves": count} and found["clips"] == count
        assert found["reasons"] == {"low_x": count} and found["margins"] == [-0.5]
        assert found["sharp"] == sorted(c["clip_id"] for c in kept if c["sharpness"] > bound)
        assert all(Path(f).is_file() and f.startswith(str(place)) for f in found["files"])
        assert found["fps"] == [10.0]
        assert set(found["lists"]) == {f for c in kept for f in c["caption_flags"]}
