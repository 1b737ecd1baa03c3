"""Audio: known levels, silence, speech, odd files; a clip hears its own span and no other."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import ErrorCode
from curation.media.audio import RATE_HZ, read_samples, walk_samples
from curation.media.loudness import LoudnessMeter
from curation.models.registry import find_weights
from curation.models.silero import SpeechMeter, SpeechNet, speech_spans
from curation.models.weights import SILERO_VAD
from curation.stage import Failure, StageContext
from curation.stages.audio import Audio, Listener
from curation.storage import Storage
from tests.conftest import Maker
from tests.curation.chain import FINGERPRINT, run_stage
from tests.curation.weights import without_weights
from tests.media import Recording, Tone

TONE = Tone(start_s=1.0, end_s=2.0, total_s=2.0, codec="pcm_s16le")
"""A sine of half the full scale in the second second."""


@pytest.fixture
def net() -> SpeechNet:
    pytest.importorskip("onnxruntime")
    if find_weights(SILERO_VAD) is None:
        pytest.skip("no weights of Silero VAD")
    return SpeechNet()


def listen(
    path: Path,
    span_s: tuple[float, float],
    **fields: Any,  # noqa: ANN401 - any field
) -> tuple[list[dict[str, Any]], list[Failure]]:
    """The row of a span of a file as a clip."""
    stage = Audio.model_validate({"if_missing": "skip"} | fields)
    stage.setup(StageContext(storage=Storage(path.parent), fingerprint=FINGERPRINT))
    start, end = (round(t * 1000) for t in span_s)
    row = {
        "local_path": str(path),
        "clip_id": "c",
        "video_id": "v",
        "start_pts": start,
        "end_pts": end,
        "time_base": "1/1000",
    }
    tables, failures = run_stage(stage, [row])
    return tables["scores_audio"].to_pylist(), failures


def hear(path: Path, span_s: tuple[float, float]) -> dict[str, Any]:
    rows, failures = listen(path, span_s)
    assert not failures
    return rows[0]


def measured(samples: np.ndarray, piece: int = 10_000) -> dict[str, float | None]:
    """What a listener without a network says of float32 [2, n]."""
    listener = Listener(None, -60)
    for at in range(0, samples.shape[1], piece):
        listener.add(samples[:, at : at + piece])
    return listener.scores(0.5)


def sine(level_dbfs: float, seconds: float, hz: float = 997) -> np.ndarray:
    """A sine in both channels, by its peak."""
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wave = 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * time_s)
    return np.stack([wave, wave]).astype(np.float32)


@pytest.mark.parametrize("level_dbfs", [-3, -23, -40])
def test_a_sine_is_as_loud_as_the_standard_says(level_dbfs: float) -> None:
    """EBU Tech 3341, case 1: 1 kHz in both channels at -23 dBFS reads -23 LUFS, within 0.1."""
    scores = measured(sine(level_dbfs, 2))
    assert scores["loudness_lufs"] == pytest.approx(level_dbfs, abs=0.1)
    assert scores["peak_dbfs"] == pytest.approx(level_dbfs, abs=0.02)
    assert scores["silence_fraction"] == 0.0


def test_low_tones_count_less() -> None:
    """The K-weighting: 40 Hz is far less loud than 1 kHz, 3 kHz a little louder."""
    low, middle, high = (measured(sine(-20, 2, hz))["loudness_lufs"] for hz in (40, 997, 3000))
    assert low is not None and middle is not None and high is not None
    assert low < middle - 3
    assert middle + 1 < high < middle + 5


def test_louder_is_louder_by_as_much() -> None:
    rng = np.random.default_rng(5)
    noise = (0.02 * rng.standard_normal((2, 2 * RATE_HZ))).astype(np.float32)
    soft, loud = measured(noise), measured(2 * noise)
    for name in ("loudness_lufs", "peak_dbfs"):
        before = soft[name]
        assert before is not None
        assert loud[name] == pytest.approx(before + 6.02, abs=0.03)


def test_pauses_are_gated() -> None:
    """The integrated loudness leaves out silence: half a tone is as loud as the whole."""
    both = np.concatenate([sine(-23, 2), np.zeros((2, 2 * RATE_HZ), np.float32)], axis=1)
    scores = measured(both)
    assert scores["loudness_lufs"] == pytest.approx(-23, abs=0.6)
    assert scores["silence_fraction"] == pytest.approx(0.5, abs=0.01)


def test_pieces_do_not_matter() -> None:
    sound = sine(-30, 1.3)
    assert measured(sound, 700) == measured(sound, 48_000)


def test_silence_is_null() -> None:
    scores = measured(np.zeros((2, RATE_HZ), np.float32))
    assert scores["loudness_lufs"] is scores["peak_dbfs"] is None
    assert scores["silence_fraction"] == 1.0


def test_too_short_for_loudness() -> None:
    meter = LoudnessMeter()
    meter.add(sine(-10, 0.2))
    assert meter.lufs() is None


def test_a_clip_hears_its_own_span(make_video: Maker) -> None:
    path = make_video("tone.mov", Recording(tone=TONE))
    quiet, loud, half = (hear(path, s) for s in ((0.0, 0.9), (1.0, 2.0), (0.5, 1.5)))
    assert quiet["has_audio"] is True
    assert quiet["silence_fraction"] == 1.0
    assert quiet["loudness_lufs"] is None
    assert loud["silence_fraction"] == pytest.approx(0.0, abs=0.06)  # a resampler's first window
    # One channel becomes two of half the power each: as loud as the standard says of mono.
    assert loud["peak_dbfs"] == pytest.approx(-9.03, abs=0.1)
    assert loud["loudness_lufs"] == pytest.approx(-9.03, abs=0.2)
    assert half["silence_fraction"] == pytest.approx(0.5, abs=0.06)
    again = hear(path, (0.5, 1.5))
    assert again == half


def test_no_sound(make_video: Maker) -> None:
    row = hear(make_video("mute.mp4"), (0.0, 1.0))
    assert row["has_audio"] is False
    assert {row[n] for n in row if n not in ("clip_id", "has_audio", "audio_model")} == {None}


def test_sound_that_ends_before_the_clip(make_video: Maker) -> None:
    tone = Tone(start_s=0, end_s=0.5, total_s=0.5, codec="pcm_s16le")
    path = make_video("early.mov", Recording(tone=tone))
    assert hear(path, (1.0, 2.0))["has_audio"] is False
    assert hear(path, (0.0, 1.0))["silence_fraction"] == pytest.approx(0.5, abs=0.06)


def test_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    rows, failures = listen(tmp_path / "text.mp4", (0, 1))
    assert not rows
    assert failures[0].code == ErrorCode.DECODE_FAILED


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_walking_gives_what_reading_gives(make_video: Maker, codec: str) -> None:
    tone = Tone(start_s=0.5, end_s=1.5, total_s=2.0, codec=codec)
    path = str(make_video("walk.mov", Recording(tone=tone)))
    span_s = Fraction(1, 3), Fraction(5, 2)  # half a second beyond the sound
    pieces = list(walk_samples(path, *span_s))
    whole = read_samples(path, *span_s)
    assert whole is not None
    assert max(p.shape[1] for p in pieces) <= RATE_HZ
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole)


def test_memory_does_not_grow_with_the_clip(make_video: Maker) -> None:
    """Ten minutes as float stereo are 230 MB."""
    path = make_video("tone.mov", Recording(tone=TONE))
    tracemalloc.start()
    row = hear(path, (0.0, 600.0)) if find_weights(SILERO_VAD) is None else None
    count = sum(p.shape[1] for p in walk_samples(str(path), Fraction(0), Fraction(600)))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert row is None or row["has_audio"]
    assert count == 600 * RATE_HZ
    assert peak_bytes < 10e6


def test_speech(assets: Path, net: SpeechNet) -> None:
    """A spoken report, a talking man; birds and fields."""
    real = assets / "videos/real"
    assert hear(real / "nasa_13013.mp4", (2.0, 6.0))["speech_fraction"] > 0.75
    assert hear(real / "video.mp4", (0.0, 10.0))["speech_fraction"] > 0.4
    assert hear(real / "crystal.mp4", (0.0, 4.0))["speech_fraction"] == 0.0
    row = hear(real / "bbb-480p-30s.mp4", (0.0, 4.0))
    assert row["speech_fraction"] == 0.0
    assert row["audio_model"] == "silero-vad"


def test_no_speech_in_tones_and_noise(net: SpeechNet) -> None:
    rng = np.random.default_rng(1)
    for sound in (sine(-10, 2, 300), (0.1 * rng.standard_normal((2, 96_000))).astype(np.float32)):
        listener = Listener(net, -60)
        listener.add(sound)
        assert listener.scores(0.5)["speech_fraction"] == 0.0


def test_pieces_do_not_matter_to_speech(net: SpeechNet) -> None:
    rng = np.random.default_rng(2)
    sound = (0.1 * rng.standard_normal(16_000)).astype(np.float32)
    meters = [SpeechMeter(net) for _ in range(2)]
    meters[0].add(sound)
    for at in range(0, len(sound), 333):
        meters[1].add(sound[at : at + 333])
    for meter in meters:
        meter.finish()
    assert meters[0].probabilities == meters[1].probabilities
    assert len(meters[0].probabilities) == 32  # 31.25 windows


def test_spans_of_speech() -> None:
    """Windows of 32 ms: 9 of them are speech, 5 are too short, pauses of 3 do not interrupt."""
    speech, pause, doubt = [0.9], [0.1], [0.4]
    assert speech_spans(pause * 4 + speech * 9 + pause * 9, 0.5) == [(4, 13)]
    assert speech_spans(pause * 4 + speech * 5 + pause * 9, 0.5) == []
    assert speech_spans(speech * 9 + pause * 3 + speech * 9 + pause * 9, 0.5) == [(0, 21)]
    assert speech_spans(speech * 9 + pause * 5 + speech * 9, 0.5) == [(0, 9), (14, 23)]
    assert speech_spans(speech * 9 + doubt * 9 + pause * 9, 0.5) == [(0, 18)]
    assert speech_spans([], 0.5) == []


def test_without_weights(
    make_video: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_weights(tmp_path, monkeypatch)
    assert Audio.model_validate({}).missing() == [SILERO_VAD]
    row = hear(make_video("tone.mov", Recording(tone=TONE)), (1.0, 2.0))
    assert row["loudness_lufs"] is not None
    assert row["speech_fraction"] is row["audio_model"] is None
