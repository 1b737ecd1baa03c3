"""Judging many synthetic clips in memory: time and peak memory of each step.

    python -m tests.bench.judge [--clips 1000000] [--batch 65536]

Twelve rules (ten scores in 32 bits, one text, one flag), three overrides by source, licence and
URI, and rights; then sampling and splits of all clips. Printed are elapsed and processor time, and
how far above what it held before the process went in the step (Linux).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.judging.rules import Rules
from curation.judging.sample import Sampling
from curation.judging.splits import Splits
from curation.judging.waterfall import reasons_in_order, waterfall

SCORES = [f"score_{i}" for i in range(10)]
RULES: dict[str, Any] = {
    "rules": {
        **{name: {"min": 0.05, "max": 0.97} for name in SCORES},
        "camera_class": {"none_of": ["roll_*", "mixed"], "if_null": "keep"},
        "has_audio": {"one_of": True, "if_null": "keep"},
    },
    "overrides": [
        {"where": {"source": "studio-1*"}, "rules": {"score_0": {"min": 0.3}, "score_1": None}},
        {"where": {"license": ["CC0*", "CC-BY-4*"]}, "rules": {"score_2": {"max": 0.5}}},
        {"where": {"uri": "*/2026/*"}, "rules": {"score_0": {"min": 0.01}, "camera_class": None}},
    ],
    "rights": {"require": "source", "deny": {"license": "*-NC-*"}},
}
SAMPLES: dict[str, dict[str, Any]] = {
    "sample, caps": {"per_video": {"max_clips": 8}, "max_clips": 100_000},
    "sample, a share": {"per_source": {"max_share": 0.04}},
    "sample, three shares": {
        "per_source": {"max_share": 0.04},
        "duration_mix": {"2-4": 0.3, "4-8": 0.5, "8-": 0.2},
        "balance": {"max_share": 0.02},
    },
}


def synthetic_clips(count: int, seed: int = 0) -> pa.Table:
    """Clips of a tenth as many videos; facts of the source as indices into few values."""
    rng = np.random.default_rng(seed)
    videos = rng.integers(0, max(1, count // 10), count)
    texts = {
        "source": [*(f"studio-{i}" for i in range(40)), None],
        "license": ["CC0-1.0", "CC BY 4.0", "CC BY-NC 4.0", "MIT OR Apache-2.0", None],
        "camera_class": ["static", "pan_left", "zoom_in", "roll_cw", "mixed", None],
    }
    # Like a real catalog: few large sources, many small ones.
    skewed = np.minimum(rng.geometric(0.08, count) - 1, 40)
    picks = {
        n: skewed if n == "source" else rng.integers(0, len(v), count) for n, v in texts.items()
    }
    columns: dict[str, Any] = {
        "clip_id": pa.array([f"{i:032x}" for i in range(count)]),
        "video_id": pa.array([f"{v:064x}" for v in videos.tolist()]),
        "uri": pa.array([f"s3://bucket/{2020 + v % 7}/{v}.mp4" for v in videos.tolist()]),
        "duration_s": rng.uniform(2, 12, count),
        "has_audio": pa.array(rng.random(count) < 0.9),
        "cluster": np.minimum(rng.zipf(1.4, count), 300),
    }
    for name, values in texts.items():
        codes = pa.array(picks[name].astype(np.int8))
        columns[name] = pa.DictionaryArray.from_arrays(codes, pa.array(values, pa.string()))
    for name in SCORES:
        columns[name] = pa.array(rng.uniform(0, 1, count).astype(np.float32))
    return pa.table(columns)


def timed(name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the work returns
    """Do the work, and print how long it took and how far the process grew."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held, started, cpu = _memory_mib("VmRSS"), time.perf_counter(), time.process_time()
    result = work()
    took_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    peak = _memory_mib("VmHWM") - held
    print(f"{name:>28}: {took_s:6.2f} s, {cpu_s:6.2f} s of CPU, peak +{peak:.0f} MiB")
    return result


def _memory_mib(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=65_536)
    given = parser.parse_args()
    rules = Rules.model_validate(RULES)
    clips = synthetic_clips(given.clips)
    print(f"{clips.num_rows} clips, {len(rules.rules)} rules, {clips.nbytes / 2**20:.0f} MiB")
    rules.judge(clips.slice(0, 1000))  # what is loaded once

    batches = clips.select(["clip_id", "video_id", *rules.columns()]).to_batches(given.batch)
    timed(
        f"judged by {given.batch}",
        lambda: [rules.judge(pa.Table.from_batches([b])).num_rows for b in batches],
    )
    found = timed("judged at once", lambda: rules.judge(clips))
    kept = clips.filter(pc.call_function("equal", [found.column("verdict"), pa.scalar("kept")]))
    print(f"{kept.num_rows} kept; the process holds {_memory_mib('VmRSS'):.0f} MiB")
    rows = found.append_column("duration_s", clips.column("duration_s"))
    order = reasons_in_order(rules.rule_columns())
    timed("waterfall", lambda: waterfall(rows.to_reader(given.batch), order))
    for name, fields in SAMPLES.items():
        sampling = Sampling.model_validate(fields)
        reasons = timed(f"{name}, of all", lambda s=sampling: s.choose(clips))
        print(f"{reasons.null_count} taken")
    timed("splits", lambda: Splits().assign(clips.column("video_id")))


if __name__ == "__main__":
    main()
