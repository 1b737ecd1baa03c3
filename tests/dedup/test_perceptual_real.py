"""From files to edges: the real stages, the real catalog."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from curation.catalog.views import Views
from curation.dedup.exact import Exact, exact_edges
from curation.dedup.perceptual import Perceptual, perceptual_edges
from tests.bench.dedup_footage import Change, read_footage, write_copy
from tests.faults.helpers import catalog_of, make_video, query, run

RIPPED = Change(kind="", name="", scale=(0.75, 0.75), crop=(0.05, 0.0, 0.0, 0.05), crf=28)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film, the same in another container, a smaller part of it, and another film."""
    folder = tmp_path_factory.mktemp("copies")
    film = make_video(folder / "in" / "film.mp4", [(3.0, 1)], fps=12, size=(192, 112))
    with av.open(str(film)) as given, av.open(str(folder / "in" / "film.mkv"), "w") as out:
        track = out.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    write_copy(read_footage(str(film), 0.0, 3.0, 0), RIPPED, folder / "in" / "part.mp4")
    make_video(folder / "in" / "other.mp4", [(3.0, 2)], fps=12, size=(192, 112))
    sections = {"split": {"min_s": 1.0, "max_s": 4.0}, "dedup": {"exact": {}, "perceptual": {}}}
    run(folder / "in", folder / "out", **sections)
    return folder / "out"


def names(root: Path) -> dict[str, str]:
    """Clip -> name of its file."""
    rows = query(root, "SELECT clip_id, uri FROM clips")
    found = {r["clip_id"]: Path(r["uri"]).name for r in rows}
    assert len(found) == 4, "one clip each"
    return found


def test_a_remuxed_file_is_an_exact_copy(root: Path) -> None:
    views = Views(catalog_of(root))
    pairs = [r for b in exact_edges(views, Exact()) for r in b.to_pylist()]
    file = names(root)
    assert [{file[r["clip_a"]], file[r["clip_b"]]} for r in pairs] == [{"film.mp4", "film.mkv"}]


def test_a_smaller_part_is_a_perceptual_copy(root: Path) -> None:
    views = Views(catalog_of(root))
    rows = [r for b in perceptual_edges(views, Perceptual()) for r in b.to_pylist()]
    file = names(root)
    same = {"film.mp4", "film.mkv", "part.mp4"}
    near = [r for r in rows if r["similarity"] >= Perceptual().min_similarity]
    assert len(near) == 3 and {file[r[c]] for r in near for c in ("clip_a", "clip_b")} == same
    equal = next(r for r in near if "part.mp4" not in (file[r["clip_a"]], file[r["clip_b"]]))
    assert equal["similarity"] > 0.995 and equal["offset_s"] == pytest.approx(0, abs=0.02)


def test_the_pictures_stay_out_of_the_view_of_clips(root: Path) -> None:
    columns = Views(catalog_of(root)).columns("clips")
    assert {"packets_digest", "num_prints", "print_detail", "print_change"} <= set(columns)
    assert not {"print_luma", "print_times_s"} & set(columns)
