"""Audio: whether a clip has sound, how loud it is, and how much of it is silence and speech.

All is measured on the stereo mix at 48 kHz that ``cut.audio: keep`` writes: loudness after ITU-R
BS.1770 (FFmpeg's ebur128), the highest sample, the share of 50 ms windows that are silent, and the
share of the time in which somebody speaks (Silero VAD; MIT).
Cost: 30 ms per second of sound, decoding included; a third of it is speech.

A clip without usable sound has ``has_audio`` false and nulls, so a rule on any other column needs
``if_null: keep`` (or ``reject``). Speech says nothing of what is said, nor whether it is sung.
Loudness and silence need no weights: with ``if_missing: skip`` only ``speech_fraction`` is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar

import av.error
import numpy as np
import pyarrow as pa
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from pydantic import Field, PrivateAttr

from curation.errors import ErrorCode, MediaError
from curation.media.audio import LAYOUT, RATE_HZ, walk_samples
from curation.media.loudness import LoudnessMeter
from curation.models import silero
from curation.models.registry import how_to_get
from curation.models.silero import SpeechMeter, SpeechNet, speech_spans
from curation.models.weights import SILERO_VAD, Weights
from curation.schema import BOOL, FLOAT32, INT64, STRING, schema
from curation.stage import Output, StageContext
from curation.stages.each_clip import each_clip
from curation.stages.model_stage import ModelStage

DECIBEL_DIGITS, SHARE_DIGITS = 2, 4
WINDOW = RATE_HZ // 20


class Audio(ModelStage):
    """Listens to the sound of clips."""

    name: ClassVar[str] = "audio"
    version: ClassVar[int] = 1
    reads: ClassVar[pa.Schema] = schema(
        local_path=STRING, clip_id=STRING, start_pts=INT64, end_pts=INT64, time_base=STRING
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_audio": schema(
            clip_id=STRING,
            has_audio=BOOL,  # false: no stream, or nothing of it decodes inside the clip
            loudness_lufs=FLOAT32,  # integrated; null: below -70 or shorter than 0.4 s
            peak_dbfs=FLOAT32,  # highest sample, 0 is full scale; null: digital silence
            silence_fraction=FLOAT32,  # 0-1, share of the time below silence_below_dbfs
            speech_fraction=FLOAT32,  # 0-1, share of the time in which somebody speaks
            audio_model=STRING,  # null: no model was here
        )
    }

    silence_below_dbfs: float = Field(
        -60, le=0, description="mean level of 50 ms of silence; the default of FFmpeg's detector"
    )
    speech_threshold: float = Field(
        0.5, gt=0.15, lt=1, description="probability of speech; the default of Silero VAD"
    )

    _context: StageContext | None = PrivateAttr(default=None)
    _net: SpeechNet | None = PrivateAttr(default=None)

    def weights(self) -> tuple[Weights, ...]:
        """Silero VAD."""
        return (SILERO_VAD,)

    def unknown(self) -> frozenset[str]:
        """Loudness and silence need no weights."""
        return frozenset() if self.ready else frozenset({"speech_fraction"})

    def fallbacks(self) -> list[str]:
        """The one score that stays null."""
        if self.ready:
            return []
        how = how_to_get(SILERO_VAD)
        return [f"audio: {SILERO_VAD.name} is not here, speech_fraction is null ({how})"]

    def setup(self, context: StageContext) -> None:
        """Load the network."""
        self._context = context
        if self.ready:
            self._net = SpeechNet()

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Listen to clips one by one."""
        assert self._context is not None
        yield from each_clip(batch, self._row, self._context, self.adds)

    def _row(self, row: dict[str, Any], context: StageContext) -> dict[str, Any]:
        unit = Fraction(row["time_base"])
        start_s, end_s = row["start_pts"] * unit, row["end_pts"] * unit
        listener = Listener(self._net, self.silence_below_dbfs)
        try:
            for samples in walk_samples(row["local_path"], start_s, end_s):
                listener.add(samples)
        except av.error.FFmpegError as exc:
            raise MediaError(ErrorCode.DECODE_FAILED, f"{type(exc).__name__}: {exc}") from exc
        model = SILERO_VAD.key if self._net is not None else None
        told = {"clip_id": row["clip_id"], "has_audio": listener.count > 0, "audio_model": model}
        return told | listener.scores(self.speech_threshold) if listener.count else told


class Listener:
    """Measures one sound that comes in pieces.

    Attributes:
        count: Samples so far, per channel.
    """

    def __init__(self, net: SpeechNet | None, silence_below_dbfs: float) -> None:
        self.count = 0
        self._silent_below = 10 ** (silence_below_dbfs / 10)  # as power
        self._loudness = LoudnessMeter()
        self._speech = SpeechMeter(net) if net is not None else None
        self._to_speech = AudioResampler(format="fltp", layout="mono", rate=silero.RATE_HZ)
        self._peak = 0.0
        self._silent = 0
        self._waiting = np.zeros((2, 0), np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples, float32 [2, n] at ``RATE_HZ``."""
        self._loudness.add(samples)
        self._peak = max(self._peak, float(np.abs(samples).max()))
        self._hear_speech(samples)
        self.count += samples.shape[1]
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        whole = self._waiting.shape[1] // WINDOW * WINDOW
        self._count_silence(self._waiting[:, :whole])
        self._waiting = self._waiting[:, whole:]

    def scores(self, speech_threshold: float) -> dict[str, float | None]:
        """The columns of all that came; nothing may come after."""
        if self._waiting.shape[1]:
            self._count_silence(self._waiting, self._waiting.shape[1])
        lufs = self._loudness.lufs()
        return {
            "loudness_lufs": None if lufs is None else round(lufs, DECIBEL_DIGITS),
            "peak_dbfs": round(20 * float(np.log10(self._peak)), DECIBEL_DIGITS)
            if self._peak
            else None,
            "silence_fraction": round(self._silent / self.count, SHARE_DIGITS),
            "speech_fraction": self._speech_fraction(speech_threshold),
        }

    def _count_silence(self, samples: np.ndarray, window: int = WINDOW) -> None:
        """Count samples in silent windows; ``samples`` holds a whole number of them."""
        power = (samples.astype(np.float64) ** 2).mean(axis=0).reshape(-1, window).mean(axis=1)
        self._silent += int((power < self._silent_below).sum()) * window

    def _hear_speech(self, samples: np.ndarray | None) -> None:
        """Bring samples to the network's rate; None: what the resampler still holds."""
        if self._speech is None:
            return
        frame = None
        if samples is not None:
            frame = AudioFrame.from_ndarray(
                np.ascontiguousarray(samples), format="fltp", layout=LAYOUT
            )
            frame.sample_rate, frame.pts = RATE_HZ, self.count
            frame.time_base = Fraction(1, RATE_HZ)
        for part in self._to_speech.resample(frame):
            self._speech.add(part.to_ndarray()[0])

    def _speech_fraction(self, threshold: float) -> float | None:
        if self._speech is None:
            return None
        self._hear_speech(None)
        self._speech.finish()
        spoken = sum(b - a for a, b in speech_spans(self._speech.probabilities, threshold))
        return round(spoken / len(self._speech.probabilities), SHARE_DIGITS)
