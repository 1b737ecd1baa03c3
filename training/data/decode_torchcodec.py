"""The same frames by torchcodec, where it is installed: ``decoder: torchcodec``.

Which frame is shown at a time is decided in the same way, by exact presentation times. It scales
with a bilinear filter only, and takes a matrix that is not named for BT.601 at any size: pixels
differ a little from those of PyAV, so the decoder belongs to what a training is repeated with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torchcodec.decoders import VideoDecoder  # pyright: ignore[reportMissingImports]
from torchcodec.transforms import Resize  # pyright: ignore[reportMissingImports]

from curation.errors import ConfigError, ErrorCode, MediaError
from training.data.decode import EARLY_S, View


def decode_clip(
    data: bytes,
    times_s: Sequence[float],
    view: View,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """As :func:`training.data.decode.decode_clip`.

    Raises:
        ConfigError: Another filter than the bilinear one is asked for.
        MediaError: The clip is damaged where it is needed, or is no video.
    """
    if view.scaling != "bilinear":
        raise ConfigError(
            "torchcodec scales with a bilinear filter only",
            where="read.scaling",
            mend="set scaling: bilinear, or decoder: pyav",
        )
    try:
        header = VideoDecoder(data, seek_mode="approximate").metadata
        if not header.height or not header.width:
            raise MediaError(ErrorCode.NO_VIDEO_STREAM, "no video stream")
        high, wide = view.scaled(header.height, header.width)
        decoder = VideoDecoder(data, dimension_order="NHWC", transforms=[Resize((high, wide))])
        begin, end = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
        at = [min(begin + t + EARLY_S, end - EARLY_S) for t in times_s]
        frames = decoder.get_frames_played_at(at).data.numpy()
    except (RuntimeError, ValueError, IndexError) as exc:
        said = (str(exc).splitlines() or [""])[0]
        raise MediaError(ErrorCode.DECODE_FAILED, f"{type(exc).__name__}: {said}") from exc
    top, left = view.corner(high, wide)
    cut = frames[:, top : top + view.height_px, left : left + view.width_px]
    cut = cut[:, :, ::-1] if view.mirror else cut
    if out is None:
        return np.ascontiguousarray(cut)
    out[:] = cut
    return out
