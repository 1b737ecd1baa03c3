"""Removing clips and videos from a real dataset: what goes, what stays, and that it stays away."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from curation.catalog.catalog import Catalog
from curation.errors import CatalogError, ConfigError
from curation.removal.choose import Selection
from curation.removal.history import keep_blank
from curation.schema import DUPLICATES
from pipelines.remove import plan_lines, plan_removal, register
from tests.faults.helpers import dump, query
from tests.removal.parts import WORDS, Made


def holders(root: Path, needle: bytes) -> list[str]:
    """Files below a root that hold some bytes, found the plain way."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return [str(p.relative_to(root)) for p in files if needle in p.read_bytes()]


def command(*arguments: str) -> Any:  # noqa: ANN401 - a result of typer's own click
    """The command line with this one command."""
    app = typer.Typer()
    register(app)
    app.command()(lambda: None)  # of one command alone the name would be left out
    return CliRunner().invoke(app, list(arguments))


def frames_of(made: Made, clip: dict) -> list[bytes]:
    rows = query(
        made.out,
        f"SELECT jpeg FROM frames WHERE video_id = '{clip['video_id']}' "
        f"AND sample_pts >= {clip['start_pts']} AND sample_pts < {clip['end_pts']}",
    )
    return [r["jpeg"] for r in rows]


def prints_of(made: Made, clip: dict) -> tuple[list[bytes], list[bytes]]:
    """Prints of frames inside a clip, and of the others of its video."""
    where = f"video_id = '{clip['video_id']}'"
    rows = query(made.out, f"SELECT frame_pts, frame_print FROM segments WHERE {where}")
    prints = [p for r in rows for p in zip(r["frame_pts"], r["frame_print"], strict=True)]
    found: tuple[list[bytes], list[bytes]] = ([], [])
    for pts, value in prints:
        if value is not None:
            found[not clip["start_pts"] <= pts < clip["end_pts"]].append(value)
    return found


def test_a_removed_clip_is_gone_from_every_byte_and_stays_away(made: Made) -> None:
    clip = made.clips()[1]
    media = (made.out / clip["media_path"]).read_bytes()
    pictures = frames_of(made, clip)
    # The last part of a JPEG is its picture, not tables that all files share.
    tails = [p[-200:-100] for p in pictures]
    assert pictures and all(holders(made.out, tail) for tail in tails)
    tars, index = made.tars(), made.index()
    concerned = index[clip["clip_id"]]

    removed = made.remove(clips=[clip["clip_id"][:10]])

    assert removed.removal.clips == [clip["clip_id"]] and not removed.removal.videos
    assert removed.proof.found == []
    assert removed.proof.needles["clip id"] == 1 and removed.proof.needles["media"] > 0
    named = holders(made.out, clip["clip_id"].encode())
    assert named and all(name.startswith("catalog/tombstones.lance/") for name in named)
    assert not any(holders(made.out, tail) for tail in tails)
    assert holders(made.out, media[-2000:-1900]) == []
    assert not (made.out / clip["media_path"]).exists()
    left = made.tars()
    assert len(tars) > 2 and left.keys() == tars.keys()
    assert [name for name in tars if left[name] != tars[name]] == [concerned]
    assert set(made.index()) == set(index) - {clip["clip_id"]}
    assert made.problems() == []
    spans = query(made.out, "SELECT reason, start_s, end_s FROM spans WHERE reason = 'removed'")
    assert spans == [{"reason": "removed"} | {k: clip[k] for k in ("start_s", "end_s")}]

    before = dump(made.out)
    report = made.curate()
    assert report.balanced and report.shards is not None and report.shards.reused
    assert sum(s["videos_run"] for s in report.stages.values()) == 0
    assert dump(made.out) == before and made.tars() == left and made.problems() == []


def test_neither_another_split_nor_new_signals_bring_it_back(made: Made) -> None:
    report = made.curate(split={"max_s": 1.0, "overlap_s": 0.3})
    assert report.balanced
    clips = [c for c in made.clips() if c["uri"] == str(made.inputs[0])]
    clip, both = clips[1], [clips[0], clips[2]]
    assert all(c["start_s"] < clip["end_s"] and clip["start_s"] < c["end_s"] for c in both)
    assert frames_of(made, clip) and prints_of(made, clip)[0]

    planned = plan_removal(str(made.out), Selection(clips=[clip["clip_id"]]), "overlap")
    assert {c["clip_id"] for c in both} <= set(planned.overlapping)
    assert clip["clip_id"] not in planned.overlapping
    assert "frames shared with a named one" in "\n".join(plan_lines(planned))
    removed = made.remove(clips=[clip["clip_id"]])
    # The clips of the first split that held these frames went too, though no view shows them.
    assert len(removed.removal.clips) > 3 and removed.proof.found == []
    assert made.problems() == []

    report = made.curate(split={"min_s": 0.5, "max_s": 0.7}, signals={"sample_interval_s": 0.25})
    assert report.balanced, report.account.imbalances
    mine = [c for c in made.clips() if c["video_id"] == clip["video_id"]]
    assert len(mine) > 3
    assert not any(
        c["start_pts"] < clip["end_pts"] and clip["start_pts"] < c["end_pts"] for c in mine
    )
    gone_s = report.account.seconds_by_reason["removed"]
    assert clip["end_s"] - clip["start_s"] - 1e-6 <= gone_s < 3
    where = f"video_id = '{clip['video_id']}'"
    pts = [r["sample_pts"] for r in query(made.out, f"SELECT sample_pts FROM frames WHERE {where}")]
    assert len(pts) > 12
    assert not any(clip["start_pts"] <= p < clip["end_pts"] for p in pts)
    inside, outside = prints_of(made, clip)
    assert not inside and len(outside) > 10
    assert made.problems() == []


def test_a_removed_video_keeps_its_place_and_nothing_else(made: Made, tmp_path: Path) -> None:
    video = made.inputs[1]
    mine = [c for c in made.clips() if c["uri"] == str(video)]
    assert query(made.out, "SELECT caption FROM sources ORDER BY uri")[1]["caption"] == WORDS

    named = ["remove", str(made.out), "--source", str(video), "--reason", "consent", "--json"]
    asked = command(*named)
    assert isinstance(asked.exception, ConfigError) and "--yes" in str(asked.exception)
    planned = json.loads(command(*named, "--dry-run").stdout)
    assert planned["clips"] == sorted(c["clip_id"] for c in mine) and planned["dry_run"]
    done = command(*named, "--yes")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["clips"] == planned["clips"] and told["rows"] == planned["rows"]
    assert told["proof"]["found"] == [] and told["proof"]["needles"]["text"] > 0
    assert told["seconds"] == 5.0
    assert holders(made.out, WORDS.encode()) == []
    rows = query(made.out, "SELECT uri, status, caption, video_id FROM sources ORDER BY uri")
    assert [r["status"] for r in rows] == ["done", "removed"]
    assert rows[1] == {
        "uri": str(video),
        "status": "removed",
        "caption": None,
        "video_id": mine[0]["video_id"],
    }
    assert made.problems() == []

    copy = Path(shutil.copy(video, tmp_path / "under another name.mp4"))
    report = made.curate([*made.inputs, copy])
    assert report.balanced, report.account.imbalances
    assert report.account.videos == {
        **{"total": 3, "done": 1, "failed": 0, "removed": 2, "pending": 0, "duplicates": 1}
    }
    catalog = Catalog.open(str(made.out))
    allowed = {"tombstones", "identities"}
    for table in set(catalog.tables()) - allowed:
        dataset = catalog.dataset(table)
        if "video_id" in dataset.schema.names:
            assert dataset.count_rows(f"video_id = '{mine[0]['video_id']}'") == 0, table
    keep_blank(catalog, "r")  # the file beside the video brought the words again
    assert holders(made.out, WORDS.encode()) == [] and made.problems() == []
    # Nothing pends: the next run is an empty one.
    report = made.curate([*made.inputs, copy])
    assert sum(s["videos_run"] for s in report.stages.values()) == 0


def test_a_dry_run_changes_nothing(made: Made) -> None:
    before = dump(made.out), made.tars(), sorted(made.out.rglob("*"))
    planned = plan_removal(str(made.out), Selection(sources=[str(made.inputs[0])]), "see")
    assert planned.num_files == len(planned.clips) and planned.rows["clips"] == len(planned.clips)
    assert planned.shards and planned.seconds == pytest.approx(5.5)
    planned = plan_removal(str(made.out), Selection(where="start_s < 0.5"), "see")
    assert planned.clips == sorted(c["clip_id"] for c in made.clips() if c["start_s"] < 0.5)
    assert len(planned.clips) == 2 and not planned.videos
    assert (dump(made.out), made.tars(), sorted(made.out.rglob("*"))) == before


def test_clips_that_show_the_same_are_told_and_taken_along_on_request(made: Made) -> None:
    first, same, other = (c["clip_id"] for c in made.clips()[:3])
    rows = [{"clip_id": c, "group_id": first, "representative": c == first} for c in (first, same)]
    rows.append({"clip_id": other, "group_id": other, "representative": True})
    catalog = Catalog.open(str(made.out))
    catalog.append("duplicates", pa.Table.from_pylist(rows, schema=DUPLICATES))
    planned = plan_removal(str(made.out), Selection(clips=[first]), "see")
    assert (planned.clips, planned.duplicates) == ([first], [same])
    assert "--duplicates" in "\n".join(plan_lines(planned))
    assert planned.rows["duplicates"] == 2, "also the row of the group named after it"
    selection = Selection(clips=[first], with_duplicates=True)
    planned = plan_removal(str(made.out), selection, "see")
    assert (planned.clips, planned.duplicates) == (sorted([first, same]), [])
    assert len(planned.tombstones) == 2


@pytest.mark.parametrize(
    ("named", "error", "says"),
    [
        ({"clips": ["xyz"]}, ConfigError, "no id"),
        ({"clips": ["0000000000"]}, CatalogError, "no clip of this dataset"),
        ({"videos": ["ffffffffff"]}, CatalogError, "no video of this dataset"),
        ({"sources": ["/nowhere.mp4"]}, CatalogError, "no source"),
        ({"where": "start_s > 1e9"}, CatalogError, "fits no clip"),
        ({"where": "nonsense = 1"}, CatalogError, "nonsense"),
    ],
)
def test_what_cannot_be_found_is_refused(
    original: Made, named: dict, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan_removal(str(original.out), Selection(**named), "why")


def test_a_reason_is_needed(original: Made) -> None:
    with pytest.raises(ConfigError, match="reason"):
        plan_removal(str(original.out), Selection(where="true"), "  ")
    with pytest.raises(ConfigError, match="nothing is named"):
        Selection()
