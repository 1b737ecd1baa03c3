"""A run pins its shards: the same state gives the same order, and new shards wait for an epoch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.errors import CatalogError, ConfigError
from tests.training.synthetic import Row, small_settings, some_rows, write_index
from training.data.order import Microbatch
from training.data.plan import DataPlan, open_plan, restarted
from training.data.settings import DataSettings

State = dict[str, Any]
OLD = some_rows(4, 20, source="stock")
NEW = some_rows(2, 20, generation=1, source="stock")
NEWER = some_rows(1, 20, generation=2, source="stock")


def state_of(plan: DataPlan, step: int = 0) -> State:
    """What a trainer keeps of the data, through JSON."""
    return json.loads(json.dumps(plan.state(step)))


def keys(plan: DataPlan, step: int) -> list[tuple[object, ...]]:
    """What a step shows: source, epoch, bucket, clips by hash, weights; per microbatch."""
    return [shown(plan, batch) for batch in plan.order.step(step)]


def shown(plan: DataPlan, batch: Microbatch) -> tuple[object, ...]:
    index = plan.index_at(batch.step, batch.number)
    hashes = index["key_hash"][batch.samples].tolist()
    place = (batch.source, batch.epoch, batch.bucket.name)
    return (*place, tuple(hashes), tuple(batch.weights.tolist()))


def stream(plan: DataPlan, start: int, end: int) -> list[list[tuple[object, ...]]]:
    return [keys(plan, step) for step in range(start, end)]


def mixture(*sources: Mapping[str, object], **order: Any) -> DataSettings:  # noqa: ANN401
    return small_settings(**order).model_copy(
        update={"sources": DataSettings.model_validate({"sources": sources}).sources}
    )


def once_each(plan: DataPlan, epoch: int, source: int, steps: int) -> Counter[int]:
    """How often a clip stands with weight 1 in an epoch of a source."""
    found = Counter[int]()
    for step in range(steps):
        for batch in plan.order.step(step):
            if (batch.source, batch.epoch) == (source, epoch):
                hashes = plan.index_at(step, batch.number)["key_hash"][batch.samples]
                found.update(hashes[batch.weights > 0].tolist())
    return found


def hashes_of(rows: list[Row]) -> set[int]:
    return {int(row.values()["key_hash"] or 0) for row in rows}


# Pins


def test_a_state_gives_the_same_order_again(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(seed=3), root)
    again = open_plan(small_settings(seed=3), root, state=state_of(plan))
    assert again.fingerprint() == plan.fingerprint()
    assert stream(again, 0, 30) == stream(plan, 0, 30)
    assert stream(open_plan(small_settings(seed=3), root), 0, 30) == stream(plan, 0, 30)
    assert plan.steps_per_epoch and plan.order.step(plan.steps_per_epoch)[0].epoch == 1
    assert plan.order.step(plan.steps_per_epoch - 1)[-1].epoch == 0


def test_new_shards_stay_out_until_they_are_asked_for(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    before, state = stream(plan, 0, 30), state_of(plan)
    write_index(tmp_path, [*NEW, *OLD])
    again = open_plan(small_settings(), root, state=state)
    assert stream(again, 0, 30) == before and state_of(again) == state
    assert len(again.index(0, 0)) == len(OLD) < len(open_plan(small_settings(), root).index(0, 0))


def test_new_shards_enter_with_the_next_epoch_and_no_sooner(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    size = plan.steps_per_epoch
    assert size is not None
    untouched = stream(plan, 0, 2 * size)
    assert plan.take_new_shards(size + 1) == []
    write_index(tmp_path, [*OLD, *NEW])
    said = plan.take_new_shards(size + 1)
    assert len(said) == 1 and "40 samples of generations 1 to 1 from epoch 2 on" in said[0]
    assert stream(plan, 0, 2 * size) == untouched
    steps = 2 * size + (plan.steps_per_epoch or 0)
    found = once_each(plan, 2, 0, steps)
    assert set(found) == hashes_of([*OLD, *NEW]) and set(found.values()) == {1}
    assert once_each(plan, 1, 0, steps).keys() == hashes_of(OLD)
    assert plan.take_new_shards(size + 1) == []


def test_at_the_first_step_of_an_epoch_they_enter_at_once(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    size = plan.steps_per_epoch
    assert size is not None
    write_index(tmp_path, [*OLD, *NEW])
    plan.take_new_shards(size)
    assert {batch.epoch for batch in plan.order.step(size)} == {1}
    assert len(plan.index_at(size, 0)) == 120 and len(plan.index_at(size - 1, 0)) == 80


def test_a_state_keeps_what_is_pending(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    size = plan.steps_per_epoch or 0
    plan_before = plan.fingerprint()
    write_index(tmp_path, [*OLD, *NEW])
    plan.take_new_shards(3)
    assert plan.fingerprint() != plan_before
    again = open_plan(small_settings(), root, state=state_of(plan))
    assert stream(again, 0, 4 * size) == stream(plan, 0, 4 * size)
    # Further ones, while the first are pending, and after they came.
    for step in (4, size + 2):
        write_index(tmp_path, [*OLD, *NEW, *NEWER])
        later = open_plan(small_settings(), root, state=state_of(plan))
        assert later.take_new_shards(step)
        whole = open_plan(small_settings(), root, state=state_of(later))
        now = step
        assert stream(whole, now, 5 * size) == stream(later, now, 5 * size)
        assert stream(whole, now, size) == stream(plan, now, size)
        last = whole.index(0, 10**6)
        assert len(last) == 140


def test_taking_shards_twice_before_an_epoch_ends_changes_nothing_before(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    size = plan.steps_per_epoch or 0
    untouched = stream(plan, 0, size)
    write_index(tmp_path, [*OLD, *NEW])
    plan.take_new_shards(1)
    write_index(tmp_path, [*OLD, *NEW, *NEWER])
    plan.take_new_shards(2)
    assert stream(plan, 0, size) == untouched
    again = open_plan(small_settings(), root, state=state_of(plan))
    assert stream(again, 2, 3 * size) == stream(plan, 2, 3 * size)
    assert len(again.index_at(size, 0)) == 140 and len(again.index_at(2, 0)) == 80


def test_each_source_takes_new_shards_at_its_own_next_epoch(tmp_path: Path) -> None:
    roots = [write_index(tmp_path / name, OLD) for name in "ab"]
    config = mixture({"root": roots[0], "weight": 3}, {"root": roots[1]}, image_ratio=0.25)
    plan = open_plan(config)
    assert len(plan.streams) == 4
    untouched = stream(plan, 0, 60)
    for root in roots:
        write_index(root, [*OLD, *NEW])
    assert len(plan.take_new_shards(7)) == 4
    starts = []
    for source, phased in enumerate(plan.sources):
        first = phased.phases[-1].first
        begun = plan.order.count_before(7 * 4, source)
        size = phased.phases[0].order.num_microbatches
        assert first % size == 0 and begun <= first < begun + size
        starts.append(first)
        epoch = first // size
        found = once_each(plan, epoch, source, 500)
        assert set(found) == hashes_of([*OLD, *NEW]) and set(found.values()) == {1}
        if epoch:
            assert once_each(plan, epoch - 1, source, 500).keys() == hashes_of(OLD)
    for step in range(60):
        for batch, before in zip(keys(plan, step), untouched[step], strict=True):
            source = int(str(batch[0]))
            if plan.order.count_before((step + 1) * 4, source) <= starts[source]:
                assert batch == before
    again = open_plan(config, state=state_of(plan))
    assert stream(again, 7, 200) == stream(plan, 7, 200)


def test_shards_without_the_split_of_later_ones(tmp_path: Path) -> None:
    """A dataset that is divided only later: what is pinned is not divided."""
    root = write_index(tmp_path, OLD)
    state = state_of(open_plan(small_settings(), root))
    write_index(tmp_path, [*OLD, *[replace(row, split="train") for row in NEW]])
    assert len(open_plan(small_settings(), root, state=state).index(0, 0)) == len(OLD)


# Shards written anew


def test_changed_shards_are_refused(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    state = state_of(plan)
    changes = (
        OLD[:-1],
        [replace(OLD[0], text="another caption"), *OLD[1:]],
        [replace(row, shard=row.shard.replace("/s/", "/t/")) for row in OLD],
    )
    for rows in changes:
        write_index(tmp_path, rows)
        with pytest.raises(CatalogError, match="not those the run began with") as error:
            open_plan(small_settings(), root, state=state)
        assert "accept_changed_shards=True" in error.value.mend
        write_index(tmp_path, [*rows, *NEW])
        with pytest.raises(CatalogError, match="written anew"):
            plan.take_new_shards(1)


def test_a_restart_begins_an_epoch_with_what_is_there(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    size = plan.steps_per_epoch or 0
    step = 2 * size + 1
    state = state_of(plan, step)
    write_index(tmp_path, some_rows(3, 20, source="other"))
    plan = restarted(small_settings(), root, state)
    steps = step + (plan.steps_per_epoch or 0)
    first = plan.order.step(step)
    assert {batch.epoch for batch in first} == {3}  # epochs 0 to 2 have begun
    found = once_each(plan, 3, 0, 0)
    for at in range(step, steps):
        for batch in plan.order.step(at):
            hashes = plan.index_at(at, batch.number)["key_hash"][batch.samples]
            found.update(hashes[batch.weights > 0].tolist())
    assert set(found) == hashes_of(some_rows(3, 20)) and set(found.values()) == {1}
    again = open_plan(small_settings(), root, state=state_of(plan))
    assert stream(again, step, steps + 9) == stream(plan, step, steps + 9)


@pytest.mark.parametrize("count", [3, 200])
def test_a_restart_never_repeats_an_epoch(tmp_path: Path, count: int) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    step = 5 * (plan.steps_per_epoch or 0) + 1
    state = state_of(plan, step)
    write_index(tmp_path, some_rows(1, count, source="other"))
    again = restarted(small_settings(microbatches=4), root, state)
    assert {batch.epoch for batch in again.order.step(step)} == {6}


def test_a_restart_needs_nothing_of_what_was_pinned(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    state = state_of(open_plan(small_settings(), root), 1)
    write_index(tmp_path, NEW)  # nothing of generation 0 is left
    with pytest.raises(CatalogError, match="not those the run began with"):
        open_plan(small_settings(), root, state=state)
    plan = restarted(small_settings(), root, state)
    assert len(plan.index_at(1, 0)) == len(NEW)


def test_proposed_buckets_of_a_state_are_checked(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    state = state_of(open_plan(DataSettings(), root), 1)
    assert state["shapes"]
    coarse = DataSettings.model_validate({"buckets": {"spatial_stride": 23}})
    with pytest.raises(CatalogError, match="do not fit the settings"):
        open_plan(coarse, root, state=state)
    for bucket in restarted(coarse, root, state).buckets:
        assert bucket.height_px % 46 == bucket.width_px % 46 == 0


def test_taking_new_shards_is_all_or_nothing(tmp_path: Path) -> None:
    roots = [write_index(tmp_path / name, OLD) for name in "ab"]
    plan = open_plan(mixture({"root": roots[0]}, {"root": roots[1]}))
    before = state_of(plan)
    write_index(tmp_path / "a", [*OLD, *NEW])
    write_index(tmp_path / "b", [*OLD[1:], *NEW])
    with pytest.raises(CatalogError, match="written anew"):
        plan.take_new_shards(1)
    assert state_of(plan) == before


def test_only_the_generations_asked_for_are_taken(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    write_index(tmp_path, [*OLD, *NEW, *NEWER])
    assert plan.take_new_shards(1, [1])
    assert plan.newest() == [1]


def test_phases_do_not_pile_up(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan, rows = open_plan(small_settings(), root), list(OLD)
    for generation in range(1, 6):
        rows += some_rows(1, 4, generation=generation, source="stock")
        write_index(tmp_path, rows)
        assert plan.take_new_shards(1000 * generation)
    assert len(plan.sources[0].phases) <= 3


def test_a_divided_dataset_without_train_is_refused(tmp_path: Path) -> None:
    rows = [replace(row, split="fit" if n % 4 else "heldout") for n, row in enumerate(OLD)]
    root = write_index(tmp_path, rows)
    with pytest.raises(ConfigError, match="no split is called train") as error:
        open_plan(small_settings(), root)
    assert "fit, heldout" in error.value.mend
    assert len(open_plan(mixture({"split": "*"}), root).index_at(0, 0)) == len(rows)


def test_a_state_of_another_number_of_sources_is_refused(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    state = state_of(open_plan(small_settings(), root))
    with pytest.raises(ConfigError, match="of 1 sources, the settings have 2"):
        open_plan(mixture({}, {}), root, state=state)


# Fingerprint

ORDER_CHANGES: list[dict[str, Any]] = [
    {"seed": 1},
    {"microbatches": 6},
    {"image_ratio": 0.5},
    {"group_bytes": 10},
]
BUCKET_CHANGES: list[dict[str, Any]] = [
    {"shapes": [{"frames": 9, "height_px": 64, "width_px": 64, "samples": 4}]},
    {"microbatch_tokens": 301},
    {"cost_tolerance": 0.51},
    {"temporal_stride": 2},
    {"spatial_stride": 4},
    {"patch": [1, 1, 2]},
    {"max_crop": 0.4},
    {"max_upscale": 1.1},
    {"max_rate": 1.03},
]
READ_CHANGES: list[dict[str, Any]] = [
    {"window": "start"},
    {"crop": "random"},
    {"flip": 0.5},
    {"scaling": "area"},
    {"decoder": "torchcodec"},
    {"num_workers": 0},
    {"worker_kind": "process"},
    {"prefetch_bytes": 1},
    {"max_failures": 0},
    {"pin_memory": True},
]


def changed(part: str, change: dict[str, Any]) -> DataSettings:
    whole = small_settings().model_dump()
    if "spatial_stride" in change or "temporal_stride" in change or "patch" in change:
        whole["buckets"]["microbatch_tokens"] = 10_000  # more tokens a sample
    whole[part] |= change
    return DataSettings.model_validate(whole)


@pytest.mark.parametrize(
    ("part", "change"),
    [("order", c) for c in ORDER_CHANGES] + [("buckets", c) for c in BUCKET_CHANGES],
    ids=str,
)
def test_every_setting_of_the_order_is_in_the_fingerprint(
    tmp_path: Path, part: str, change: dict[str, Any]
) -> None:
    root = write_index(tmp_path, OLD)
    base = small_settings()
    plan = open_plan(base, root)
    if part == "buckets" and set(change) & {"spatial_stride", "temporal_stride", "patch"}:
        base = changed("buckets", {"microbatch_tokens": 10_000})
        plan = open_plan(base, root)
    other = open_plan(changed(part, change), root)
    assert other.fingerprint() != plan.fingerprint()
    if len(other.streams) == len(plan.streams):
        with pytest.raises(CatalogError, match="settings of the order") as error:
            open_plan(changed(part, change), root, state=state_of(plan))
        assert "put the old settings back" in error.value.mend


def test_the_lists_above_name_every_setting() -> None:
    for part, changes in (("order", ORDER_CHANGES), ("buckets", BUCKET_CHANGES)):
        fields = set(small_settings().model_dump()[part])
        assert fields == {name for change in changes for name in change}, part
    assert set(small_settings().read.model_dump()) == {n for c in READ_CHANGES for n in c}


def test_how_samples_are_read_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    plan = open_plan(small_settings(), root)
    for change in READ_CHANGES:
        other = open_plan(changed("read", change), root, state=state_of(plan))
        assert other.fingerprint() == plan.fingerprint()


def test_sources_and_their_weights_are_in_the_fingerprint(tmp_path: Path) -> None:
    root = write_index(tmp_path, [*OLD, *some_rows(1, 20, generation=1, source="other")])
    sources = (
        [{}],
        [{"source": "stock"}],
        [{"source": "other"}],
        [{"source": "stock"}, {"source": "other"}],
        [{"source": "stock", "weight": 2}, {"source": "other"}],
        [{"source": "other"}, {"source": "stock"}],
    )
    prints = {open_plan(mixture(*own), root).fingerprint() for own in sources}
    assert len(prints) == len(sources)
    # But not where the data lie: a copy serves as well.
    copy = write_index(tmp_path / "copy", [*OLD, *some_rows(1, 20, generation=1, source="other")])
    plan = open_plan(small_settings(), root)
    moved = open_plan(small_settings(), copy, state=state_of(plan))
    assert stream(moved, 0, 5) == stream(plan, 0, 5)


# Splits, sources, sizes


def test_train_is_taken_where_the_dataset_is_divided(tmp_path: Path) -> None:
    rows = [replace(row, split=("train", "train", "val", None)[n % 4]) for n, row in enumerate(OLD)]
    root = write_index(tmp_path, rows)

    def count(**source: str) -> int:
        return len(open_plan(mixture(source), root).index(0, 0))

    assert count() == count(split="train") == 40
    assert count(split="*") == 80 and count(split="val") == 20
    assert count(split="val", source="stock") == 20
    with pytest.raises(CatalogError, match="no sample has the split 'dev'"):
        count(split="dev")
    with pytest.raises(CatalogError, match="no sample has the source 'x'") as error:
        count(source="x")
    assert "stock" in error.value.mend
    undivided = write_index(tmp_path / "undivided", OLD)
    assert len(open_plan(small_settings(), undivided).index(0, 0)) == 80


def test_a_plan_needs_a_root_shards_and_clips_that_fit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no dataset root"):
        open_plan(small_settings())
    with pytest.raises(CatalogError, match="no shard index"):
        open_plan(small_settings(), str(tmp_path))
    for name, rows in (("none", []), ("small", [replace(OLD[0], height_px=32)])):
        root = write_index(tmp_path / name, rows)
        with pytest.raises(ConfigError, match="no clip fits any bucket"):
            open_plan(small_settings(), root)


def test_pictures_need_buckets_of_one_frame(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    whole = small_settings(image_ratio=0.25).model_dump()
    plan = open_plan(DataSettings.model_validate(whole), root)
    assert [s.pictures for s in plan.streams] == [False, True]
    shown = [batch for step in range(250) for batch in plan.order.step(step)]
    assert sum(batch.bucket.frames == 1 for batch in shown) == 250
    assert all((batch.bucket.frames == 1) == (batch.source == 1) for batch in shown)
    whole["buckets"]["shapes"] = whole["buckets"]["shapes"][:2]
    with pytest.raises(ConfigError, match="image_ratio needs buckets of one frame"):
        open_plan(DataSettings.model_validate(whole), root)


def test_worlds_that_cannot_share_a_step_are_refused(tmp_path: Path) -> None:
    root = write_index(tmp_path, OLD)
    for world in (1, 2, 4):
        open_plan(small_settings(), root, world_size=world, rank=world - 1)
    with pytest.raises(ConfigError, match="3 ranks cannot share 4 microbatches"):
        open_plan(small_settings(), root, world_size=3)


def test_a_state_stays_small_with_proposed_buckets_and_four_sources(tmp_path: Path) -> None:
    """Below 1 KB with the step and all of it, also while new shards are pending."""
    sizes = ((240, 320), (720, 1280), (1280, 720), (480, 480))
    rows = {
        generation: [
            replace(row, height_px=sizes[n % 4][0], width_px=sizes[n % 4][1], frames=60 + n)
            for n, row in enumerate(some_rows(4, 40, generation=generation))
        ]
        for generation in (0, 1)
    }
    roots = [write_index(tmp_path / name, rows[0]) for name in "abcd"]
    config = mixture(*[{"root": root} for root in roots])
    whole = config.model_copy(update={"buckets": type(config.buckets)()})
    plan = open_plan(whole)
    assert len(plan.buckets) >= 3
    for root in roots:
        write_index(root, [*rows[0], *rows[1]])
    assert len(plan.take_new_shards(10**9)) == 4
    state = {"step": 10**9, **state_of(plan)}
    assert len(json.dumps(state)) < 1024
    assert state["shapes"] and not state_of(open_plan(small_settings(), roots[0]))["shapes"]
    again = open_plan(whole, state=state)
    assert again.buckets == plan.buckets and state_of(again) == state_of(plan)
    assert stream(again, 10**9, 10**9 + 9) == stream(plan, 10**9, 10**9 + 9)
