"""Which clips make up which step: ``clipmill order``, streamed, however many are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from curation.errors import ConfigError
from training.data.index import ShardIndex
from training.data.order import Microbatch, check_world
from training.data.plan import DataPlan

SAMPLES_AT_ONCE = 65_536
"""Clip ids are read for so many samples together: each reading goes over the whole index file."""


MOST_STEP = 10**12
"""Times the most microbatches of a step it is a 64-bit number still."""


@dataclass(frozen=True)
class Line:
    """One microbatch as it is printed.

    Attributes:
        step: Optimizer step.
        microbatch: 0 to K - 1 over the whole step.
        rank: Which rank computes it.
        bucket: ``frames x height x width @ fps``.
        keys: Clip ids.
        weights: 1; 0 for a repeat that must not count in the loss.
    """

    step: int
    microbatch: int
    rank: int
    bucket: str
    keys: list[str]
    weights: list[int]


def parse_steps(text: str) -> range:
    """Steps from ``A:B`` (half-open) or ``A`` (one step).

    Raises:
        ConfigError: It is neither, B is below A, or above ``MOST_STEP``.
    """
    first, colon, end = text.partition(":")
    if not (_whole(first) and (_whole(end) or not colon)):
        raise ConfigError(
            f"{text!r} are no steps", where="--steps", mend="A:B from 0, without B; or one step A"
        )
    if max(len(first), len(end)) > len(str(MOST_STEP)) or int(end or first) > MOST_STEP:
        raise ConfigError(
            f"{text[:40]!r}: no training has so many steps", where="--steps", mend="up to 10^12"
        )
    start = int(first)
    stop = int(end) if colon else start + 1
    if stop < start:
        raise ConfigError(f"{text!r}: the end lies before the beginning", where="--steps")
    return range(start, stop)


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit()


def planned_lines(
    plan: DataPlan, steps: range, *, world_size: int, rank: int | None = None
) -> Iterator[Line]:
    """The microbatches of some steps with the keys of their samples, in order.

    Args:
        plan: The data.
        steps: Which steps.
        world_size: Ranks that share a step.
        rank: Only this one's microbatches; None: all.

    Raises:
        ConfigError: The ranks cannot share a step, or there is no such rank.
    """
    check_world(plan.order.num_microbatches, world_size, rank or 0)
    held: list[Microbatch] = []
    num_samples = 0
    for step in steps:
        own = plan.order.step(step) if rank is None else plan.order.of_rank(step, rank, world_size)
        for microbatch in own:
            held.append(microbatch)
            num_samples += len(microbatch.samples)
            if num_samples >= SAMPLES_AT_ONCE:
                yield from _with_keys(plan, held, world_size)
                held, num_samples = [], 0
    yield from _with_keys(plan, held, world_size)


def _with_keys(plan: DataPlan, held: list[Microbatch], world_size: int) -> Iterator[Line]:
    """Lines of microbatches whose keys are read together, once for each index."""
    indexes: dict[int, ShardIndex] = {}
    wanted: dict[int, list[int]] = {}
    places: list[tuple[int, int]] = []
    for microbatch in held:
        index = plan.index_at(microbatch.step, microbatch.number)
        name = id(index)
        indexes[name] = index
        positions = wanted.setdefault(name, [])
        places.append((name, len(positions)))
        positions.extend(microbatch.samples.tolist())
    keys = {name: indexes[name].clip_ids(positions) for name, positions in wanted.items()}
    for microbatch, (name, start) in zip(held, places, strict=True):
        yield Line(
            step=microbatch.step,
            microbatch=microbatch.number,
            rank=microbatch.number % world_size,
            bucket=microbatch.bucket.name,
            keys=keys[name][start : start + len(microbatch.samples)],
            weights=[int(weight) for weight in microbatch.weights],
        )


def write_json(lines: Iterator[Line], write: Callable[[str], object]) -> None:
    """Write lines as one JSON list, one line of text each, as they come."""
    write("[")
    for number, line in enumerate(lines):
        write(f"{',' if number else ''}\n{json.dumps(asdict(line), ensure_ascii=False)}")
    write("]\n")


def write_table(lines: Iterator[Line], write: Callable[[str], object]) -> None:
    """Write lines for people: aligned columns, keys shortened, repeats in brackets."""
    write(f"{'step':>8} {'k':>4} {'rank':>4}  {'bucket':<18} clips ((...): repeats of weight 0)\n")
    for line in lines:
        keys = " ".join(
            key[:10] if weight else f"({key[:10]})"
            for key, weight in zip(line.keys, line.weights, strict=True)
        )
        place = f"{line.step:>8} {line.microbatch:>4} {line.rank:>4}"
        write(f"{place}  {line.bucket:<18} {keys}\n")
