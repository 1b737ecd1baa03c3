"""What tests of embeddings share: real footage as stored samples, and small networks on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from curation.judging.rules import Rules
from curation.models.embedders import MODELS
from curation.models.heads import HEADS
from curation.plan import Plan
from curation.stage import Stage
from pipelines.config import load_config
from pipelines.demo import demo_footage

TINY_CLIP = "clipmill-test-tiny"
Row = dict[str, Any]


def plan_with(*stages: Stage) -> Plan:
    """The default plan's necessary stages, with some before the cut, and no rules."""
    known = {s.name: s for s in load_config().plan().stages}
    first = [known[n] for n in ("probe", "signals", "split", "score")]
    return Plan(stages=(*first, *stages, known["cut"], known["retest"]), rules=Rules())


def footage(name: str, *, every_s: float = 0.5) -> tuple[list[float], list[np.ndarray]]:
    """Times and uint8 RGB pictures of a real clip that an installed package carries."""
    times_s, pictures = [], []
    with av.open(str(demo_footage() / name)) as source:
        for frame in source.decode(video=0):
            assert frame.time is not None
            if not times_s or frame.time >= times_s[-1] + every_s:
                times_s.append(frame.time)
                pictures.append(frame.to_ndarray(format="rgb24"))
    return times_s, pictures


def clip_row(
    clip_id: str,
    pictures: Iterable[np.ndarray],
    times_s: Iterable[float] | None = None,
    *,
    quality: int = 90,
) -> Row:
    """What ``embed`` reads of a clip."""
    jpegs = [jpeg(p, quality) for p in pictures]
    times = list(times_s) if times_s is not None else [float(i) for i in range(len(jpegs))]
    return {"clip_id": clip_id, "video_id": "v", "sample_pts_s": times, "sample_jpegs": jpegs}


def jpeg(picture: np.ndarray, quality: int = 90) -> bytes:
    """An RGB picture as stored."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def resized(pictures: Iterable[np.ndarray], height_px: int) -> list[np.ndarray]:
    """Pictures at another size."""
    return [
        cv2.resize(
            p, (round(p.shape[1] * height_px / p.shape[0]), height_px), interpolation=cv2.INTER_AREA
        )
        for p in pictures
    ]


def tiny_clip(folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, *, seed: int = 0) -> Path:
    """A CLIP model of one layer per tower, with random weights, in a models folder of its own.

    Args:
        folder: Becomes the models folder.
        monkeypatch: Undoes it all.
        key: Which model it stands for.
        seed: Of its weights.

    Returns:
        Its file.
    """
    import open_clip
    import torch
    from safetensors.torch import save_file

    dim = MODELS[key].dim
    name = f"{TINY_CLIP}-{dim}"
    config = {
        "embed_dim": dim,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 224, "layers": 1, "width": 64, "patch_size": 32},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    }
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(config))
    open_clip.add_model_config(path)
    torch.manual_seed(seed)
    network = open_clip.create_model(name, pretrained=None, load_weights=False)
    monkeypatch.setitem(MODELS, key, replace(MODELS[key], architecture=name))
    monkeypatch.setenv("CLIPMILL_MODELS", str(folder))
    target = folder / MODELS[key].weights.file
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, target)
    return target


def put_head(
    folder: Path, monkeypatch: pytest.MonkeyPatch, key: str, state: dict[str, Any]
) -> Path:
    """Write an aesthetic head's file into a models folder; any content is taken for it."""
    import torch

    head = HEADS[key]
    monkeypatch.setitem(HEADS, key, replace(head, weights=replace(head.weights, sha256=None)))
    path = folder / head.weights.file
    torch.save(state, path)
    return path
