"""Filters that need FFmpeg's graph: deinterlacing and cropping, one frame out for each one in.

Deinterlacing is FFmpeg's bwdif (Weston three-field motion compensation, BBC R&D, inside yadif's
motion check). It works on fields, so it comes before anything that mixes lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

from curation.media.bars import Box
from curation.media.decode import Decoded

Deinterlace = Literal["auto", "always", "never"]
_Key = tuple[int, int, str, int, int, bool]


class FrameFilters:
    """Deinterlaces and crops a run of frames; every frame keeps the pts it came with.

    Attributes:
        deinterlacing: True once a frame was taken for interlaced.
    """

    def __init__(self, deinterlace: Deinterlace, crop: Box | None) -> None:
        """Prepare.

        Args:
            deinterlace: ``auto`` acts on frames that are flagged as interlaced.
            crop: Part to keep, in stored pixels; None: all.
        """
        self.deinterlacing = deinterlace == "always"
        self._deinterlace, self._crop = deinterlace, crop
        self._graph: Graph | None = None
        self._key: _Key | None = None
        self._waiting: deque[int] = deque()  # pts of frames inside the graph
        self._pushed = 0

    def __call__(self, frames: Iterable[Decoded]) -> Iterator[tuple[int, VideoFrame]]:
        """Filter frames in order; yields ``(pts, frame)``, as many as came in."""
        for decoded in frames:
            frame = decoded.frame
            if self._deinterlace == "auto":
                # Once on, it stays on: bwdif itself passes frames without the flag.
                self.deinterlacing |= frame.interlaced_frame
            key = (
                frame.width,
                frame.height,
                frame.format.name,
                int(frame.colorspace),
                int(frame.color_range),
                self.deinterlacing,
            )
            if key != self._key:
                yield from self._flush()
                self._graph, self._key = self._build(key), key
            if self._graph is None:
                yield decoded.pts, frame
                continue
            # The graph only sees a count: times stay outside, as exact as they came.
            frame.pts, frame.time_base = self._pushed, Fraction(1, 1000)
            self._pushed += 1
            self._waiting.append(decoded.pts)
            self._graph.vpush(frame)
            yield from self._ready()
        yield from self._flush()

    def _build(self, key: _Key) -> Graph | None:
        width, height, pix_fmt, matrix, value_range, deinterlacing = key
        chain: list[tuple[str, str]] = []
        if deinterlacing:
            which = "all" if self._deinterlace == "always" else "interlaced"
            chain.append(("bwdif", f"mode=send_frame:parity=auto:deint={which}"))
        if self._crop is not None:
            box = self._crop
            chain.append(("crop", f"{box.width_px}:{box.height_px}:{box.x_px}:{box.y_px}:exact=1"))
        if not chain:
            return None
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt={pix_fmt}:time_base=1/1000:pixel_aspect=1/1"
            f":colorspace={matrix}:range={value_range}",
        )
        nodes = [source, *(graph.add(name, args) for name, args in chain)]
        graph.link_nodes(*nodes, graph.add("buffersink"))
        graph.configure()
        return graph

    def _ready(self) -> Iterator[tuple[int, VideoFrame]]:
        while self._graph is not None:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield self._waiting.popleft(), frame

    def _flush(self) -> Iterator[tuple[int, VideoFrame]]:
        if self._graph is None:
            return
        self._graph.vpush(None)
        yield from self._ready()
        if self._waiting:
            raise ValueError(f"the filters kept {len(self._waiting)} frames back")
        self._graph = None
