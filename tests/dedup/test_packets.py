"""Digests of packets: the same for the same coded pictures, whatever the container and the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from curation.errors import MediaError
from curation.media.decode import open_video, walk_frames
from curation.media.packets import payload_digest, read_trail
from curation.stages.packets import Packets
from tests.conftest import Maker
from tests.curation.chain import run_stage
from tests.media import Recording, write_video

SPANS = [(0, 24), (12, 30), (17, 41), (30, 48)]
"""Frames; keyframes are at 0, 12, 24 ..."""


def digests(path: Path, spans: list[tuple[int, int]]) -> list[str | None]:
    """Of spans of frames."""
    with open_video(str(path)) as (container, stream):
        pts = [d.pts for d in walk_frames(container, stream)]
    ends = [*pts, pts[-1] + (pts[-1] - pts[-2])]
    found = []
    for first, stop in spans:
        start_pts, end_pts = ends[first], ends[stop]
        found.append(read_trail(str(path), start_pts, end_pts).span_digest(start_pts, end_pts))
    return found


def remux(source: Path, target: Path, *, first_frame: int = 0, later_s: float = 0.0) -> Path:
    """Write the packets anew, from a keyframe on."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        stream = given.streams.video[0]
        track = out.add_stream_from_template(stream)
        shift, number = 0, 0
        for packet in given.demux(stream):
            if packet.pts is None or packet.dts is None or packet.time_base is None:
                continue
            number += 1
            if number <= first_frame:
                continue
            if number == first_frame + 1:
                assert packet.is_keyframe
                shift = packet.dts - round(later_s / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = track
            out.mux(packet)
    return target


@pytest.fixture(scope="module")
def film(make_video: Maker) -> Path:
    return make_video("film.mp4", Recording(gop_frames=12), seconds=2.0)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov", ".flv"])
def test_another_container_has_the_same_digests(film: Path, tmp_path: Path, suffix: str) -> None:
    copy = remux(film, tmp_path / f"copy{suffix}", later_s=3.0)
    ours = digests(film, SPANS)
    assert None not in ours and len(set(ours)) == len(SPANS)
    assert digests(copy, SPANS) == ours


def test_a_lossless_cut_has_the_digests_of_what_it_was_cut_from(film: Path, tmp_path: Path) -> None:
    cut = remux(film, tmp_path / "cut.mkv", first_frame=12)
    inside = [(a - 12, b - 12) for a, b in SPANS[1:]]
    assert digests(cut, inside) == digests(film, SPANS[1:])


@pytest.mark.parametrize(
    ("how", "suffix"),
    [
        (Recording(codec="mpeg4", gop_frames=12), ".mkv"),
        (Recording(codec="mpeg2video", gop_frames=12, b_frames=2), ".mkv"),
        (Recording(codec="libvpx-vp9", gop_frames=12), ".mkv"),
    ],
)
def test_other_codecs(make_video: Maker, tmp_path: Path, how: Recording, suffix: str) -> None:
    source = make_video("other.mp4", how, seconds=1.5)
    ours = digests(source, [(0, 12), (15, 36)])
    assert None not in ours
    assert digests(remux(source, tmp_path / f"copy{suffix}"), [(0, 12), (15, 36)]) == ours


def test_another_encode_has_other_digests(film: Path, make_video: Maker) -> None:
    coarser = make_video("coarser.mp4", Recording(gop_frames=12, crf=13), seconds=2.0)
    assert set(digests(coarser, SPANS)).isdisjoint(digests(film, SPANS))


def test_standing_pictures_of_two_videos_differ_although_their_packets_do_not(
    tmp_path: Path,
) -> None:
    def still(level: int) -> Iterator[np.ndarray]:
        yield from (np.full((96, 160, 3), level, np.uint8) for _ in range(24))

    how = Recording(gop_frames=24, b_frames=0)
    paths = [write_video(tmp_path / f"{n}.mp4", still(n), how) for n in (60, 180)]
    bare = [_payloads(p)[13:20] for p in paths]
    assert bare[0] == bare[1], "skipped blocks: nothing tells these packets apart"
    one, other = (digests(p, [(13, 20)])[0] for p in paths)
    assert one is not None and other is not None and one != other


def _payloads(path: Path) -> list[bytes]:
    with av.open(str(path)) as source:
        return [payload_digest("h264", bytes(p), 4) for p in source.demux(video=0) if p.size]


def test_only_slices_count_whatever_leads_them() -> None:
    slices = [b"\x65" + bytes(range(1, 40)), b"\x41\x9a\x10\x07"]
    settings, delimiter, message = b"\x67\x64\x00\x1f\xac", b"\x09\xf0", b"\x06\x05\x01\x80"
    by_length = b"".join(len(u).to_bytes(4, "big") + u for u in [settings, *slices])
    short = b"".join(len(u).to_bytes(2, "big") + u for u in slices)
    by_code = b"\x00" + b"".join(b"\x00\x00\x01" + u for u in [delimiter, message, *slices])
    want = payload_digest("h264", by_length, 4)
    assert payload_digest("h264", short, 2) == want
    assert payload_digest("h264", by_code, None) == want
    assert payload_digest("h264", by_code + b"\x00\x00", None) == want, "stuffing at the end"
    assert payload_digest("h264", by_code + b"\x07", None) != want
    hevc = [b"\x26\x01" + bytes(range(1, 30)), b"\x40\x01\x0c"]  # an IDR slice, parameters
    assert payload_digest("hevc", b"\x00\x00\x01".join([b"", *hevc]), None) == payload_digest(
        "hevc", len(hevc[0]).to_bytes(4, "big") + hevc[0], 4
    )
    assert payload_digest("av1", b"\x12\x00abc", None) == payload_digest("av1", b"abc", None)


def test_the_stage_reads_the_file_once_and_gives_what_single_spans_give(
    film: Path, tmp_path: Path
) -> None:
    with open_video(str(film)) as (container, stream):
        pts = [d.pts for d in walk_frames(container, stream)]
    rows = [
        {
            "local_path": str(film),
            "clip_id": f"{i:032x}",
            "start_pts": pts[a],
            "end_pts": pts[b] if b < len(pts) else pts[-1] + pts[1] - pts[0],
            "video_id": "v",
        }
        for i, (a, b) in enumerate(SPANS)
    ]
    tables, failures = run_stage(Packets(), rows)  # pyright: ignore[reportCallIssue]
    assert not failures
    found = tables["packets"].to_pylist()
    assert [r["clip_id"] for r in found] == [r["clip_id"] for r in rows]
    assert [r["packets_digest"] for r in found] == digests(film, SPANS)


def test_what_is_not_known_is_null(film: Path, tmp_path: Path) -> None:
    with open_video(str(film)) as (container, stream):
        pts = [d.pts for d in walk_frames(container, stream)]
    trail = read_trail(str(film), pts[0], pts[-1])
    assert trail.span_digest(pts[-1] + 10**6, pts[-1] + 2 * 10**6) is None, "no packet there"
    with pytest.raises(MediaError):
        read_trail(str(tmp_path / "none.mp4"), 0, 10)


def test_real_footage_in_other_containers(assets: Path, tmp_path: Path) -> None:
    spans = [(0, 50), (37, 90)]
    for name in ("bikes.mp4", "flower.mp4", "cityCC0.mpg"):
        source = assets / "videos" / "real" / name
        ours = digests(source, spans)
        for suffix in (".mkv", ".ts"):
            assert digests(remux(source, tmp_path / f"{name}{suffix}"), spans) == ours
