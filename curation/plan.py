"""A plan: stages in order, checked for wiring before any work, with a fingerprint each.

A stage's fingerprint covers its name, version, fields, model checksums and the fingerprints of
the stages whose columns it *reads*. Gating is not reading: a verdict chooses which clips are cut,
but does not enter the cut's fingerprint.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from itertools import groupby, takewhile

import pyarrow as pa

from curation.errors import ConfigError, PlanError
from curation.ids import json_digest
from curation.judging.choice import Choice
from curation.judging.rules import Rules
from curation.models.registry import MODELS_DIR_VARIABLE, how_to_get
from curation.schema import FIXED_TABLES, STRING, VIRTUAL, with_keys
from curation.stage import Stage

RESERVED = frozenset(
    {"uri", "title", "license", "source", "caption", "metadata"}
    | {"verdict", "reasons", "margins", "split"}
)
"""Columns of the ``clips`` view that no stage writes."""
UNSEEN = frozenset({"local_path", "size_bytes"})
"""Columns that stages can read, and the view of clips does not have."""
SAMPLE_TABLE = "frames"
"""The table behind the virtual ``sample_*`` columns."""
MEDIA_TABLE = "media"
"""The table that cutting writes."""


@dataclass(frozen=True)
class Column:
    """Where a column comes from.

    Attributes:
        name: The column.
        type: Its type.
        table: The table it is stored in.
        stage: Its writer; None: given.
        of_clip: True when it has a value per clip rather than per video.
        gated: True when only kept clips have a value.
    """

    name: str
    type: pa.DataType
    table: str
    stage: str | None
    of_clip: bool = False
    gated: bool = False


@dataclass(frozen=True)
class Plan:
    """Stages from source to sink, rules that gate the ``gated`` ones, the choice of what stays."""

    stages: tuple[Stage, ...]
    rules: Rules = field(default_factory=Rules)
    choice: Choice = field(default_factory=Choice)

    def check(self) -> pa.Schema:
        """Check the wiring and return the schema of everything known of a clip at the end.

        Raises:
            PlanError: A missing or mistyped column (naming stage and column), two writers of one
                column or table, a repeated stage name, or rows that a stage cannot get: those of
                clips for a stage of whole videos, or of kept clips for one that sees all.
            ConfigError: A rule on an unknown column.
        """
        known = {c.name: c for c in self._given()}
        tables: dict[str, str] = {}
        names: set[str] = set()
        for stage in self.stages:
            if stage.name in names:
                raise PlanError("two stages have this name", where=f"stage {stage.name!r}")
            names.add(stage.name)
            _check_shape(stage, known)
            for wanted in stage.reads:
                _check_read(stage, wanted, known)
                _check_rows(stage, known[wanted.name])
            for column in self._added(stage, tables):
                other = known.get(column.name)
                if column.name in RESERVED:
                    other = Column(column.name, column.type, "clips", "the view of clips")
                if other is not None and column.name != "clip_id":
                    raise PlanError(
                        f"adds column {column.name!r}, which {other.stage or 'the engine'} "
                        "already provides",
                        where=f"stage {stage.name!r}",
                        mend="rename the column: names are unique over all tables",
                    )
                known.setdefault(column.name, column)
        shown = {name: c for name, c in known.items() if name not in UNSEEN}
        self.rules.check({name: c.type for name, c in shown.items()})
        self._check_choice(shown)
        return pa.schema([pa.field(c.name, c.type) for c in known.values()])

    def require_models(self) -> None:
        """Ask for every stage's weights, and what else it needs, before any work.

        Raises:
            ConfigError: Naming all that is missing, who wants it, and how to get it.
        """
        problems = [(stage.name, text) for stage in self.stages for text in stage.problems()]
        if problems:
            raise ConfigError("; ".join(text for _, text in problems), where=problems[0][0])
        missing = [(stage.name, weights) for stage in self.stages for weights in stage.missing()]
        if not missing:
            self._check_rules_on_nulls()
            return
        wanted = "; ".join(f"{w.name} ({w.file}) for {stage}" for stage, w in missing)
        gets = " && ".join(dict.fromkeys(how_to_get(w) for _, w in missing))
        files = ", ".join(dict.fromkeys(w.file for _, w in missing))
        mend = f"{gets}; or put {files} in the folder that {MODELS_DIR_VARIABLE} names"
        can_skip = {s.name for s in self.stages if "if_missing" in type(s).model_fields}
        skips = dict.fromkeys(f"{stage}.if_missing=skip" for stage, _ in missing)
        if can_skip.issuperset(stage for stage, _ in missing):
            mend += f"; or leave the scores null with {' '.join(skips)}"
        raise ConfigError(f"weights are not on this machine: {wanted}", mend=mend)

    def _check_rules_on_nulls(self) -> None:
        """Refuse a rule on scores that stay null for want of weights, unless it says what then."""
        known = self.columns()
        unknown = {column for stage in self.stages for column in stage.unknown()}
        for column, rule in self.rules.rules.items():
            if column in unknown and rule.if_null != "keep":
                raise ConfigError(
                    f"{known[column].stage} runs without its weights, so this is never known",
                    where=f"judge.rules.{column}",
                    mend="bring the weights (`clipmill models list`), or say if_null: keep",
                )

    def columns(self) -> dict[str, Column]:
        """Every column a stage may read, by name."""
        known = {c.name: c for c in self._given()}
        for stage in self.stages:
            for column in self._added(stage, {}):
                known.setdefault(column.name, column)
        return known

    def late_tables(self, rules: Rules) -> dict[str, str]:
        """Columns of some rules that only clips kept so far get, and the tables they stand in."""
        known = self.columns()
        return {c: known[c].table for c in rules.columns() if known[c].gated}

    def gate(self, stage: Stage) -> Rules:
        """The rules that decide which clips reach a gated stage: those on earlier columns."""
        before = {s.name for s in takewhile(lambda s: s.name != stage.name, self.stages)}
        known = self.columns()
        wanted = [
            c for c in self.rules.columns() if known[c].stage is None or known[c].stage in before
        ]
        return self.rules.only(wanted).local()

    def _check_choice(self, known: dict[str, Column]) -> None:
        """Refuse a choice by columns that there are not."""
        if self.choice.dedup is not None:
            self.choice.dedup.check({c.table for c in known.values()})
        for name in self.choice.columns():
            if name not in known:
                near = difflib.get_close_matches(name, list(known), n=1)
                mend = f"did you mean {near[0]!r}?" if near else "see the view clips"
                raise ConfigError("no stage adds this column", where=f"column {name!r}", mend=mend)
            if known[name].gated and self._made_after_choice(name, known):
                raise ConfigError(
                    "is known of chosen clips only, and cannot choose them",
                    where=f"column {name!r}",
                    mend="take a column that is known before the cut",
                )

    def _made_after_choice(self, name: str, known: dict[str, Column]) -> bool:
        stage = known[name].stage
        return stage is not None and stage not in self.before_choice()

    def fingerprints(self) -> dict[str, str]:
        """Stage name -> fingerprint (32 hex digits)."""
        known = self.columns()
        prints: dict[str, str] = {}
        for stage in self.stages:
            sources = {known[f.name].stage for f in stage.reads if f.name in known}
            cls = type(stage)
            prints[stage.name] = json_digest(
                {
                    "stage": stage.name,
                    "class": f"{cls.__module__}:{cls.__qualname__}",
                    "version": stage.version,
                    "fields": stage.settings(),
                    "models": stage.model_checksums(),
                    "reads": {s: prints[s] for s in sorted(x for x in sources if x)},
                }
            )
        return prints

    def table_fingerprints(self) -> dict[str, str]:
        """Table name -> fingerprint of the stage that writes it."""
        prints = self.fingerprints()
        tables = {table: prints[s.name] for s in self.stages for table in s.adds}
        return tables | {"verdicts": self.verdict_fingerprint()}

    def verdict_fingerprint(self) -> str:
        """Of the rules and the choice among the clips that pass."""
        if self.choice == Choice():
            return self.rules.fingerprint()
        choice = self.choice.model_dump(mode="json")
        return json_digest({"rules": self.rules.fingerprint(), "choice": choice})

    @property
    def waits_for_all(self) -> bool:
        """True when no clip may be cut before all are scored: what stays depends on the others.

        So it does with rules on sources: of several with the same bytes the first one counts, and
        a worker may meet another one first.
        """
        known = self.columns()
        given = any(known[c].stage is None for c in self.rules.rule_columns())
        others = self.rules.quantile_bounds() or self.rules.source_columns()
        return self.choice.narrows or given or bool(others)

    def after_choice(self, stage: str) -> bool:
        """True for a stage that only sees the clips which stay after the choice."""
        return self.waits_for_all and stage not in self.before_choice()

    def before_choice(self) -> frozenset[str]:
        """Names of the stages that run before the choice: all up to cutting."""
        return frozenset(
            s.name for s in takewhile(lambda s: MEDIA_TABLE not in s.adds, self.stages)
        )

    def record(self) -> dict[str, object]:
        """What the catalog has to know of the plan to show its rows: kept with each run."""
        return {
            "tables": self.table_fingerprints(),
            "stages": self.fingerprints(),
            "order": [s.name for s in self.stages],
            "video_stages": [s.name for s in self.stages if s.grain == "video"],
            "clip_stages": {s.name: next(iter(s.adds)) for s in self.stages if s.grain == "clip"},
            "gated_stages": [s.name for s in self.stages if s.gated],
            "detail_tables": sorted({t for s in self.stages for t in s.details}),
            "score_tables": self._score_tables(),
        }

    def _score_tables(self) -> list[str]:
        """Tables with what is known of a clip before it is cut, one row each, in order."""
        before = takewhile(lambda s: MEDIA_TABLE not in s.adds, self.stages)
        clip_stages = [s for s in before if s.grain == "clip"]
        return [t for s in clip_stages for t in s.adds if t not in s.details]

    def table_schemas(self) -> dict[str, pa.Schema]:
        """Stored schema of every table the plan writes, ``done`` last."""
        planned = {t: with_keys(cols) for s in self.stages for t, cols in s.adds.items()}
        fixed = dict(FIXED_TABLES)
        done = fixed.pop("done")
        return {**fixed, **planned, "done": done}

    def groups(self) -> list[tuple[Stage, ...]]:
        """Neighbouring stages of equal resources, to be fused into one worker each."""
        runs = groupby(self.stages, key=lambda s: s.resources)
        return [tuple(members) for _, members in runs]

    def _given(self) -> list[Column]:
        samples = next((s.name for s in self.stages if SAMPLE_TABLE in s.adds), None)
        given = [Column("video_id", STRING, "sources", None)]
        given += [
            Column(f.name, f.type, "sources", None)
            for kind in ("source", "given")
            for f in VIRTUAL[kind]
        ]
        if samples:
            given += [Column(f.name, f.type, SAMPLE_TABLE, samples) for f in VIRTUAL["sample"]]
        return given

    def _added(self, stage: Stage, tables: dict[str, str]) -> list[Column]:
        added = []
        for table, columns in stage.adds.items():
            if table in FIXED_TABLES or table in tables:
                owner = tables.get(table, "clipmill itself")
                raise PlanError(
                    f"writes table {table!r}, which belongs to {owner}",
                    where=f"stage {stage.name!r}",
                )
            tables[table] = stage.name
            if table not in stage.details:
                of_clip = "clip_id" in columns.names
                added += [
                    Column(f.name, f.type, table, stage.name, of_clip, stage.gated) for f in columns
                ]
        return added


def _check_shape(stage: Stage, known: dict[str, Column]) -> None:
    """Refuse a stage whose tables or grain cannot work."""
    where = f"stage {stage.name!r}"
    if not stage.adds:
        raise PlanError("adds no table", where=where, mend="declare what it writes in adds")
    if stage.grain == "video":
        if stage.gated:
            raise PlanError("is gated, but sees whole videos", where=where, mend="grain = 'clip'")
        return
    if "clip_id" not in known:
        raise PlanError(
            "sees clips, but no earlier stage adds them", where=where, mend="put it after split"
        )
    first = next(iter(stage.adds))
    if "clip_id" not in stage.adds[first].names or first in stage.details:
        raise PlanError(
            f"sees clips, but its first table {first!r} has no row per clip",
            where=where,
            mend="give that table a clip_id: what is done is known by it",
        )


def _check_rows(stage: Stage, column: Column) -> None:
    """Refuse a column that has no value for the rows of the stage."""
    where = f"stage {stage.name!r}"
    if stage.grain == "video" and column.of_clip:
        raise PlanError(
            f"reads column {column.name!r}, which has a value per clip, but sees whole videos",
            where=where,
            mend="grain = 'clip'",
        )
    if column.gated and not stage.gated:
        raise PlanError(
            f"reads column {column.name!r}, which {column.stage} adds for kept clips only",
            where=where,
            mend="gated = True",
        )


def _check_read(stage: Stage, wanted: pa.Field, known: dict[str, Column]) -> None:
    """Refuse a column that no earlier stage provides, or provides with another type."""
    where = f"stage {stage.name!r}"
    column = known.get(wanted.name)
    if column is None:
        near = difflib.get_close_matches(wanted.name, list(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else "put the stage that adds it before"
        raise PlanError(
            f"reads column {wanted.name!r}, which no earlier stage adds", where=where, mend=hint
        )
    if column.type != wanted.type:
        raise PlanError(
            f"reads column {wanted.name!r} as {wanted.type}, but {column.stage or 'the engine'} "
            f"provides {column.type}",
            where=where,
            mend="correct the type in the stage's reads",
        )
