"""The main job: sources to shards, one phase after the other.

    register -> judge what is there -> (probe signals split score cut) on what is pending
             -> judge -> shard -> account

Where what stays depends on all clips (duplicates, quantiles, caps), all are scored before the first
is cut:

    (probe signals split score) on what is pending -> judge, choose -> (cut caption) on what stays
             -> judge, choose again, until nothing changes -> shard -> account

The same function serves the command line and Python. A dataset root has one current
configuration: a run brings every known source to it, and computes only what that changes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

from curation.captions.gate import run_gate
from curation.captions.ledger import Ledger
from curation.catalog.account import take_account
from curation.catalog.catalog import Catalog
from curation.catalog.choosing import Comparing
from curation.catalog.commit import Committer
from curation.catalog.lease import Lease
from curation.catalog.pending import pending_units
from curation.catalog.verdicts import judge_catalog
from curation.catalog.views import Views
from curation.dedup.semantic import Mapper
from curation.engine.attempts import FOLDER as ATTEMPTS
from curation.engine.attempts import clear_markers, in_work
from curation.engine.inline import group_specs, run_inline
from curation.engine.segments import sweep_segments
from curation.engine.unit import StageCount, Unit, UnitResult, WorkerSpec
from curation.engine.waves import Waves
from curation.errors import BudgetError, ConfigError, GateError
from curation.ids import json_digest
from curation.judging.rights import apply_defaults
from curation.plan import Plan
from curation.removal.history import keep_blank
from curation.shards.samples import kept_samples
from curation.shards.writer import write_shards
from curation.storage import Storage
from pipelines.config import CurateConfig
from pipelines.forget import finish_forgetting
from pipelines.progress import RunProgress, count_progress
from pipelines.remove import finish_removing
from pipelines.report.page import write_page
from pipelines.run_report import RunReport, new_run_id
from pipelines.sources import as_table, expand

SOURCE_BATCH = 10_000
COMPARING = "dedup/scratch"
MAX_ROUNDS = 10
"""Times that clips are chosen anew because chosen ones failed later; what is left then is said."""


def curate(
    inputs: list[str],
    out: str,
    config: CurateConfig | None = None,
    *,
    address: str | None = None,
    quiet: bool = True,
    started: float | None = None,
) -> RunReport:
    """Curate videos into shards.

    Args:
        inputs: Files, folders, globs, manifests, local or by URL. Empty: the known sources.
        out: The dataset root.
        config: Settings; None: the default preset.
        address: An existing Ray cluster (``auto`` or ``ray://...``).
        quiet: No progress on stderr.
        started: ``time.time()`` of the command's start, for the report; None: now.

    Returns:
        The report; ``report.balanced`` says whether everything is accounted for.

    Raises:
        ClipmillError: The command cannot be carried out as given.
    """
    from pipelines.config import load_config

    job = _Job(config or load_config(), out, quiet=quiet, started=started)
    with ExitStack() as stack:
        job.plan.check()  # a wrong plan is told at once, not after Ray's start
        job.plan.require_models()
        # Ray takes seconds to start. A new root has work for sure: start it while inputs are
        # listed. An old one may have none: look first.
        fresh = not job.catalog.has("sources")
        cluster = job.start_engine(address, stack) if fresh else None
        rows = list(expand(inputs, job.config.inputs))
        job.prepare(rows, stack)
        units = job.pending()
        if units:
            cluster = cluster if fresh else job.start_engine(address, stack)
            job.work(units, cluster)
        job.finish()
    return job.report


class _Job:
    """One run of ``curate``."""

    def __init__(
        self, config: CurateConfig, out: str, *, quiet: bool, started: float | None
    ) -> None:
        self.config, self.quiet = config, quiet
        self.started = time.time() if started is None else started
        self.plan: Plan = config.plan()
        self.storage = Storage(out)
        self.catalog = Catalog(self.storage)
        self.run_id = new_run_id()
        self.report = RunReport(run_id=self.run_id, root=self.storage.url, engine=config.run.engine)
        self._waves = Waves()
        self._cluster: Any = None
        self._failed: set[str] = set()
        self._through: set[str] = set()
        self._committer = Committer(
            self.catalog,
            max_rows=config.run.commit_rows,
            max_wait_s=config.run.commit_every_s,
        )

    def start_engine(self, address: str | None, stack: ExitStack) -> Any:  # noqa: ANN401
        """Begin starting Ray, unless inline; the plan is checked meanwhile."""
        if self.config.run.engine == "inline":
            return None
        from curation.engine.ray_data import RayCluster

        pictures = any(getattr(s, "asked_ahead", False) for s in self.plan.stages)
        cluster = RayCluster(
            address=address, num_cpus=self.config.run.num_workers, carries_pictures=pictures
        )
        cluster.start()
        stack.callback(cluster.stop)
        self._cluster = cluster
        return cluster

    def prepare(self, rows: list[dict[str, Any]], stack: ExitStack) -> None:
        """Take the lease, mend what a killed run left, register sources and the plan."""
        if not rows and not self.catalog.has("sources"):
            raise ConfigError("no input", mend="name files, folders, globs or a manifest")
        stack.enter_context(Lease(self.storage, self.run_id))
        self.catalog.create(self.plan.table_schemas())
        finish_forgetting(self.catalog)
        finish_removing(self.catalog, quiet=self.quiet)
        self.report.interrupted = clear_markers(self.storage)
        self.report.recovered_parts = self._committer.recover()
        # Before anything changes: a run that is cut short from here on is seen to be.
        self.catalog.start_run(
            self.run_id, "curate", self.config.model_dump(mode="json"), self.plan
        )
        rows = self._with_state(rows)
        for start in range(0, len(rows), SOURCE_BATCH):
            batch = as_table(rows[start : start + SOURCE_BATCH])
            self.catalog.upsert("sources", "source_id", batch)
        self.report.fingerprints = self.plan.fingerprints()
        sweep_segments(self.storage, self.report.fingerprints.values(), None)
        self.report.fallbacks = [text for s in self.plan.stages for text in s.fallbacks()]
        apply_defaults(self.catalog, self.config.rights)
        self._judge()

    def _with_state(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows to register: a known source that cannot be seen just now keeps its known state."""
        if all(row["etag"] for row in rows):
            return rows
        table = self.catalog.dataset("sources").to_table(columns=["source_id"])
        known = set(table.column("source_id").to_pylist())
        return [row for row in rows if row["etag"] or row["source_id"] not in known]

    def pending(self) -> list[Unit]:
        """What is left to do; notes what is reused."""
        views = Views(self.catalog)
        units = list(pending_units(views, self.plan))
        known = views.query("SELECT count(DISTINCT video_id) AS n FROM complete_videos")
        total = known.column("n")[0].as_py() + sum(
            1
            for u in units
            if any(s.grain == "video" and s.name in u.todo for s in self.plan.stages)
        )
        for stage in self.plan.stages:
            run = sum(stage.name in u.todo for u in units)
            self.report.stages[stage.name] = {
                "videos_run": run,
                "videos_reused": max(0, total - run),
                **asdict(StageCount()),
            }
        return units

    def work(self, units: list[Unit], cluster: Any) -> None:  # noqa: ANN401 - None when inline
        """Run what is pending, and judge."""
        if not self.plan.waits_for_all:
            self._run(units, cluster)
            self._judge()
            return
        before = self.plan.before_choice()
        first = [replace(u, todo=tuple(n for n in u.todo if n in before)) for u in units]
        if first := [u for u in first if u.todo]:
            self._pass(first, cluster)
            self._judge()
        # A clip that turns out badly when it is cut gives its place to another.
        seen: set[str] = set()
        for _ in range(MAX_ROUNDS):
            units = [u for u in self._left() if u.source_id not in self._failed]
            state = json_digest([sorted((u.source_id, *u.todo) for u in units), self._uncut()])
            if not units or state in seen:
                break
            seen.add(state)
            self._waves = self._waves.anew()
            self.catalog.index()
            self._run(units, cluster)
            self._judge()

    def _left(self) -> list[Unit]:
        return list(pending_units(Views(self.catalog), self.plan))

    def _uncut(self) -> str:
        """Tells one set of kept clips that wait to be cut from another."""
        views = Views(self.catalog)
        clips = views.clips(["clip_id", "verdict", "media_path"])
        sql = (
            "SELECT concat(count(*), ' ', bit_xor(hash(clip_id))) AS mark "
            f"FROM ({clips}) WHERE verdict = 'kept' AND media_path IS NULL"
        )
        return views.query(sql).column("mark")[0].as_py()

    def _comparers(self) -> tuple[Mapper, Path | None]:
        """Who compares clips, and the folder they share: the cluster, where it can see the root."""
        if self._cluster is None or not self.storage.local:
            return map, None
        from curation.engine.ray_map import RayMap

        folder = Path(self.storage.path(COMPARING))
        folder.mkdir(parents=True, exist_ok=True)
        return RayMap(self._cluster), folder

    def _judge(self) -> None:
        with count_progress("clips compared", quiet=self.quiet) as show:
            mapper, scratch = self._comparers()
            comparing = Comparing(lambda name, done, total: show(done), mapper, scratch)
            made = judge_catalog(self.catalog, self.plan, comparing)
        self.report.edges, self.report.remarks = made.edges, made.remarks

    def _run(self, units: list[Unit], cluster: Any) -> None:  # noqa: ANN401 - None when inline
        """Run the pending units; in several passes where questions are asked ahead."""
        ahead = [s.name for s in self.plan.stages if getattr(s, "asked_ahead", False)]
        if ahead and cluster is None:
            raise ConfigError(
                "vllm answers about all videos together, through Ray",
                where=f"{ahead[0]}.backend.kind",
                mend="run.engine=ray",
            )
        for name in ahead:
            names = [s.name for s in self.plan.stages]
            before = set(names[: names.index(name)])
            first = [replace(u, todo=tuple(n for n in u.todo if n in before)) for u in units]
            if first := [u for u in first if u.todo]:
                self._pass(first, cluster, shared=name == ahead[0])
                self._judge()
                self._waves = self._waves.anew()
            units = list(pending_units(Views(self.catalog), self.plan))
            if waiting := [u for u in units if name in u.todo]:
                self._ask_ahead(name, waiting, cluster)
        if units:
            # The answers were asked for in batches of whole videos: sharing a video's clips out
            # would make other batches, without their canaries.
            self._pass(units, cluster, shared=not ahead)

    def _ask_ahead(
        self,
        name: str,
        units: list[Unit],
        cluster: Any,  # noqa: ANN401 - a RayCluster
    ) -> None:
        """Have a stage's questions about all videos answered before it runs."""
        from curation.engine.ask_ahead import ask_ahead

        stage = next(s for s in self.plan.stages if s.name == name)
        spec = group_specs(self.plan, self.storage, self.run_id, self.config.run.limits())[0]
        with count_progress("questions answered", quiet=self.quiet) as show:
            passes = ask_ahead(
                cluster,
                replace(spec, stages=(stage,)),
                units,
                beat=lambda done: show(done.num_asked),
            )
        self.report.asked_ahead += [{"stage": name, **asdict(done)} for done in passes]

    def _pass(
        self,
        units: list[Unit],
        cluster: Any,  # noqa: ANN401 - None when inline
        *,
        shared: bool = True,
    ) -> None:
        """Run units and commit their parts as they come.

        Args:
            units: The work.
            cluster: Where; None: inline.
            shared: Share out the clips of long videos.
        """
        run = self.config.run
        specs = group_specs(
            *(self.plan, self.storage, self.run_id, run.limits()),
            part_s=run.part_s,
            part_clips=run.part_clips if shared else None,
        )
        called = {u.source_id: PurePosixPath(u.uri).name for u in units}

        def watch() -> str:
            busy = in_work(self.storage)
            return ", ".join(f"{called.get(s, s[:8])}: {stage}" for s, stage in busy)

        names = [s.name for s in self.plan.stages]
        with RunProgress(names, len(units), quiet=self.quiet, watch=watch) as progress:
            while units:
                for result in self._results(specs, units, cluster):
                    self._take(result, progress)
                # The next wave reads what this one found from the catalog.
                self._committer.flush()
                units = self._waves.units()
        self.report.long_videos = self._waves.counts.as_dict()
        if cluster is not None:
            self.report.engine_start_s = round(cluster.start_s, 2)

    def _results(
        self,
        specs: list[WorkerSpec],
        units: list[Unit],
        cluster: Any,  # noqa: ANN401 - None when inline
    ) -> Iterator[UnitResult]:
        """Results of one wave, as they come; groups that no unit needs are left out."""
        todo = {name for unit in units for name in unit.todo}
        specs = [spec for spec in specs if any(s.name in todo for s in spec.stages)]
        if cluster is None:
            return run_inline(specs, units)
        from curation.engine.ray_data import run_ray

        return run_ray(cluster, specs, units, num_workers=self.config.run.num_workers)

    def _take(self, result: UnitResult, progress: RunProgress) -> None:
        if not self._waves.new(result):
            return
        through = self._waves.take(result)
        if result.error:
            self._failed.add(result.unit.source_id)
        self.report.note(result, through=through, at_s=time.time() - self.started)
        if through:
            self._through.add(result.unit.source_id)
        self.report.videos_run = len(self._through)  # some go through in several passes
        if result.unit.part is None:  # parts of a video wait for one another, not for the committer
            for part in result.parts:
                self._committer.add(part)
        progress.advance(result, through=through)
        self._check_budget()
        if self.report.distrusted:
            self._committer.flush()
            raise GateError(
                f"the captioner cannot be trusted: {self.report.distrusted}",
                where=self.storage.url,
                mend="nothing was shipped; mend the captioner, and run again: clips without a "
                "caption are tried anew",
            )

    def finish(self) -> None:
        """Look at the captions, shard, account, record, tidy up."""
        if self.config.run.caption_gate != "off":
            gate = run_gate(Views(self.catalog))
            self.report.gate = gate.as_dict()
            if self.config.run.caption_gate == "fail":
                gate.raise_if_failed(self.storage.url)
        self.report.shards = write_shards(
            self.storage,
            lambda: kept_samples(self.catalog, self.config.shard),
            self.config.shard,
        )
        keep_blank(self.catalog, self.run_id)
        self.catalog.compact()
        self.storage.remove_tree(ATTEMPTS)
        self.storage.remove_tree(COMPARING)
        if self._captioned():
            Ledger(self.storage).sweep()
        sweep_segments(self.storage, self.report.fingerprints.values(), self._waves.retried)
        self.report.account = take_account(self.catalog)
        self.report.wall_s = round(time.time() - self.started, 2)
        self.catalog.finish_run(self.run_id, self.report.as_dict())
        self.report.page = write_page(self.catalog, self.report.as_dict())

    def _captioned(self) -> bool:
        """True when no clip waits for another try: stored answers are of no more use."""
        sql = (
            "SELECT count(*) AS n FROM current_errors "
            "WHERE stage IN ('caption', 'rewrite') AND retryable"
        )
        return Views(self.catalog).query(sql).column("n")[0].as_py() == 0

    def _check_budget(self) -> None:
        bugs = self.report.internal_errors
        budget = self.config.run.max_internal_errors
        if bugs > budget:
            self._committer.flush()
            raise BudgetError(
                f"{bugs} unexpected failures, more than run.max_internal_errors={budget}",
                where=self.storage.url,
                mend="look at the view errors (`clipmill sql`); the next run goes on from here",
            )
