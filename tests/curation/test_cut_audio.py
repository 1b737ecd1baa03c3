"""Sound of clips: the right length, in step with the picture, and absent when it is not wanted."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from curation.media.audio import RATE_HZ
from tests.conftest import Maker
from tests.curation.chain import cut_clips, scan, split_stage
from tests.media import Recording, Tone

PIECES = split_stage(min_s=0.2, max_s=0.9, edge_trim_s=0)
BEEP = (1.2, 1.6)
"""The source is silent but for this."""


def heard(path: Path) -> np.ndarray:
    """The left channel of a file's sound, on the clock of its picture (which begins at 0)."""
    samples = np.zeros(0, np.float32)
    with av.open(str(path)) as clip:
        for frame in clip.decode(audio=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            at = round(float(frame.pts * frame.time_base) * RATE_HZ)
            data = frame.to_ndarray()[0]
            end = max(0, at + len(data))
            if end > len(samples):
                samples = np.pad(samples, (0, end - len(samples)))
            samples[max(0, at) : end] = data[max(0, -at) :]
    return samples


def sounding(samples: np.ndarray) -> tuple[float, float]:
    """First and last second that is loud."""
    loud = np.flatnonzero(np.abs(samples) > 0.1)
    return loud[0] / RATE_HZ, loud[-1] / RATE_HZ


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize("rate_hz", [44_100, 48_000, 16_000])
def test_a_beep_stays_where_it_was(
    make_video: Maker, tmp_path: Path, codec: str, rate_hz: int
) -> None:
    """1.2 to 1.6 s of the source, in whichever clips these seconds are."""
    tone = Tone(start_s=BEEP[0], end_s=BEEP[1], total_s=2.0, rate_hz=rate_hz, codec=codec)
    found = scan(make_video("tone.mov", Recording(tone=tone)), split=PIECES)
    media, failures = cut_clips(found.clip_rows(), tmp_path, audio="keep")
    assert not failures
    assert len(media) == 3
    for row, cut in zip(found.clips, media, strict=True):
        samples = heard(cut["path"])
        assert len(samples) / RATE_HZ == pytest.approx(row["duration_s"], abs=0.022)  # AAC frames
        start, end = max(BEEP[0], row["start_s"]), min(BEEP[1], row["end_s"])
        if start >= end:
            assert np.abs(samples).max() < 0.05
            continue
        begins, stops = sounding(samples)
        assert begins == pytest.approx(start - row["start_s"], abs=0.006)
        assert stops == pytest.approx(end - row["start_s"], abs=0.006)


def test_no_clicks(make_video: Maker, tmp_path: Path) -> None:
    """A steady tone of another sampling rate stays steady: no holes where frames meet."""
    tone = Tone(start_s=0.0, end_s=2.0, total_s=2.0, rate_hz=44_100, codec="pcm_s16le")
    found = scan(make_video("steady.mov", Recording(tone=tone)), split=PIECES)
    media, _ = cut_clips(found.clip_rows()[1:2], tmp_path, audio="keep")
    samples = heard(media[0]["path"])[2048:-2048]
    windows = np.sqrt((samples[: len(samples) // 48 * 48].reshape(-1, 48) ** 2).mean(axis=1))
    assert windows.min() > 0.9 * windows.max()


def test_drop_leaves_none(make_video: Maker, tmp_path: Path) -> None:
    tone = Tone(start_s=BEEP[0], end_s=BEEP[1], total_s=2.0)
    found = scan(make_video("tone.mp4", Recording(tone=tone)), split=PIECES)
    media, _ = cut_clips(found.clip_rows()[:1], tmp_path)
    with av.open(str(media[0]["path"])) as clip:
        assert not clip.streams.audio


def test_keep_without_sound_is_no_failure(make_video: Maker, tmp_path: Path) -> None:
    found = scan(make_video("silent.mp4"), split=PIECES)
    media, failures = cut_clips(found.clip_rows()[:1], tmp_path, audio="keep")
    assert not failures
    with av.open(str(media[0]["path"])) as clip:
        assert not clip.streams.audio


def test_sound_that_ends_early_is_padded(make_video: Maker, tmp_path: Path) -> None:
    tone = Tone(start_s=0.0, end_s=1.0, total_s=1.0)
    found = scan(make_video("short.mp4", Recording(tone=tone)), split=split_stage(min_s=1, max_s=2))
    media, _ = cut_clips(found.clip_rows(), tmp_path, audio="keep")
    samples = heard(media[0]["path"])
    assert len(samples) / RATE_HZ == pytest.approx(2.0, abs=0.022)
    assert sounding(samples)[1] == pytest.approx(1.0, abs=0.05)


def test_late_clock(make_video: Maker, tmp_path: Path) -> None:
    """Sound and picture share the file's clock, which need not begin at 0."""
    tone = Tone(start_s=BEEP[0], end_s=BEEP[1], total_s=2.0)
    found = scan(make_video("tone.ts", Recording(tone=tone)), split=split_stage(min_s=1, max_s=2))
    assert found.row["video_first_pts"] > 0
    media, _ = cut_clips(found.clip_rows(), tmp_path, audio="keep")
    begins, stops = sounding(heard(media[0]["path"]))
    # The test's own muxer shifts both; the encoder's first 1024 samples are not announced in TS.
    assert begins == pytest.approx(BEEP[0], abs=0.03)
    assert stops == pytest.approx(BEEP[1], abs=0.03)


def test_broken_sound_costs_no_clip(assets: Path, tmp_path: Path) -> None:
    path = assets / "videos/odd/video_with_failing_audio.mp4"
    found = scan(path, split=split_stage(min_s=0.4, max_s=0.5))
    media, failures = cut_clips(found.clip_rows()[:2], tmp_path, audio="keep")
    assert not failures
    assert [m["media_num_frames"] for m in media] == [c["num_frames"] for c in found.clips[:2]]
