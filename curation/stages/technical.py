"""Technical: blur, noise, blocks, flicker, repeats, bars and colour of each clip, from the signals.

No pixel is touched. What belongs to single pixels (blur, noise, blocks, combing) is measured at the
stored size; everything else at any size and frame rate alike. Sources of the measures stand in
``curation/signals/technical_tiles.py`` and ``technical_time.py``. A score is null where it was not
measured: pictures below 32 pixels, clips shorter than the time grid, pictures without an edge.
Cost: about a millisecond a clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.schema import (
    BOOLS,
    DOUBLES,
    FLOAT32,
    FLOAT64,
    FLOATS,
    INT32,
    INT64,
    STRING,
    schema,
)
from curation.signals.technical_time import (
    cadence,
    find_bars,
    flashes_in_a_second,
    flicker,
    frozen_frames,
    lighting_change,
    repeated_frames,
    weighted_mean,
    weighted_quantile,
)
from curation.stage import Grain, Output, Stage

DIGITS = 5
SIDES = ("top", "right", "bottom", "left")
LISTS = (
    "luma_mean",
    *("change", "step_change", "saturation"),
    *("noise", "blockiness", "combing", "blur_px"),
    *(f"bar_{side}" for side in SIDES),
)


class Technical(Stage):
    """Scores the technical quality of clips from signals."""

    name: ClassVar[str] = "technical"
    version: ClassVar[int] = 1
    grain: ClassVar[Grain] = "clip"
    reads: ClassVar[pa.Schema] = schema(
        clip_id=STRING,
        end_s=FLOAT64,
        width_px=INT32,
        height_px=INT32,
        rotation_deg=INT32,
        video_bytes=INT64,
        video_num_frames=INT64,
        frame_time_s=DOUBLES,
        frame_damaged=BOOLS,
        **dict.fromkeys((f"frame_{name}" for name in LISTS), FLOATS),
    )
    adds: ClassVar[Mapping[str, pa.Schema]] = {
        "scores_technical": schema(
            clip_id=STRING,
            blur_px=FLOAT32,  # sigma of the sharper edges, stored pixels; about 0.6 crisp, 2 soft
            noise=FLOAT32,  # standard deviation in calm places, luma of 0-1
            blockiness=FLOAT32,  # 0 none - 1 all fine steps lie on a grid of 8 pixels
            combing_fraction=FLOAT32,  # share of the time with two fields in one picture
            flicker=FLOAT32,  # luma off its trend of half a second, half of the time
            flashes_per_s=FLOAT32,  # most in any one second
            lighting_change=FLOAT32,  # range of the light over the clip, averaged over a second
            saturation=FLOAT32,  # 0 grey - 1 pure colours
            frozen_fraction=FLOAT32,  # share of the time in which nothing moves for 1/4 s
            longest_freeze_s=FLOAT32,
            duplicate_fraction=FLOAT32,  # share of repeats among the frames that are not frozen
            true_fps=FLOAT32,  # new pictures per second, outside of standstills
            repeat_cadence=STRING,  # how often each picture is shown, "3:2"; null: no pattern
            bar_top_fraction=FLOAT32,  # black bars as displayed, share of the side
            bar_bottom_fraction=FLOAT32,
            bar_left_fraction=FLOAT32,
            bar_right_fraction=FLOAT32,
            active_width_px=INT32,  # inside the bars, as displayed
            active_height_px=INT32,
            bits_per_pixel=FLOAT32,  # of the whole file, sound included
        )
    }

    frozen_below: float = Field(
        0.005, ge=0, description="change of a picture that stands still, luma of 0-1"
    )
    combed_above: float = Field(
        0.03, ge=0, le=1, description="share of a combed picture's blocks that are combed"
    )
    min_bar: float = Field(0.02, gt=0, lt=0.5, description="smallest bar, share of the side")

    def process(self, batch: pa.Table) -> Iterator[Output]:
        """Score a batch of clips."""
        table = "scores_technical"
        rows = [self._row(_Clip(batch.slice(i, 1))) for i in range(batch.num_rows)]
        yield table, pa.Table.from_pylist(rows, schema=self.adds[table])

    def _row(self, clip: _Clip) -> dict[str, Any]:
        values = {
            **self._pixels(clip),
            **_light(clip),
            **self._repeats(clip),
            **self._bars(clip),
            "bits_per_pixel": clip.bits_per_pixel(),
        }
        rounded = {
            name: round(value, DIGITS) if isinstance(value, float) else value
            for name, value in values.items()
        }
        return {"clip_id": clip.row["clip_id"], **rounded}

    def _pixels(self, clip: _Clip) -> dict[str, Any]:
        """What was measured at points of the time grid: each counts the same."""
        even = np.ones(len(clip.time_s))
        combing = clip.signals["combing"]
        combed = np.where(np.isnan(combing), np.nan, combing > self.combed_above)
        middle = {
            name: weighted_quantile(clip.signals[name], even, 0.5)
            for name in ("blur_px", "noise", "blockiness")
        }
        return {
            **middle,
            "combing_fraction": weighted_mean(combed, even),
            "saturation": weighted_mean(clip.signals["saturation"], even),
        }

    def _repeats(self, clip: _Clip) -> dict[str, Any]:
        change = clip.signals["change"]
        names = ("duplicate_fraction", "true_fps", "repeat_cadence")
        if np.isnan(change[1:]).all():
            return dict.fromkeys(("frozen_fraction", "longest_freeze_s", *names))
        step = clip.signals["step_change"]
        frozen, known = frozen_frames(change, step, self.frozen_below)
        lasts_s = clip.lasts_s
        found: dict[str, Any] = dict.fromkeys(names)
        found["frozen_fraction"] = weighted_mean(np.where(known, frozen, np.nan), lasts_s)
        found["longest_freeze_s"] = _longest_s(frozen, lasts_s) if known.any() else None
        moves = ~frozen
        if moves[1:].any():
            repeated = repeated_frames(change, frozen, clip.time_s)
            found["duplicate_fraction"] = float(repeated[moves].mean())
            found["true_fps"] = float((moves & ~repeated).sum() / lasts_s[moves].sum())
            found["repeat_cadence"] = cadence(repeated, frozen)
        return found

    def _bars(self, clip: _Clip) -> dict[str, Any]:
        width, height = clip.row["width_px"], clip.row["height_px"]
        turn = clip.row["rotation_deg"] or 0
        stored = (height, width) if turn in (90, 270) else (width, height)
        reach = {side: clip.signals[f"bar_{side}"] for side in SIDES}
        bars = find_bars(reach, stored[1], stored[0], self.min_bar)
        if bars is None:
            names = [f"bar_{side}_fraction" for side in SIDES]
            return dict.fromkeys([*names, "active_width_px", "active_height_px"])
        bars = bars.turned(turn)
        return {
            **{f"bar_{side}_fraction": getattr(bars, side) for side in SIDES},
            "active_width_px": round(width * (1 - bars.left - bars.right)),
            "active_height_px": round(height * (1 - bars.top - bars.bottom)),
        }


class _Clip:
    """One input row: its frames that are not damaged, with their signals (null as NaN).

    Attributes:
        row: The columns that are no lists.
        time_s: Times of the frames.
        lasts_s: How long each is shown.
        signals: Per name without ``frame_``, float64 [n]; all NaN for a missing list.
    """

    def __init__(self, row: pa.Table) -> None:
        lists = {f"frame_{name}" for name in (*LISTS, "time_s", "damaged")}
        self.row = row.drop_columns(sorted(lists)).to_pylist()[0]
        time_s = _values(row, "time_s", 0)
        keep = _values(row, "damaged", len(time_s)) != 1  # null: nothing is known against it
        self.time_s = time_s[keep]
        self.lasts_s = np.diff(np.append(time_s, self.row["end_s"]))[keep]
        self.signals = {name: _values(row, name, len(time_s))[keep] for name in LISTS}

    def bits_per_pixel(self) -> float | None:
        """Bits of the file for each pixel of each frame."""
        row = self.row
        sizes = [row[n] for n in ("video_bytes", "width_px", "height_px", "video_num_frames")]
        if not all(sizes):
            return None
        return 8 * sizes[0] / (sizes[1] * sizes[2] * sizes[3])


def _values(row: pa.Table, name: str, num: int) -> np.ndarray:
    """A list as float64, nulls as NaN; a list that is missing is NaN ``num`` times."""
    cell = row.column(f"frame_{name}")[0].values
    if cell is None:
        return np.full(num, np.nan)
    return cell.to_numpy(zero_copy_only=False).astype(np.float64)


def _light(clip: _Clip) -> dict[str, float | None]:
    luma = clip.signals["luma_mean"]
    if not len(luma) or np.isnan(luma).any():
        return dict.fromkeys(("flicker", "flashes_per_s", "lighting_change"))
    return {
        "flicker": flicker(luma, clip.time_s, clip.lasts_s),
        "flashes_per_s": flashes_in_a_second(luma, clip.time_s),
        "lighting_change": lighting_change(luma, clip.time_s, clip.lasts_s),
    }


def _longest_s(frozen: np.ndarray, lasts_s: np.ndarray) -> float:
    """The longest stretch of frozen frames in seconds."""
    longest = now = 0.0
    for still, length_s in zip(frozen.tolist(), lasts_s.tolist(), strict=True):
        now = now + length_s if still else 0.0
        longest = max(longest, now)
    return longest
