"""The shards read with nothing but webdataset and PyAV: no part of Clipmill is imported.

    python training/examples/plain_webdataset.py data/clips

A shard is a plain tar. Every sample has a ``.mp4``, a ``.json`` and a ``.txt`` of one key.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from webdataset.compat import WebDataset


def samples(root: str, fps: float = 8.0) -> Iterator[dict[str, Any]]:
    """All samples of a dataset, shard by shard.

    Args:
        root: Dataset root, a local folder.
        fps: Frames per second to give.

    Yields:
        ``key``, ``caption``, ``record`` (the ``.json``) and ``video``: uint8 of shape (T, H, W, 3).
    """
    shards = sorted(str(path) for path in Path(root, "shards").rglob("*.tar"))
    data: Any = WebDataset(shards, shardshuffle=False)
    for sample in data.decode():
        yield {
            "key": sample["__key__"],
            "caption": sample["txt"],
            "record": sample["json"],
            "video": frames(sample["mp4"], fps),
        }


def frames(data: bytes, fps: float) -> np.ndarray:
    """The pictures on screen every ``1 / fps`` seconds from the first one on, of the stored size.

    A picture is on screen until the next one is: at 8 per second of 30 these are number 0, 3, 7...
    """
    found: list[np.ndarray] = []
    shown: np.ndarray | None = None
    begin_s = time_s = early_s = 0.0
    with av.open(io.BytesIO(data), "r") as source:
        for frame in source.decode(video=0):
            if frame.time is None or frame.time_base is None:
                continue
            if shown is None:
                begin_s = frame.time
                early_s = max(1e-4, float(frame.time_base) / 2)  # times are rounded to ticks
            time_s = frame.time - begin_s
            while shown is not None and len(found) / fps + early_s < time_s:
                found.append(shown)
            shown = frame.to_ndarray(format="rgb24")
    while shown is not None and len(found) / fps <= time_s + early_s:
        found.append(shown)
    return np.stack(found)


def main() -> None:
    """Print a line for every sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", help="dataset root, with shards")
    for sample in samples(parser.parse_args().root):
        print(sample["key"], sample["video"].shape, sample["caption"][:60])


if __name__ == "__main__":
    main()
