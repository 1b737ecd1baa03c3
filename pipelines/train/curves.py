"""The curves of a training as one picture: what its log says over the steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.files import write_bytes
from pipelines.strip.canvas import FAINT, INK, LINE, SOFT, Canvas, rgb
from training.log import LOG

NAME = "curves.png"
PANELS = {
    "val_psnr_db": "held-out PSNR, dB",
    "loss": "loss",
    "val_loss": "held-out loss",
    "val_loss_0.10": "held-out loss at little noise (0.1)",
    "val_loss_0.90": "held-out loss at much noise (0.9)",
    "l1": "mean absolute error",
    "temporal": "error of frame differences",
    "kl": "KL, nats a latent number",
    "perceptual": "perceptual distance",
    "norm": "norm of the gradient",
    "tokens_per_s": "tokens a second",
}
"""Rows of the log that are drawn, where they are there, and their titles."""
WIDTH_PX, HEIGHT_PX, PER_ROW = 380, 190, 2
MARGIN_PX, HEAD_PX = 56, 26
SMOOTH = 9
"""Rows of the log whose median is drawn: each tells of other crops."""
LIGHT, DARK = rgb("#c9d8e6"), rgb("#0072b2")
Points = NDArray[np.float64]


def draw_curves(folder: Path) -> Path | None:
    """Draw ``log.jsonl`` of a run's folder as ``curves.png``; None when there is nothing to draw.

    Args:
        folder: Of the run.
    """
    series = read_series(folder / LOG)
    drawn = [name for name in PANELS if len(series.get(name, ())) > 1]
    if not drawn:
        return None
    rows = -(-len(drawn) // PER_ROW)
    canvas = Canvas(WIDTH_PX * PER_ROW, HEIGHT_PX * rows)
    for number, name in enumerate(drawn):
        x, y = number % PER_ROW * WIDTH_PX, number // PER_ROW * HEIGHT_PX
        _panel(canvas, x, y, PANELS[name], series[name])
    path = folder / NAME
    write_bytes(str(path), canvas.png())
    return path


def read_series(log: Path) -> dict[str, Points]:
    """Numbers of a log by name, each (n, 2) of step and value; lines cut off by a kill are left."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        for name, value in row.items():
            if isinstance(value, int | float) and np.isfinite(value):
                found.setdefault(name, []).append((row["step"], value))
    return {name: np.array(points, np.float64) for name, points in found.items()}


def _panel(canvas: Canvas, x: int, y: int, title: str, points: Points) -> None:
    """One curve: single rows in pale, their running median in blue, its ends in numbers."""
    left, right = x + MARGIN_PX, x + WIDTH_PX - 14
    top, bottom = y + HEAD_PX, y + HEIGHT_PX - 24
    smooth = _running_median(points)
    low, high = float(smooth[:, 1].min()), float(smooth[:, 1].max())
    room = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    low, high = low - room, high + room
    canvas.text(left, y + 13, title, INK)
    for share in (0.0, 0.5, 1.0):
        at = bottom + (top - bottom) * share
        canvas.box(left, at, right, at + 1, LINE)
        canvas.text_right(left - 6, at, f"{low + (high - low) * share:.3g}", FAINT)
    last = max(1.0, points[-1, 0])
    canvas.text(left, bottom + 12, "0", FAINT)
    canvas.text_right(right, bottom + 12, f"{last:.0f} steps", FAINT)
    canvas.text_right(right, y + 13, f"{smooth[-1, 1]:.4g}", SOFT)
    for values, color in ((points, LIGHT), (smooth, DARK)):
        place = np.empty_like(values)
        place[:, 0] = left + values[:, 0] / last * (right - left)
        shares = np.clip((values[:, 1] - low) / (high - low), 0, 1)
        place[:, 1] = bottom + shares * (top - bottom)
        canvas.curve(place, color)


def _running_median(points: Points) -> Points:
    if len(points) < 3 * SMOOTH:
        return points
    windows = np.lib.stride_tricks.sliding_window_view(points[:, 1], SMOOTH)
    middle = points[SMOOTH // 2 : SMOOTH // 2 + len(windows)].copy()
    middle[:, 1] = np.median(windows, axis=-1)
    return middle
