"""``clipmill encode``: every shard that has no current sibling gets one; then the index.

    lease -> models' facts -> fingerprint -> pending shards -> encode them, one by one -> commit

A shard is the unit of work: a run that is killed goes on with the first one that has no whole tar.
Workers write tars and their tables; the driver alone touches the index, last.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from curation.catalog.catalog import Catalog
from curation.catalog.lease import Lease
from curation.errors import ConfigError
from curation.shards.siblings import SiblingSet
from curation.storage import Storage
from pipelines.encode.account import Report, failed_shards, take_account
from pipelines.encode.items import Facts, Question, Setup, ShardDone, ShardItem
from pipelines.encode.plan import EncodePlan, describe, known_names
from pipelines.encode.progress import EncodeProgress
from pipelines.encode.settings import EncodeSettings
from pipelines.forget import finish_forgetting
from pipelines.remove import finish_removing
from pipelines.run_report import new_run_id
from training.data.index import load_index
from training.data.latents import EMPTY_PROMPT, description_of
from training.data.settings import DataSettings

Engine = Literal["ray", "inline"]
OnCount = Callable[[int, int], None]
GPU_BATCH, GPU_DECODE_THREADS = 4, 8


def encode(
    out: str,
    settings: EncodeSettings,
    data: DataSettings,
    *,
    engine: Engine = "ray",
    address: str | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    quiet: bool = True,
) -> Report:
    """Encode what of a dataset is not encoded yet.

    Args:
        out: Dataset root with shards.
        settings: What is made.
        data: The buckets, and how pictures are scaled.
        engine: ``ray``, or ``inline`` in this process.
        address: An existing Ray cluster; None: a local one.
        retry_failed: Encode the shards of clips that failed before once more.
        dry_run: Tell what would be done; nothing is written.
        quiet: No progress on stderr.

    Raises:
        ClipmillError: The command cannot be carried out as given.
    """
    storage, run_id = Storage(out), new_run_id()
    load_index(storage.url)  # without shards nothing need be started
    with ExitStack() as stack:
        if not dry_run:
            stack.enter_context(Lease(storage, run_id))
            _finish_others(storage, quiet=quiet)
        runner = _runner(engine, address, storage, settings, run_id, stack)
        facts = cast(Facts, next(iter(runner.map([Question()]))))
        return _Job(storage, settings, data, runner, facts).run(
            retry_failed=retry_failed, dry_run=dry_run, quiet=quiet
        )


def _finish_others(storage: Storage, *, quiet: bool) -> None:
    """Carry out what another command began: no removed clip is encoded."""
    catalog = Catalog(storage)
    if catalog.has("runs"):
        finish_forgetting(catalog)
        finish_removing(catalog, quiet=quiet)


class _Job:
    """One run, its models known."""

    def __init__(
        self,
        storage: Storage,
        settings: EncodeSettings,
        data: DataSettings,
        runner: _Runner,
        facts: Facts,
    ) -> None:
        described = describe(settings, data, facts)
        self.fingerprint = described.fingerprint()
        described = known_names(storage, f"latents/{self.fingerprint}", described)
        self.storage, self.settings, self.facts, self.runner = storage, settings, facts, runner
        self.plan = EncodePlan.of(load_index(storage.url), described)
        self.report = Report(
            root=storage.url,
            fingerprint=self.fingerprint,
            described=described.model_dump(mode="json"),
            device=runner.setup.device,
            engine=runner.engine,
            workers=0,
            shards=len(self.plan.index.words["shard"]),
            total=len(self.plan.index),
            without_bucket=self.plan.reasons(),
        )

    def run(self, *, retry_failed: bool, dry_run: bool, quiet: bool) -> Report:
        """Encode what is pending, commit, count."""
        report = self.report
        if dry_run:
            report.dry_run, report.pending = True, len(self._pending_now())
            report.complete = not report.pending
            return report
        one = SiblingSet(self.storage, self.fingerprint, report.described, self.settings.reads)
        if retry_failed:
            one.forget_shards(failed_shards(self.storage, one.rows))
        pending = one.pending_shards()
        report.pending, report.complete = len(pending), not pending and one.rows.finished
        self._write_empty_prompt(one)
        if pending:
            self._encode(one, pending, quiet=quiet)
        one.commit()
        report.account = take_account(self.storage, self.plan, one.rows)
        report.next = self._next()
        return report

    def _pending_now(self) -> list[str]:
        """Shards that a run would encode; nothing is written to find out."""
        one = f"latents/{self.fingerprint}/set.json"
        if description_of(self.storage.read_json(one)) is None:
            return list(self.plan.index.words["shard"])
        return SiblingSet.open(self.storage, self.fingerprint).pending_shards(drop_damaged=False)

    def _write_empty_prompt(self, one: SiblingSet) -> None:
        """Guidance needs it. What is there and whole stays: another device moves the last digit."""
        if not self.facts.empty_prompt:
            return
        path = f"{one.rows.folder}/{EMPTY_PROMPT}"
        sha = one.rows.more_files().get(path)
        if sha is None or one.rows.sha256_of(path) != sha:
            one.write_file(EMPTY_PROMPT, self.facts.empty_prompt)

    def _encode(self, one: SiblingSet, pending: list[str], *, quiet: bool) -> None:
        report, began = self.report, time.perf_counter()
        items = self.plan.items(one.prepare(pending), self.fingerprint, self.settings.reads)
        clips = sum(len(self.plan.positions(shard)) for shard in pending)
        report.workers = min(self.runner.most, len(pending))
        with EncodeProgress(clips, len(pending), quiet=quiet) as progress:
            for done in self.runner.map(items, progress.count):
                assert isinstance(done, ShardDone)
                progress.shard(done)
                report.clips += done.clips
                report.frames += done.frames
                report.texts += done.texts
                report.times.add(done.times)
        report.elapsed_s = time.perf_counter() - began

    def _next(self) -> list[str]:
        root, latents = self.report.root, f"latents={self.fingerprint}"
        if not self.settings.has_vae:
            return [f"data.{latents} in a training's YAML"]
        return [
            f"clipmill loader-bench {root} --buckets FILE {latents} pixels=false",
            f"data.{latents} data.pixels=false in a training's YAML, with the same buckets",
        ]


@dataclass
class _Runner:
    """Where items are done.

    Attributes:
        engine: Its name.
        setup: Of the workers.
        most: Of them at once.
        map: Does items and yields what came of them, in order.
    """

    engine: Engine
    setup: Setup
    most: int
    map: Callable[..., Iterator[Facts | ShardDone]]


def _runner(
    engine: Engine,
    address: str | None,
    storage: Storage,
    settings: EncodeSettings,
    run_id: str,
    stack: ExitStack,
) -> _Runner:
    """The engine, started."""
    if engine == "inline":
        if address is not None:
            raise ConfigError("the inline engine has no cluster", where="--address")
        device = _device_here(settings)
        setup = _setup(storage, settings, run_id, device, num_cpus=os.cpu_count() or 1)
        return _Runner(engine, setup, 1, _Inline(setup))
    from curation.engine.ray_actors import ActorPool
    from curation.engine.ray_data import RayCluster
    from pipelines.encode.worker import Encoder

    cluster = RayCluster(address=address, num_cpus=settings.num_workers)
    cluster.start()
    stack.callback(cluster.stop)
    cluster.wait()
    cluster.check_shared(cast(Any, [_Root(storage, run_id)]))
    there = cluster.resources()
    gpus = int(there.get("GPU", 0))
    device = settings.device if settings.device != "auto" else ("cuda" if gpus else "cpu")
    cpus = int(there.get("CPU", 1))
    setup = _setup(storage, settings, run_id, device, num_cpus=cpus // max(1, gpus))
    on_gpu = device == "cuda"
    pool = ActorPool[Any, Any](
        cluster,
        functools.partial(Encoder, setup),
        most=settings.num_workers,
        num_cpus=setup.decode_threads if on_gpu else 1,
        num_gpus=1 if on_gpu else 0,
        name=_name,
    )
    stack.enter_context(pool)
    return _Runner(engine, setup, pool.most, pool.map)


@dataclass(frozen=True)
class _Root:
    """What ``RayCluster.check_shared`` asks of a worker."""

    storage: Storage
    run_id: str


def _setup(
    storage: Storage, settings: EncodeSettings, run_id: str, device: str, *, num_cpus: int
) -> Setup:
    on_gpu = device == "cuda"
    return Setup(
        root=storage.url,
        run_id=run_id,
        vae=_absolute(settings.vae) if settings.has_vae else None,
        text_encoder=_absolute(settings.text_encoder) if settings.has_text else None,
        device=device,
        vae_dtype=settings.vae_dtype,
        text_dtype=settings.text_dtype,
        tiling=settings.tiling,
        max_tokens=settings.max_tokens,
        batch_size=settings.batch_size or (GPU_BATCH if on_gpu else 1),
        decode_threads=settings.decode_threads
        or (max(1, min(GPU_DECODE_THREADS, num_cpus)) if on_gpu else 1),
    )


def _absolute(name: str) -> str:
    """A local path as every process finds it; other names as they are."""
    path, mark, part = name.partition("#")
    return f"{Path(path).resolve()}{mark}{part}" if Path(path).exists() else name


def _device_here(settings: EncodeSettings) -> str:
    if settings.device == "cpu":
        return "cpu"
    import torch

    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ConfigError("there is no GPU here", where="--device", mend="--device cpu")
    return "cuda" if there else "cpu"


class _Inline:
    """Items done in this process; the encoders are opened when the first comes."""

    def __init__(self, setup: Setup) -> None:
        self._setup, self._encoder = setup, None

    def __call__(
        self, items: Iterable[Question | ShardItem], on_count: OnCount = lambda *_: None
    ) -> Iterator[Facts | ShardDone]:
        from pipelines.encode.worker import Encoder  # loads torch

        self._encoder = self._encoder or Encoder(self._setup)
        for number, item in enumerate(items):
            yield self._encoder(item, functools.partial(on_count, number))


def _name(item: Question | ShardItem) -> str:
    return item.shard if isinstance(item, ShardItem) else "opening the encoders"
