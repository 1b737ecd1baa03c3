"""Walking frames: damage is marked as far as it reaches, seeks land before the wanted frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from curation.errors import ErrorCode, MediaError
from curation.media.decode import last_frame_pts_step, open_video, walk_frames
from curation.media.facts import read_facts
from tests.conftest import Maker
from tests.curation.chain import scan, split_stage
from tests.media import Camera, Recording, psnr, write_video

FAST = Camera(pan_per_s=0.3, tilt_per_s=0.1)
Spoil = Callable[[bytearray], None]


def spoil_head(data: bytearray) -> None:
    """No slice header: the packet is refused."""
    data[5:60] = np.random.default_rng(0).integers(0, 256, 55, dtype=np.uint8).tobytes()


def spoil_half(data: bytearray) -> None:
    """The second half of the picture is gone: the decoder invents it."""
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)


def spoiled(path: Path, target: Path, index: int, spoil: Spoil) -> Path:
    """A copy of a file with packet ``index`` (in file order) spoiled."""
    with av.open(str(path)) as source, av.open(str(target), "w") as out:
        stream = source.streams.video[0]
        track = out.add_stream_from_template(stream)
        packets = [p for p in source.demux(stream) if p.dts is not None]
        for number, packet in enumerate(packets):
            data = bytearray(bytes(packet))
            if number == index:
                spoil(data)
            copy = av.Packet(bytes(data))
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
            copy.stream = track
            out.mux(copy)
    return target


@pytest.mark.parametrize("spoil", [spoil_head, spoil_half])
@pytest.mark.parametrize("index", [12, 13, 15])
def test_damage_is_marked_to_the_next_keyframe(
    make_video: Maker, tmp_path: Path, index: int, spoil: Spoil
) -> None:
    """Packet 12 is a keyframe, 13 the P frame after it, 15 a later one, all with B frames between.

    The keyframe before a spoiled P frame is still on its way through reordering when the packet
    fails; it must not be taken for the end of the damage. And B frames shown before a spoiled
    frame are predicted from it.
    """
    path = make_video("clean.mp4", camera=FAST)
    with open_video(str(path)) as (container, stream):
        clean = {d.pts: d.frame.to_ndarray(format="gray") for d in walk_frames(container, stream)}
    target = spoiled(path, tmp_path / "spoiled.mp4", index, spoil)
    with open_video(str(target)) as (container, stream):
        walked = list(walk_frames(container, stream))
    step = sorted(clean)[1]
    bad = [
        d.pts // step for d in walked if psnr(d.frame.to_ndarray(format="gray"), clean[d.pts]) < 60
    ]
    marked = [d.pts // step for d in walked if d.damaged]
    assert set(bad) <= set(marked), "a broken picture passes for a good one"
    assert marked, "nothing was noticed"
    assert max(marked) == 23, "the damage ends at the keyframe"
    assert min(marked) >= 12 - 2
    found = scan(target, split=split_stage(min_s=0.2))
    assert found.row["num_damaged_frames"] == len(marked)
    for clip in found.clips:
        assert not set(range(clip["start_pts"] // step, clip["end_pts"] // step)) & set(marked)


def test_clean_files_have_no_damage(make_video: Maker) -> None:
    """Open groups and B pyramids too: marking errs on no side."""
    for name, how in {
        "open.mp4": Recording(open_gop=True, b_frames=3),
        "program.mpg": Recording(codec="mpeg2video"),
        "ts.ts": Recording(),
    }.items():
        path = make_video(name, how, camera=FAST)
        with open_video(str(path)) as (container, stream):
            assert not any(d.damaged for d in walk_frames(container, stream))


@pytest.mark.parametrize("name", ["open.mp4", "late.mkv", "program.mpg", "ts.ts", "old.avi"])
def test_a_walk_may_begin_anywhere(make_video: Maker, name: str) -> None:
    """From any pts: the same frames as a walk from the beginning, from there on."""
    hows = {
        "open.mp4": Recording(open_gop=True, b_frames=3),
        "late.mkv": Recording(first_pts=1000),
        "program.mpg": Recording(codec="mpeg2video"),
        "old.avi": Recording(codec="mpeg4"),
    }
    path = str(make_video(name, hows.get(name, Recording()), camera=FAST))
    with open_video(path) as (container, stream):
        pictures = [
            (d.pts, d.frame.to_ndarray(format="gray")) for d in walk_frames(container, stream)
        ]
    for index in (0, 1, 10, 11, 12, 13, 25, 47):
        with open_video(path) as (container, stream):
            walk = walk_frames(container, stream, start_pts=pictures[index][0])
            found = [(d.pts, d.frame.to_ndarray(format="gray")) for d in walk]
        assert [p for p, _ in found] == [p for p, _ in pictures[index:]], index
        assert psnr(found[0][1], pictures[index][1]) > 60, index


def test_late_matroska_misses_nothing(make_video: Maker) -> None:
    """Its header stores the time of the end, not a length."""
    facts = read_facts(str(make_video("late.mkv", Recording(first_pts=1000))))
    assert facts.declared_duration_s == pytest.approx(2, abs=0.05)


def test_last_step_is_the_median() -> None:
    assert last_frame_pts_step([0, 10, 20, 30, 95]) == 10
    assert last_frame_pts_step([5]) == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", ErrorCode.NOT_A_VIDEO),
        (b"words " * 50, ErrorCode.NOT_A_VIDEO),
        (None, ErrorCode.NOT_FOUND),
    ],
)
def test_what_is_no_video(tmp_path: Path, content: bytes | None, code: str) -> None:
    path = tmp_path / "file.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError) as caught, open_video(str(path)):
        pass
    assert caught.value.code == code


def test_cover_art_is_no_footage(tmp_path: Path) -> None:
    """A sound file with a picture in it has no video."""
    import cv2
    from av.audio.frame import AudioFrame

    path = tmp_path / "song.mp3"
    _, jpeg = cv2.imencode(".jpg", np.full((32, 32, 3), 90, np.uint8))
    with av.open(str(path), "w") as out:
        sound = out.add_stream("mp3", rate=44_100)
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"  # pyright: ignore[reportAttributeAccessIssue]
        art.disposition = av.stream.Disposition.attached_pic  # pyright: ignore[reportAttributeAccessIssue]
        frame = AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), "fltp", "mono")
        frame.sample_rate = 44_100
        picture = av.Packet(jpeg.tobytes())
        picture.stream, picture.pts, picture.dts = art, 0, 0
        out.mux(picture)
        out.mux(sound.encode(frame))  # pyright: ignore[reportAttributeAccessIssue]
        out.mux(sound.encode(None))  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(MediaError) as caught, open_video(str(path)):
        pass
    assert caught.value.code == ErrorCode.NO_VIDEO_STREAM


@pytest.mark.parametrize("b_frames", [0, 1, 2])
def test_a_container_without_presentation_times(tmp_path: Path, b_frames: int) -> None:
    """AVI: the times made up for B frames run back and forth; no frame may be lost for that."""
    pictures = Camera(pan_per_s=0.3).shoot(160, 96, np.arange(48) / 24)
    path = write_video(tmp_path / "film.avi", pictures, Recording(b_frames=b_frames))
    with open_video(str(path)) as (container, stream):
        frames = list(walk_frames(container, stream))
        shown = [d.frame.to_ndarray(format="rgb24").astype(int) for d in frames]
    times = np.array([d.pts for d in frames])
    assert len(frames) == 48
    assert (np.diff(times) >= 1).all() and times[-1] - times[0] <= 49
    for index, picture in enumerate(shown):
        errors = [np.abs(picture - other).mean() for other in pictures]
        assert int(np.argmin(errors)) == index
    middle = int(times[30])
    with open_video(str(path)) as (container, stream):
        late = [d.pts for d in walk_frames(container, stream, start_pts=middle)]
    assert late == times[30:].tolist()
