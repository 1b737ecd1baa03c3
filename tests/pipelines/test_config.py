from __future__ import annotations

import pytest

from curation.errors import ConfigError
from pipelines.config import is_override, load_config, preset_names


def test_presets_load_and_their_plans_check() -> None:
    assert preset_names() == ["cluster", "full", "laptop"]
    for name in preset_names():
        load_config(name).plan().check()


def test_overrides_reach_nested_values_and_list_elements() -> None:
    config = load_config(
        "configs/examples/colorfulness.yaml",
        ["stages.0.max_frames=3", "judge.rules.sharpness.min=0.5", "cut.audio=keep"],
    )
    own = next(s for s in config.plan().stages if s.name == "colorfulness")
    assert own.max_frames == 3  # pyright: ignore[reportAttributeAccessIssue]
    assert config.judge.rules["sharpness"].min == 0.5
    assert config.cut.audio == "keep"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stages.4.max_frames=1", "no element '4'"),
        ("split.max_s.deep=1", "valid number"),
        ("judge.rules.sharpness.min.deep=1", "no keys below it"),
        ("run.engine=spark", "'ray' or 'inline'"),
        ("split.min_s=20", "above max_s"),
        ("judge.rules.sharpness.mn=1", "did you mean 'min'"),
    ],
)
def test_bad_overrides(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config("configs/examples/colorfulness.yaml", [text])


def test_a_bare_off_means_off() -> None:
    """YAML reads ``off`` as false."""
    config = load_config(None, ["signals.transnet=off", "retest.transnet=off"])
    assert (config.signals.transnet, config.retest.transnet) == ("off", "off")


def test_model_scorers_are_off_until_named() -> None:
    plain = [stage.name for stage in load_config("laptop").plan().stages]
    assert plain[:6] == ["probe", "signals", "split", "score", "technical", "camera"]
    assert plain[6:] == ["cut", "retest", "caption", "check"]
    named = load_config("laptop", ["text={}", "faces.min_confidence=0.8", "faces.if_missing=skip"])
    assert [stage.name for stage in named.plan().stages][6:8] == ["faces", "text"]
    off = load_config("full", ["text=null"]).plan().stages
    assert [s.name for s in off][6:8] == ["packets", "prints"]
    assert [s.name for s in off][8:12] == ["audio", "faces", "embed", "safety"]


def test_a_users_stage_that_cannot_be_loaded() -> None:
    for use, words in [
        ("nonsense", "package.module:ClassName"),
        ("no.such.module:Stage", "cannot import"),
        ("json:JSONDecoder", "no subclass"),
    ]:
        config = load_config(None, [f"stages=[{{use: '{use}'}}]"])
        with pytest.raises(ConfigError, match=words):
            config.plan()
    config = load_config(
        None, ["stages=[{use: 'pipelines.examples.colorfulness:Colorfulness', max_frame: 2}]"]
    )
    with pytest.raises(ConfigError, match="did you mean 'max_frames'"):
        config.plan()


def test_what_is_an_override(tmp_path: object) -> None:
    assert is_override("split.max_s=3")
    assert not is_override("video.mp4")
    assert not is_override("https://host/v?id=3")
    assert not is_override("folder/a=b.mp4")


def test_another_kind_of_backend_drops_the_settings_of_the_old_one() -> None:
    base = load_config("full").model_dump(mode="json")
    words = ["caption.backend.kind=openai", "caption.backend.model=m"]
    changed = load_config(None, words, base=base)
    assert changed.caption is not None and changed.caption.backend.model_name == "openai:m"
    same = load_config("full", ["caption.backend.kind=embedded", "caption.backend.max_frames=3"])
    assert same.caption is not None and same.caption.backend.model_dump()["max_frames"] == 3


def test_measured_captions_are_compared_only_when_asked_by_name() -> None:
    def alignment(*words: str) -> str:
        stages = {s.name: s for s in load_config("full", list(words)).plan().stages}
        return str(stages["check"].model_dump()["alignment"])

    assert alignment() == "off"
    assert alignment("check.alignment=tags") == "tags"
    assert alignment("caption.backend.kind=openai", "caption.backend.model=m") == "auto"
