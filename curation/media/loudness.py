"""Loudness of sound as people perceive it: ITU-R BS.1770-4 as in EBU R 128, by FFmpeg's ebur128."""

from __future__ import annotations

from fractions import Fraction

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from curation.media.audio import LAYOUT, RATE_HZ

GATE_LUFS = -70.0
"""The standard's absolute gate: quieter blocks do not count, and this value means that none did."""


class LoudnessMeter:
    """Integrated loudness of stereo sound that comes in pieces."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add(
            "abuffer",
            f"sample_rate={RATE_HZ}:sample_fmt=fltp:channel_layout={LAYOUT}:time_base=1/{RATE_HZ}",
        )
        meter = self._graph.add("ebur128", "metadata=1:framelog=quiet")
        self._graph.link_nodes(source, meter, self._graph.add("abuffersink"))
        self._graph.configure()
        self._count, self._lufs = 0, GATE_LUFS

    def add(self, samples: np.ndarray) -> None:
        """Take the next samples, float32 [2, n] at ``RATE_HZ``."""
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=LAYOUT)
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._count, Fraction(1, RATE_HZ)
        self._count += samples.shape[1]
        self._graph.push(frame)
        self._read()

    def lufs(self) -> float | None:
        """Integrated loudness of all that came, LUFS; None below the gate or 0.4 seconds."""
        self._graph.push(None)
        self._read()
        return self._lufs if self._lufs > GATE_LUFS else None

    def _read(self) -> None:
        while True:
            try:
                told = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            self._lufs = float(told.metadata.get("lavfi.r128.I", self._lufs))
