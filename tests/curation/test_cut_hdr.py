"""HDR to SDR: light measured patch by patch, real footage graded to HDR and back, tags."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from curation.errors import ErrorCode
from curation.media.tonemap import (
    SDR_WHITE_NITS,
    TO_BT709,
    Transfer,
    hlg_to_scene,
    nits_to_pq,
    pq_to_nits,
    rolled_off_nits,
    to_sdr,
)
from tests.curation.chain import cut_clips, scan
from tests.media import psnr

LUMA = np.array([0.2627, 0.6780, 0.0593])
TRANSFER_IDS = {"pq": 16, "hlg": 18}
PATCHES_NITS = (0.1, 1.0, 5.0, 20.0, 50.0, 90.0, 203.0, 400.0, 700.0, 1000.0)


def display_nits(rgb: np.ndarray) -> np.ndarray:
    """What an SDR display (BT.1886, white at 203) shows for R'G'B' in [0, 1]."""
    return SDR_WHITE_NITS * np.clip(rgb, 0, 1) ** 2.4


def to_bt2020(nits: np.ndarray) -> np.ndarray:
    """Linear BT.709 to linear BT.2020."""
    return nits @ np.linalg.inv(np.array(TO_BT709)).T


def codes_of(nits: np.ndarray, transfer: Transfer) -> np.ndarray:
    """Display light in BT.2020 (cd/m2) as uint16 R'G'B' codes."""
    if transfer == "pq":
        code = nits_to_pq(np.maximum(nits, 0))
    else:
        # BT.2100's inverse OOTF and OETF.
        shown = np.clip(nits / 1000, 0, 1)
        luma = np.maximum(shown @ LUMA, 1e-9)[..., None]
        scene = shown * luma ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        low, high = np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c
        code = np.where(scene <= 1 / 12, low, high)
    return np.round(np.clip(code, 0, 1) * 65535).astype(np.uint16)


def write_hdr(path: Path, pictures_nits: list[np.ndarray], transfer: Transfer) -> Path:
    """Write pictures of linear BT.709 light (cd/m2, [h, w, 3]) as 10-bit HDR in BT.2020."""
    with av.open(str(path), "w") as out:
        options = {"crf": "4", "preset": "ultrafast", "x264-params": "keyint=12:scenecut=0"}
        stream = cast(VideoStream, out.add_stream("libx264", rate=24, options=options))
        stream.height, stream.width = pictures_nits[0].shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.colorspace, context.color_range = 9, 9, 1
        context.color_trc = TRANSFER_IDS[transfer]
        for index, nits in enumerate(pictures_nits):
            codes = codes_of(to_bt2020(nits), transfer)
            frame = VideoFrame.from_ndarray(codes, format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, dst_color_range=1)
            frame.pts, frame.time_base = index, Fraction(1, 24)
            frame.pict_type = PictureType.NONE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def read_rgb(path: Path) -> list[np.ndarray]:
    """Frames of a clip as R'G'B' in [0, 1], by the file's own tags."""
    with av.open(str(path)) as clip:
        return [f.to_ndarray(format="rgb24") / 255 for f in clip.decode(video=0)]


def cut_whole(path: Path, root: Path, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    media, failures = cut_clips([scan(path).whole_clip()], root, **fields)
    assert not failures
    return media[0]


def patches() -> np.ndarray:
    """Grey patches side by side, 16 pixels each: cd/m2 [64, 160, 3]."""
    row = np.repeat(np.array(PATCHES_NITS), 16)
    return np.broadcast_to(row[None, :, None], (64, len(row), 3)).copy()


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_light_of_grey_patches(tmp_path: Path, transfer: Transfer) -> None:
    """Below the knee light is as it was; above it is less, still rising, and never clipped."""
    path = write_hdr(tmp_path / "patches.mp4", [patches()] * 8, transfer)
    cut = cut_whole(path, tmp_path)
    assert (cut["media_mode"], cut["media_mode_reason"]) == ("reencode", "hdr")
    assert cut["media_tone_mapped"]
    picture = read_rgb(cut["path"])[3]
    got = display_nits(picture[32, 8::16].mean(axis=1))
    for nits, seen in zip(PATCHES_NITS, got, strict=True):
        if 1 <= nits < 60:
            assert seen == pytest.approx(nits, rel=0.06, abs=0.3), nits
    assert (np.diff(got[:-1]) > 2e-1).all()  # the last two meet in 8 bits
    assert 140 < got[PATCHES_NITS.index(203.0)] < 175  # BT.2390 for 1000 to 203
    assert got[-1] == pytest.approx(SDR_WHITE_NITS, rel=0.03)
    assert np.abs(picture[32] - picture[32].mean(axis=1, keepdims=True)).max() < 0.02  # stays grey


def test_curve_matches_bt2390() -> None:
    """Identity below the knee, white at the peak and beyond, and no step in between."""
    nits = np.geomspace(0.01, 4000, 4000)
    out = rolled_off_nits(nits, 1000.0)
    most = float(nits_to_pq(np.array(203.0)) / nits_to_pq(np.array(1000.0)))
    knee = float(pq_to_nits(np.array((1.5 * most - 0.5) * nits_to_pq(np.array(1000.0)))))
    assert knee == pytest.approx(88, abs=1)
    assert out[nits < knee] == pytest.approx(nits[nits < knee], rel=1e-6)
    assert out[nits >= 1000] == pytest.approx(203, rel=1e-6)
    assert (np.diff(out) >= -1e-9).all()
    assert (np.diff(np.log(out)) <= np.diff(np.log(nits)) + 1e-6).all()  # slope at most 1
    assert pq_to_nits(nits_to_pq(nits)) == pytest.approx(nits, rel=1e-9)
    assert float(pq_to_nits(np.array(0.508078))) == pytest.approx(100, rel=1e-3)  # BT.2100's table
    assert float(hlg_to_scene(np.array(0.75))) == pytest.approx(0.265, abs=1e-3)


def test_hues_stay() -> None:
    """Colours inside BT.709 keep the ratios of their linear light, in the highlights too."""
    rng = np.random.default_rng(5)
    nits = rng.uniform(5, 90, (1, 500, 3))
    for factor in (1.0, 8.0):
        codes = codes_of(to_bt2020(nits * factor), "pq")
        shown = display_nits(to_sdr(codes, "pq", 1000.0) / 65535)
        ratios = shown / shown.max(axis=2, keepdims=True)
        assert ratios == pytest.approx(nits / nits.max(axis=2, keepdims=True), abs=0.02)


def graded(picture: np.ndarray) -> np.ndarray:
    """Real SDR footage as an HDR grade: highlights above 60 % of white shine up to 4 times."""
    light = (picture / 255.0) ** 2.4
    top = np.clip((light.max(axis=2, keepdims=True) - 0.6) / 0.4, 0, 1)
    return SDR_WHITE_NITS * light * (1 + 3 * top**2)


@pytest.mark.parametrize("limit_px", [None, 320])
@pytest.mark.parametrize("scaling", ["area", "lanczos"])
@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_real_footage_there_and_back(
    assets: Path,
    tmp_path: Path,
    transfer: Transfer,
    scaling: Literal["area", "lanczos"],
    limit_px: int | None,
) -> None:
    """Footage lifted into HDR looks like itself again, where it is not a highlight."""
    with av.open(str(assets / "videos/real/flower.mp4")) as source:
        frames = [f for _, f in zip(range(12), source.decode(video=0), strict=False)]
    sdr = [f.reformat(480, 270).to_ndarray(format="rgb24") for f in frames]
    path = write_hdr(tmp_path / "flower.mp4", [graded(p) for p in sdr], transfer)
    cut = cut_whole(path, tmp_path, max_long_side_px=limit_px, scaling=scaling)
    size = (320, 180) if limit_px else (480, 270)
    assert (cut["media_width_px"], cut["media_height_px"]) == size
    small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in sdr]
    for index, picture in enumerate(read_rgb(cut["path"])):
        want = small[index] / 255
        plain = want.max(axis=2) < 0.65  # under the knee: 88 of 203 cd/m2 is 70 % code
        assert plain.mean() > 0.3
        error = np.abs(picture - want)[plain]
        assert error.mean() < 0.012, index
        bright = want.max(axis=2) > 0.9
        assert picture[bright].max(axis=1).mean() > 0.75


@pytest.mark.parametrize("mode", ["auto", "reencode"])
def test_tags_say_bt709(tmp_path: Path, mode: Literal["auto", "reencode"]) -> None:
    path = write_hdr(tmp_path / "patches.mp4", [patches()] * 8, "pq")
    cut = cut_whole(path, tmp_path, mode=mode)
    with av.open(str(cut["path"])) as clip:
        context = clip.streams.video[0].codec_context
        frame = next(clip.decode(video=0))
    assert context.pix_fmt == "yuv420p"
    for tagged in (context, frame):
        found = tagged.color_primaries, tagged.color_trc, tagged.colorspace, tagged.color_range
        assert found == (1, 1, 1, 1)


def test_kept_hdr_stays_hdr(tmp_path: Path) -> None:
    """10 bits, the same codes, and tags that say PQ in BT.2020."""
    path = write_hdr(tmp_path / "patches.mp4", [patches()] * 8, "pq")
    for mode in ("reencode", "auto"):
        cut = cut_whole(path, tmp_path / mode, mode=mode, hdr="keep", bit_depth=10)
        assert cut["media_mode"] == ("copy" if mode == "auto" else "reencode")
        assert not cut["media_tone_mapped"]
        with av.open(str(cut["path"])) as clip, av.open(str(path)) as source:
            frame, given = next(clip.decode(video=0)), next(source.decode(video=0))
        assert frame.format.name == "yuv420p10le"
        assert (frame.color_primaries, frame.color_trc, frame.colorspace) == (9, 16, 9)
        a, b = (f.to_ndarray()[:64].astype(float) / 4 for f in (frame, given))
        assert psnr(a, b) > 40


def test_hdr_can_be_refused(tmp_path: Path) -> None:
    path = write_hdr(tmp_path / "patches.mp4", [patches()] * 8, "hlg")
    for mode in ("auto", "copy", "reencode"):
        media, failures = cut_clips(
            [scan(path).whole_clip()], tmp_path / mode, mode=mode, hdr="fail"
        )
        assert not media
        assert [f.code for f in failures] == [ErrorCode.ENCODE_FAILED]
        assert "HDR (hlg)" in failures[0].message


def test_real_pq_file(assets: Path, tmp_path: Path) -> None:
    """HEVC with Dolby Vision metadata over PQ: black stays black, every frame is there."""
    found = scan(assets / "videos/odd/regular.mkv")
    media, failures = cut_clips(
        [found.whole_clip() | {"end_pts": 1000, "num_frames": 24}], tmp_path
    )
    assert not failures
    assert (media[0]["media_mode_reason"], media[0]["media_num_frames"]) == ("codec", 24)
    with av.open(str(media[0]["path"])) as clip:
        frames = list(clip.decode(video=0))
    assert len(frames) == 24
    assert (frames[0].color_trc, frames[0].format.name) == (1, "yuv420p")
    assert np.abs(frames[0].to_ndarray()[:144].astype(int) - 16).max() <= 1
