"""From settings to the planned order: open the indexes, give every clip its bucket, pin it all.

A run pins its index: for each source the newest generation of shards it reads. Shards that are
added later stay out until they are asked for, and enter where that source's next epoch begins.
Shards that were written anew are another dataset: the run is told, and goes on only when bidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from curation.errors import CatalogError, ConfigError
from curation.ids import json_digest
from training.data.buckets import Assignment, Bucket, BucketSettings, Shape, assign
from training.data.index import ShardIndex, load_index
from training.data.order import Phase, PhasedOrder, PlannedOrder, SourceOrder, check_world
from training.data.propose import propose
from training.data.settings import ALL, DataSettings, SourceSettings

TRAIN = "train"
NEWEST = (-1, 0, 0)
"""The pin of a new run: whatever is there."""


@dataclass(frozen=True)
class Stream:
    """One source of the mixture, as it is planned: clips, or single frames of them.

    Attributes:
        settings: What it is.
        root: Dataset root.
        pictures: Single frames.
        weight: Its share, relative.
    """

    settings: SourceSettings
    root: str
    pictures: bool
    weight: float


class DataPlan:
    """The data of a training, from settings to microbatches.

    Args:
        settings: The data.
        root: Dataset root of sources that name none.
        pins: Of an earlier :meth:`pins`; None: everything there is now, from epoch 0.
        shapes: Of an earlier :meth:`shapes`: buckets that were proposed when the run began; used
            where the settings name none.

    Raises:
        ConfigError: Nothing fits, or buckets for single frames are missing.
        CatalogError: A root without shards, an unknown split or source.
    """

    def __init__(
        self,
        settings: DataSettings,
        root: str | None = None,
        *,
        pins: Sequence[Sequence[Sequence[int]]] | None = None,
        shapes: Sequence[Sequence[float | None]] = (),
    ) -> None:
        self._proposed = not settings.buckets.shapes
        if shapes and self._proposed:
            settings = settings.model_copy(
                update={"buckets": _with_shapes(settings.buckets, shapes)}
            )
        self.settings, self.root = settings, root
        self.streams = streams_of(settings, root)
        given = pins or [[NEWEST]] * len(self.streams)
        _check_sources(len(given), len(self.streams))
        self._loaded: dict[tuple[str, int], ShardIndex] = {}
        indexes = [
            [self._open(stream, generation) for generation, _, _ in own]
            for stream, own in zip(self.streams, given, strict=True)
        ]
        self.bucket_settings, self.buckets = choose_buckets(settings, [own[0] for own in indexes])
        self.sources = [
            PhasedOrder(
                [
                    Phase(first, self._order(stream, index, epoch))
                    for index, (_, epoch, first) in zip(own, chosen, strict=True)
                ]
            )
            for stream, own, chosen in zip(self.streams, indexes, given, strict=True)
        ]
        self._loaded.clear()  # whole indexes, of which the sources may keep a part
        shares = [stream.weight for stream in self.streams]
        self.order = PlannedOrder(self.sources, shares, settings.order.microbatches)

    def index(self, source: int, number: int) -> ShardIndex:
        """The index that the n-th microbatch of a source points into."""
        return self.sources[source].phase(number).order.index

    def index_at(self, step: int, microbatch: int) -> ShardIndex:
        """The index that a microbatch of the run points into."""
        source, number = self.order.locate(step * self.order.num_microbatches + microbatch)
        return self.index(source, number)

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of an epoch, from the latest shards taken in; None for a mixture."""
        if len(self.sources) > 1:
            return None
        newest = self.sources[0].phases[-1].order
        return newest.num_microbatches // self.order.num_microbatches

    def state(self, step: int) -> dict[str, Any]:
        """What a trainer keeps of the data: JSON, below 1 KB with up to a dozen sources.

        Args:
            step: The first step that is not done yet.
        """
        return {
            "step": step,
            "fingerprint": self.fingerprint(),
            "pins": self.pins(),
            "epochs": self.next_epochs(step),
            "shapes": self.shapes(),
        }

    def next_epochs(self, step: int) -> list[int]:
        """For each source the first epoch that has not begun before a step."""
        return [
            source.next_epoch(self._first_of(step, number))[0]
            for number, source in enumerate(self.sources)
        ]

    def pins(self) -> list[list[list[int]]]:
        """For each source its latest phases: newest generation, first epoch, first microbatch."""
        return [
            [
                [phase.order.index.generation, phase.order.first_epoch, phase.first]
                for phase in source.phases[-2:]
            ]
            for source in self.sources
        ]

    def shapes(self) -> list[list[float | None]]:
        """The buckets that were proposed, as the values of :class:`Shape`; else none."""
        if not self._proposed:
            return []
        return [list(shape.model_dump().values()) for shape in self.bucket_settings.shapes]

    def fingerprint(self) -> str:
        """32 hex digits of all that decides which sample comes when."""
        return json_digest(
            [
                self.settings.order.model_dump(),
                self.bucket_settings.model_dump(),
                [(s.pictures, s.weight) for s in self.streams],
                [
                    [
                        (p.first, p.order.first_epoch, p.order.index.fingerprint)
                        for p in s.phases[-2:]
                    ]
                    for s in self.sources
                ],
            ]
        )

    def newest(self) -> list[int]:
        """For each source the newest generation of shards that is in, or will be."""
        return [source.phases[-1].order.index.generation for source in self.sources]

    def take_new_shards(self, step: int, upto: Sequence[int] | None = None) -> list[str]:
        """Let shards in that were added since, each source's at its next epoch.

        Args:
            step: The first step that is not done yet.
            upto: For each source the newest generation to take; None: all there are.

        Returns:
            What was taken in, in words; empty when there is nothing new.

        Raises:
            CatalogError: Shards that are in use were written anew meanwhile.
        """
        said: list[str] = []
        coming: list[tuple[PhasedOrder, Phase]] = []
        for number, (stream, source) in enumerate(zip(self.streams, self.sources, strict=True)):
            latest = source.phases[-1]
            limit = None if upto is None else upto[number]
            newest = part_of(stream, load_index(stream.root, generation=limit))
            if newest.fingerprint == latest.order.index.fingerprint:
                continue
            used = latest.order.index
            self._check_kept(stream, used)
            first = max(self._first_of(step, number), latest.first)
            epoch, start = source.next_epoch(first)
            coming.append((source, Phase(start, self._order(stream, newest, epoch))))
            said.append(
                f"{stream.root}: {len(newest) - len(used)} samples of generations "
                f"{used.generation + 1} to {newest.generation} from epoch {epoch} on"
            )
        for source, phase in coming:  # all or none
            if phase.first == source.phases[-1].first:  # that has not begun: this takes its place
                source.phases.pop()
            # Older ones are over; the last but one may reach into a step that is under way.
            source.phases = [*source.phases[-2:], phase]
        return said

    def restart(self, step: int, epochs: Sequence[int]) -> None:
        """Begin a new epoch of every source at a step, with the shards of this plan.

        Args:
            step: The first step that is not done yet.
            epochs: Of the state that was left: see :meth:`next_epochs`.
        """
        _check_sources(len(epochs), len(self.streams))
        for number, (stream, source) in enumerate(zip(self.streams, self.sources, strict=True)):
            order = self._order(stream, source.phases[-1].order.index, epochs[number])
            source.phases = [Phase(self._first_of(step, number), order)]

    def _first_of(self, step: int, source: int) -> int:
        """A source's first microbatch that belongs to a step or a later one."""
        start = step * self.order.num_microbatches
        return self.order.count_before(start, source)

    def _check_kept(self, stream: Stream, used: ShardIndex) -> None:
        again = part_of(stream, load_index(stream.root, generation=used.generation))
        if again.fingerprint != used.fingerprint:
            raise CatalogError(
                "the shards in use were written anew, so this is another dataset",
                where=stream.root,
                mend="resume with accept_changed_shards=True: a new epoch begins there",
            )

    def _open(self, stream: Stream, generation: int) -> ShardIndex:
        key = (stream.root, generation)
        if key not in self._loaded:
            pinned = None if generation < 0 else generation
            self._loaded[key] = load_index(stream.root, generation=pinned)
        return part_of(stream, self._loaded[key])

    def assign(self, stream: Stream, index: ShardIndex) -> Assignment:
        """Buckets of a source's clips."""
        return assign(index, self.buckets, self.bucket_settings, pictures=stream.pictures)

    def _order(self, stream: Stream, index: ShardIndex, epoch: int) -> SourceOrder:
        order = self.settings.order
        return SourceOrder(
            index,
            self.assign(stream, index),
            seed=order.seed,
            group_bytes=order.group_bytes,
            multiple=order.microbatches if len(self.streams) == 1 else 1,
            first_epoch=epoch,
        )


def open_plan(
    settings: DataSettings,
    root: str | None = None,
    *,
    state: dict[str, Any] | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> DataPlan:
    """The plan of a run, new or gone on with; refuses world sizes that cannot share a step.

    Args:
        settings: The data.
        root: Dataset root of sources that name none.
        state: Of :meth:`training.data.loader.ClipLoader.state_dict`; None: a new run.
        world_size: Ranks.
        rank: This one.

    Raises:
        ConfigError: The settings or the world size do not fit.
        CatalogError: The shards are not those of the state.
    """
    check_world(settings.order.microbatches, world_size, rank)
    if state is None:
        return DataPlan(settings, root)
    _check_sources(len(state["pins"]), len(streams_of(settings, root)))
    try:
        plan = DataPlan(settings, root, pins=state["pins"], shapes=state["shapes"])
    except ConfigError as exc:  # such as: nothing is left of what was pinned
        raise _changed(settings, root) from exc
    if plan.fingerprint() != state["fingerprint"]:
        raise _changed(settings, root)
    return plan


def restarted(settings: DataSettings, root: str | None, state: dict[str, Any]) -> DataPlan:
    """A plan that goes on at a state's step with a new epoch of the shards as they are now.

    Buckets that were proposed stay, unless the settings do not allow them any more.

    Args:
        settings: The data.
        root: Dataset root of sources that name none.
        state: Of :meth:`training.data.loader.ClipLoader.state_dict`.
    """
    try:
        plan = DataPlan(settings, root, shapes=state["shapes"])
    except CatalogError:
        plan = DataPlan(settings, root)
    plan.restart(int(state["step"]), state["epochs"])
    return plan


def _changed(settings: DataSettings, root: str | None) -> CatalogError:
    return CatalogError(
        "the shards or the settings of the order are not those the run began with",
        where=", ".join(sorted({s.root for s in streams_of(settings, root)})),
        mend="put the old settings back; or resume with accept_changed_shards=True: a new epoch "
        "begins at the present step",
    )


def _check_sources(of_state: int, of_settings: int) -> None:
    if of_state != of_settings:
        raise ConfigError(
            f"the state is of {of_state} sources, the settings have {of_settings}",
            where="sources",
        )


def _with_shapes(
    buckets: BucketSettings, shapes: Sequence[Sequence[float | None]]
) -> BucketSettings:
    """Settings with the shapes of a state.

    Raises:
        CatalogError: The settings do not allow them.
    """
    named = [dict(zip(Shape.model_fields, shape, strict=True)) for shape in shapes]
    try:
        return BucketSettings.model_validate(buckets.model_dump() | {"shapes": named})
    except ValidationError as exc:
        raise CatalogError(
            f"the buckets of the state do not fit the settings: {exc.errors()[0]['msg']}",
            where="buckets",
            mend="put the old settings back; or resume with accept_changed_shards=True, which "
            "proposes buckets anew",
        ) from exc


def choose_buckets(
    settings: DataSettings, indexes: Sequence[ShardIndex]
) -> tuple[BucketSettings, tuple[Bucket, ...]]:
    """The buckets of the settings, or proposed ones.

    Args:
        settings: The data.
        indexes: Of the streams; only looked at where buckets are proposed.

    Raises:
        ConfigError: No buckets can be proposed, or those for single frames are missing.
    """
    chosen = settings.buckets
    images = settings.order.image_ratio > 0
    if not chosen.shapes:
        different = {index.fingerprint: index for index in indexes}
        shapes = propose(list(different.values()), chosen, images=images)
        chosen = chosen.model_copy(update={"shapes": shapes})
    buckets = chosen.buckets()
    if images and all(b.frames > 1 for b in buckets):
        raise ConfigError(
            "image_ratio needs buckets of one frame",
            where="buckets.shapes",
            mend="add shapes with frames: 1",
        )
    return chosen, buckets


def streams_of(settings: DataSettings, root: str | None) -> list[Stream]:
    """Sources of clips, and beside each one of its single frames where those are wanted.

    Raises:
        ConfigError: A source names no root, and none is given.
    """
    ratio, found = settings.order.image_ratio, []
    for source in settings.sources:
        place = source.root or root
        if place is None:
            raise ConfigError("no dataset root", where="sources", mend="give root")
        found.append(Stream(source, place, False, source.weight * (1 - ratio)))
        if ratio:
            found.append(Stream(source, place, True, source.weight * ratio))
    return found


def part_of(stream: Stream, index: ShardIndex) -> ShardIndex:
    """The part of a root's index that a source takes.

    Raises:
        CatalogError: There is no such split or source.
        ConfigError: The dataset is divided, none of its splits is ``train``, and none is named.
    """
    split = stream.settings.split
    if split is None and index.words["split"]:
        split = TRAIN
        if TRAIN not in index.words["split"]:
            raise ConfigError(
                f"no split is called {TRAIN}",
                where=stream.root,
                mend=f"name one of {', '.join(sorted(index.words['split']))} as sources.0.split, "
                'or "*" for all of them',
            )
    elif split == ALL:
        split = None
    source = stream.settings.source
    if split is None and source is None:
        return index
    return index.where(split=split, source=source)
