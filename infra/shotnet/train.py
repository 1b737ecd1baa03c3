"""Trains the shot network on composed sequences.

Run: ``python -m infra.shotnet.train --bank DIR... --minutes 20 --out shotnet.safetensors``.
Composing runs in its own processes; every sequence is drawn once and never kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from infra.shotnet.compose import CLASSES, IGNORE, Composer, load_bank
from infra.shotnet.net import ShotNet

SEQUENCE_FRAMES = 144
EDGE_FRAMES = 16
BATCH = 12
CLASS_WEIGHTS = [1.0, 5.0, 1.5, 1.5, 1.5]
PEAK_LR = 2e-3


def main() -> None:
    """Train for a given time and save half-precision weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, nargs="+", required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    net = ShotNet()
    if options.start:
        net.load_state_dict({k: v.float() for k, v in load_file(options.start).items()})
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=8)
    worker = context.Process(target=_compose, args=(options.bank, options.seed, queue), daemon=True)
    worker.start()
    try:
        _train(net, queue, options.minutes * 60)
    except KeyboardInterrupt:
        print("stopped early")
    worker.terminate()
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, options.out)
    print(f"saved {options.out}")


def _compose(folders: list[Path], seed: int, queue: multiprocessing.Queue) -> None:
    composer = Composer(load_bank(folders), seed)
    while True:
        pairs = [composer.sequence(SEQUENCE_FRAMES) for _ in range(BATCH)]
        queue.put((np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])))


def _train(net: ShotNet, queue: multiprocessing.Queue, seconds: float) -> None:
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=1e-3)
    weights = torch.tensor(CLASS_WEIGHTS)
    started, step, shown = time.monotonic(), 0, []
    while (share := (time.monotonic() - started) / seconds) < 1:
        warm = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:  # down to nothing along a half cosine
            group["lr"] = PEAK_LR * warm * 0.5 * (1 + np.cos(np.pi * share))
        frames, labels = queue.get()
        logits = net(torch.from_numpy(frames))[:, EDGE_FRAMES:-EDGE_FRAMES].flatten(0, 1)
        target = torch.from_numpy(labels)[:, EDGE_FRAMES:-EDGE_FRAMES].flatten()
        loss = F.cross_entropy(logits, target, weight=weights, ignore_index=IGNORE)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        step += 1
        shown.append(float(loss.detach()))
        if step % 50 == 0:
            hit = _accuracy(logits, target)
            print(f"{share:.0%} step {step} loss {np.mean(shown[-50:]):.4f} {hit}", flush=True)


def _accuracy(logits: torch.Tensor, target: torch.Tensor) -> str:
    """Share of each class's frames that get their class."""
    best = logits.argmax(1)
    hits = []
    for i, name in enumerate(CLASSES):
        mask = target == i
        if mask.any():
            hits.append(f"{name} {float((best[mask] == i).float().mean()):.3f}")
    return " ".join(hits)


if __name__ == "__main__":
    main()
