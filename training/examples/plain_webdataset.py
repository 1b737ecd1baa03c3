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
    """The pictures on screen every ``1 / fps`` seconds, of the stored size."""
    found: list[np.ndarray] = []
    with av.open(io.BytesIO(data), "r") as source:
        for frame in source.decode(video=0):
            while frame.time is not None and len(found) / fps <= frame.time + 1e-4:
                found.append(frame.to_ndarray(format="rgb24"))
    return np.stack(found)


def main() -> None:
    """Print a line for every sample."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", help="dataset root, with shards")
    for sample in samples(parser.parse_args().root):
        print(sample["key"], sample["video"].shape, sample["caption"][:60])


if __name__ == "__main__":
    main()
