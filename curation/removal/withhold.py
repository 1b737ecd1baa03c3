"""The worker's side: rows of what was taken out are dropped before they reach a part file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from curation.removal.timeline import TIMES, removed_spans
from curation.removal.tombstones import Hidden, without_clips, without_pictures, without_samples
from curation.stage import Failure, Output

CLIPS, SPANS = "clips", "spans"


def withhold(hidden: Hidden | None, outputs: Iterable[Output]) -> Iterator[Output]:
    """What a stage yields of one video, without what may not come back.

    Clips that share a frame with a tombstone are dropped and their time becomes ``removed`` spans,
    however the video was split; sampled frames and pictures of single frames inside it are
    dropped. Numbers of frames stay: shots are found with them.

    Args:
        hidden: What of the video is gone; None: nothing, and the outputs pass as they are.
        outputs: Of one stage, conformed to the stored schemas.
    """
    if hidden is None:
        yield from outputs
        return
    timeline: dict[str, list[pa.Table]] = {}
    for output in outputs:
        if isinstance(output, Failure):
            yield output
        elif output[0] in (CLIPS, SPANS):
            timeline.setdefault(output[0], []).append(output[1])
        else:
            yield output[0], _sifted(output[1], hidden)
    if timeline:
        yield from _retimed({t: pa.concat_tables(found) for t, found in timeline.items()}, hidden)


def _sifted(rows: pa.Table, hidden: Hidden) -> pa.Table:
    names = set(rows.column_names)
    if "clip_id" in names:
        rows = without_clips(rows, hidden)
    if "sample_pts" in names:
        rows = without_samples(rows, hidden)
    return without_pictures(rows, hidden)


def _retimed(timeline: dict[str, pa.Table], hidden: Hidden) -> Iterator[Output]:
    """Clips without those that are gone, and spans for their time."""
    clips, spans = timeline.get(CLIPS), timeline.get(SPANS)
    if clips is not None:
        pts = zip(
            clips.column("start_pts").to_pylist(), clips.column("end_pts").to_pylist(), strict=True
        )
        gone = pa.array([hidden.hides_pts(start, end) for start, end in pts], pa.bool_())
        dropped, clips = clips.filter(gone), clips.filter(pc.call_function("invert", [gone]))
        yield CLIPS, clips
        if spans is not None and dropped.num_rows:
            rest = [r for t in (clips, spans) for r in t.select(TIMES).to_pylist()]
            made = removed_spans(dropped.select(TIMES).to_pylist(), rest)
            keys = {n: dropped.column(n)[0].as_py() for n in ("video_id", "fingerprint")}
            rows = pa.Table.from_pylist([r | keys for r in made], schema=spans.schema)
            spans = pa.concat_tables([spans, rows])
    if spans is not None:
        yield SPANS, spans
