"""Silero VAD: where in a sound somebody speaks (Silero Team; MIT).

A small recurrent network, asked once per 32 ms. Its state is carried on, and each question begins
with the last 4 ms of the one before. From probabilities to stretches of speech: hysteresis and the
shortest lengths of the package's ``get_speech_timestamps``, without its padding.
"""

from __future__ import annotations

import numpy as np

from curation.models.onnx import Network
from curation.models.weights import SILERO_VAD

RATE_HZ = 16_000
WINDOW = 512
CONTEXT = 64
WINDOW_S = WINDOW / RATE_HZ
HYSTERESIS = 0.15
"""Speech ends when the probability falls this far below the threshold."""
MIN_SPEECH_S, MIN_SILENCE_S = 0.25, 0.1
"""Shorter speech is none; shorter pauses do not interrupt it."""


class SpeechNet:
    """The network; one serves any number of sounds."""

    def __init__(self) -> None:
        """Load it.

        Raises:
            ConfigError: Its weights are not here.
        """
        self._network = Network(SILERO_VAD)

    def step(self, window: np.ndarray, state: np.ndarray) -> tuple[float, np.ndarray]:
        """Probability of speech in float32 [1, CONTEXT + WINDOW], and the state [2, 1, 128]."""
        rate = np.array(RATE_HZ, np.int64)
        found, after = self._network(["output", "stateN"], input=window, state=state, sr=rate)
        return float(found[0, 0]), after


class SpeechMeter:
    """Probabilities of speech in one sound that comes in pieces.

    Attributes:
        probabilities: One per 32 ms, 0-1.
    """

    def __init__(self, net: SpeechNet) -> None:
        self.probabilities: list[float] = []
        self._net = net
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._waiting = np.zeros(0, np.float32)

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples, float32 [n], mono at ``RATE_HZ``."""
        self._waiting = np.concatenate([self._waiting, samples])
        while len(self._waiting) >= WINDOW:
            self._ask(self._waiting[:WINDOW])
            self._waiting = self._waiting[WINDOW:]

    def finish(self) -> None:
        """The sound ends here; the last window is filled up with silence."""
        if len(self._waiting):
            self._ask(np.pad(self._waiting, (0, WINDOW - len(self._waiting))))
            self._waiting = self._waiting[:0]

    def _ask(self, window: np.ndarray) -> None:
        heard = np.concatenate([self._context, window])[None]
        probability, self._state = self._net.step(heard, self._state)
        self.probabilities.append(probability)
        self._context = window[-CONTEXT:]


def speech_spans(probabilities: list[float], threshold: float) -> list[tuple[int, int]]:
    """Stretches of speech as half-open spans of windows."""
    spans: list[tuple[int, int]] = []
    start: int | None = None
    quiet: int | None = None  # where the latest pause began
    for i, probability in enumerate(probabilities):
        if probability >= threshold:
            start, quiet = i if start is None else start, None
        elif start is not None and probability < threshold - HYSTERESIS:
            quiet = i if quiet is None else quiet
        if start is not None and quiet is not None and (i - quiet) * WINDOW_S >= MIN_SILENCE_S:
            spans.append((start, quiet))
            start = quiet = None
    if start is not None:
        spans.append((start, len(probabilities)))
    return [(a, b) for a, b in spans if (b - a) * WINDOW_S > MIN_SPEECH_S]
