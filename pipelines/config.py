"""The configuration of a curation run: one model, YAML files, dotted overrides.

The stages themselves are the models of their sections, so there is no second list of their
settings. Unknown keys are refused with the nearest valid one.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from curation.captions.facts import FACTS
from curation.dedup.settings import Dedup
from curation.errors import ConfigError
from curation.judging.choice import Choice
from curation.judging.rights import Rights
from curation.judging.rules import Rule, Rules
from curation.judging.sample import Sampling
from curation.judging.splits import Splits
from curation.plan import Plan
from curation.shards.writer import ShardSettings
from curation.stage import Stage
from curation.stages.aesthetics import Aesthetics
from curation.stages.audio import Audio
from curation.stages.camera import Camera
from curation.stages.caption import CaptionClips
from curation.stages.check import CheckCaptions
from curation.stages.cut import Cut
from curation.stages.embed import Embed
from curation.stages.faces import Faces
from curation.stages.packets import Packets
from curation.stages.prints import Prints
from curation.stages.probe import Probe
from curation.stages.retest import Retest
from curation.stages.rewrite import Rewrite
from curation.stages.safety import Safety
from curation.stages.score import Score
from curation.stages.signals import Signals
from curation.stages.split import Split
from curation.stages.subtitles import Subtitles
from curation.stages.technical import Technical
from curation.stages.text import OverlayText
from curation.yaml_settings import apply_override, explained, mapping_in
from pipelines.run_settings import InputSettings, RunSettings

DEFAULT_PRESET = "laptop"


class CurateConfig(BaseModel):
    """Everything ``clipmill curate`` can be told.

    Attributes:
        inputs: Which files are taken.
        probe: See ``curation/stages/probe.py``.
        signals: See ``curation/stages/signals.py``.
        split: See ``curation/stages/split.py``.
        score: See ``curation/stages/score.py``.
        technical: See ``curation/stages/technical.py``.
        camera: See ``curation/stages/camera.py``.
        packets: See ``curation/stages/packets.py``; runs when exact copies are looked for.
        prints: See ``curation/stages/prints.py``; runs when alike clips are looked for.
        stages: The user's own stages, run after these: ``{use: package.module:Class, ...}``.
        audio: Model scorers, in this order, each null (off) or its settings, ``{}`` for the
            defaults: see ``curation/stages/audio.py``,
        faces: ``faces.py``,
        embed: ``embed.py``,
        aesthetics: ``aesthetics.py``,
        safety: ``safety.py``,
        text: ``text.py``.
        judge: Rules by column, and exceptions from them; see ``curation/judging/README.md``.
        rights: Licences and sources that are demanded, presumed, allowed, refused.
        dedup: Clips that show the same, of which one stays; null: off. See
            ``curation/dedup/README.md``.
        sample: Caps and balance; null: all that passes.
        splits: Train, validation, test; null: one dataset.
        cut: See ``curation/stages/cut.py``.
        retest: See ``curation/stages/retest.py``.
        subtitles: Words from files beside the videos; null: off. See
            ``curation/stages/subtitles.py``.
        caption: See ``curation/stages/caption.py``; null: off.
        rewrite: Captions in other styles and lengths by a language model; null: off. See
            ``curation/stages/rewrite.py``.
        check: Of captions, see ``curation/stages/check.py``; null: off.
        shard: Packing.
        run: Engine and limits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inputs: InputSettings = InputSettings()
    probe: Probe = Probe()  # pyright: ignore[reportCallIssue]
    signals: Signals = Signals()  # pyright: ignore[reportCallIssue]
    split: Split = Split()  # pyright: ignore[reportCallIssue]
    score: Score = Score()  # pyright: ignore[reportCallIssue]
    technical: Technical = Technical()  # pyright: ignore[reportCallIssue]
    camera: Camera = Camera()  # pyright: ignore[reportCallIssue]
    packets: Packets = Packets()  # pyright: ignore[reportCallIssue]
    prints: Prints = Prints()  # pyright: ignore[reportCallIssue]
    stages: tuple[dict[str, Any], ...] = ()
    audio: Audio | None = None
    faces: Faces | None = None
    embed: Embed | None = None
    aesthetics: Aesthetics | None = None
    safety: Safety | None = None
    text: OverlayText | None = None
    judge: Rules = Rules()
    rights: Rights = Rights()
    dedup: Dedup | None = None
    sample: Sampling | None = None
    splits: Splits | None = None
    cut: Cut = Cut()  # pyright: ignore[reportCallIssue]
    retest: Retest = Retest()  # pyright: ignore[reportCallIssue]
    subtitles: Subtitles | None = None
    caption: CaptionClips | None = CaptionClips()  # pyright: ignore[reportCallIssue]
    check: CheckCaptions | None = CheckCaptions(alignment="off")  # pyright: ignore[reportCallIssue]
    rewrite: Rewrite | None = None
    shard: ShardSettings = ShardSettings()  # pyright: ignore[reportCallIssue]
    run: RunSettings = RunSettings()  # pyright: ignore[reportCallIssue]

    @field_validator("judge")
    @classmethod
    def _rights_apart(cls, judge: Rules) -> Rules:
        if judge.rights != Rights():
            raise ValueError("rights have a section of their own: rights, not judge.rights")
        return judge

    def plan(self) -> Plan:
        """The plan: cheap stages, the user's own, models; cut, retest, caption of what is kept.

        Models run from the cheapest to the dearest, each on what the rules have kept so far. A clip
        with a cut inside is rejected unless a rule says otherwise in so many words.
        """
        cheap = (self.probe, self.signals, self.split, self.score, self.technical, self.camera)
        own = [load_stage(spec, f"stages[{i}]") for i, spec in enumerate(self.stages)]
        models = (self.audio, self.faces, self.embed, self.aesthetics, self.safety, self.text)
        wanted = [stage for stage in models if stage is not None]
        stages = (*cheap, *self._compared(), *own, *wanted, self.cut, self.retest)
        stages = (*stages, *self._words(stages))
        if self.aesthetics is not None:
            self.aesthetics.check_embeddings(stages)
        rules = {"residual_cut": Rule(max=0), **self.judge.rules}
        return Plan(
            stages=stages,
            rules=Rules(rules=rules, overrides=self.judge.overrides, rights=self.rights),
            choice=Choice(dedup=self.dedup, sample=self.sample, splits=self.splits),
        )

    def _compared(self) -> list[Stage]:
        """The stages whose rows are compared to find duplicates, of the levels that are on."""
        dedup = self.dedup
        found: list[Stage] = []
        if dedup is not None and dedup.exact is not None:
            found.append(self.packets)
        if dedup is not None and dedup.perceptual is not None:
            found.append(self.prints)
        return found

    def _words(self, before: tuple[Stage, ...]) -> list[Stage]:
        """The stages that deal in words; they are told which measurements there are."""
        words: list[Stage] = [] if self.subtitles is None else [self.subtitles]
        facts = tuple(s.name for s in (*before, *words) if s.name in FACTS)
        if self.caption is not None:
            words.append(self.caption.model_copy(update={"facts": facts}))
            if self.check is not None:
                words.append(self._checked_by(self.check.model_copy(update={"facts": facts})))
            if self.rewrite is not None:
                words.append(self.rewrite)
        return words

    def _checked_by(self, check: CheckCaptions) -> CheckCaptions:
        """The check, with the model of ``embed`` where that one knows texts.

        What is written from measurements is not compared unless that is asked for by name: it says
        too little of each clip, and there is no server that could mix clips up.
        """
        if check.alignment == "auto" and self.caption and not self.caption.backend.prompted:
            return check.model_copy(update={"alignment": "off"})
        if check.model is not None or self.embed is None:
            return check
        model = self.embed.in_use
        return check.model_copy(update={"model": model.weights.key, "stored": model.joint_text})


def load_stage(spec: dict[str, Any], where: str) -> Stage:
    """Build a user's stage from ``{use: "package.module:Class", field: value, ...}``.

    Raises:
        ConfigError: It cannot be imported, is no stage, or has no such field.
    """
    fields = dict(spec)
    path = str(fields.pop("use", ""))
    module_name, _, class_name = path.partition(":")
    if not module_name or not class_name:
        raise ConfigError(f"needs use: package.module:ClassName, got {path!r}", where=where)
    # A console script does not have the current folder on its path; Ray's workers get ours.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as exc:
        raise ConfigError(
            f"cannot import {path!r}: {exc}",
            where=where,
            mend="is the package installed, or its folder on PYTHONPATH?",
        ) from exc
    if not (isinstance(cls, type) and issubclass(cls, Stage)):
        raise ConfigError(f"{path!r} is no subclass of curation.stage.Stage", where=where)
    try:
        return cls(**fields)
    except ValidationError as exc:
        raise explained(exc, cls, where) from exc


def load_config(
    path: str | None = None,
    overrides: list[str] | None = None,
    *,
    base: dict[str, Any] | None = None,
) -> CurateConfig:
    """Read a config file, apply ``key.sub=value`` overrides, and check everything.

    Args:
        path: YAML file, or the name of a preset (``laptop``, ``cluster``). None: the default
            preset, unless ``base`` is given.
        overrides: ``a.b.c=value`` with YAML values.
        base: Values to start from instead of a file (the config a dataset was made with).

    Raises:
        ConfigError: An unknown or mistyped key or value.
    """
    data = read_yaml(path or DEFAULT_PRESET) if path or base is None else base
    for text in overrides or []:
        apply_override(data, text)
    try:
        return CurateConfig.model_validate(data)
    except ValidationError as exc:
        raise explained(exc, CurateConfig, path or "config") from exc


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping in a YAML file or preset."""
    text = _preset_text(path)
    if text is None:
        try:
            text = Path(path).read_text()
        except OSError as exc:
            raise ConfigError(
                str(exc), where=path, mend=f"a file, or one of: {', '.join(preset_names())}"
            ) from exc
    return mapping_in(text, path)


def preset_names() -> list[str]:
    """Names of the presets that travel with the package."""
    folder = resources.files("configs") / "curate"
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def _preset_text(name: str) -> str | None:
    if not name.replace("_", "").replace("-", "").isalnum():
        return None
    preset = resources.files("configs") / "curate" / f"{name}.yaml"
    return preset.read_text() if preset.is_file() else None


def is_override(argument: str) -> bool:
    """True for ``section.key=value`` (and not for a path or URL that holds an equals sign)."""
    key, equals, _ = argument.partition("=")
    if not equals or not key or "/" in key or Path(argument).exists():
        return False
    return (
        key.split(".")[0].split("[")[0] in CurateConfig.model_fields
        or key.replace(".", "").replace("_", "").isalnum()
    )
