"""Looking for changes of shot inside a cut clip: every frame of the file that was written."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from curation.media.decode import open_video, walk_frames
from curation.media.prefetch import prefetched
from curation.signals.analysis import Shrinker
from curation.signals.appearance import AppearanceMeter
from curation.signals.changes import ChangeMeter, thumbnail
from curation.signals.shots import find_transitions
from curation.signals.transitions import FrameSignals, ShotSettings, Transition, content_scores

PREFETCH_FRAMES = 8


def transitions_inside(
    path: str, meter: ChangeMeter, settings: ShotSettings
) -> tuple[list[Transition], np.ndarray]:
    """Decode a clip and run a detector on it.

    Args:
        path: Local path of the clip.
        meter: A fresh one.
        settings: The detector.

    Returns:
        The transitions, and the times of all frames in seconds, float64 [n].

    Raises:
        MediaError: The file does not open.
    """
    looks, shrink = AppearanceMeter(), Shrinker()
    rows, times, changes = [], [], []
    with open_video(path) as (container, stream):
        unit_s = float(stream.time_base or 0)
        with closing(prefetched(walk_frames(container, stream), PREFETCH_FRAMES)) as frames:
            for decoded in frames:
                small = shrink(decoded.frame)
                rows.append(looks.push(small))
                times.append(decoded.pts * unit_s)
                changes += meter.push(thumbnail(small.bgr))
    changes += meter.finish()
    if not rows:
        return [], np.zeros(0)
    columns = np.array(rows, np.float64)
    names = rows[0]._fields
    column = {name: columns[:, i] for i, name in enumerate(names)}
    odds = np.concatenate(changes).astype(np.float64)
    signals = FrameSignals(
        content=content_scores(column["delta_hue"], column["delta_sat"], column["delta_val"]),
        histogram=column["delta_hist"],
        rgb_mean=column["rgb_mean"],
        odds=odds[:, :4],
        transnet=odds[:, 4:6],
        change_share=odds[:, 6],
        time_s=np.array(times),
    )
    return find_transitions(signals, settings), signals.time_s
