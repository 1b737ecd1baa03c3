"""Settings as people write them: overrides set what they name, and mistakes name the key."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained, mapping_in


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> Inner:
        if self.low > self.high:
            raise ValueError(f"low {self.low} lies above high {self.high}")
        return self


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Inner] = []
    inner: Inner | None = None


def test_mapping() -> None:
    assert mapping_in("a: {b: 1}", "f") == {"a": {"b": 1}}
    assert mapping_in("# nothing\n", "f") == {}
    for text in ("- 1", "a: b: c", "3"):
        with pytest.raises(ConfigError, match=r"^f: "):
            mapping_in(text, "f")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a=1", {"a": 1, "l": [{"x": 0}], "n": None}),
        ("a.b.c=[1, 2]", {"a": {"b": {"c": [1, 2]}}, "l": [{"x": 0}], "n": None}),
        ("l.0.x=null", {"l": [{"x": None}], "n": None}),
        ("l.0=5", {"l": [5], "n": None}),
        ("n.y=u=v", {"l": [{"x": 0}], "n": {"y": "u=v"}}),
    ],
)
def test_overrides(text: str, wanted: dict[str, Any]) -> None:
    data: dict[str, Any] = {"l": [{"x": 0}], "n": None}
    apply_override(data, text)
    assert data == wanted


@pytest.mark.parametrize("text", ["a", "l.1.x=0", "l.x=0", "s.t=1", "s.t.u=1", "a=[1"])
def test_overrides_that_lead_nowhere(text: str) -> None:
    with pytest.raises(ConfigError):
        apply_override({"l": [{"x": 0}], "s": 3}, text)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"innr": {}}, "unknown key 'innr'\n  mend: did you mean 'inner'?"),
        ({"parts": [{}, {"hihg": 3}]}, "unknown key 'parts.1.hihg'\n  mend: did you mean 'high'?"),
        ({"inner": {"zzz": 3}}, "valid keys: high, low"),
        ({"inner": {"low": "x"}}, r"inner.low: Input should be a valid integer.*\(got 'x'\)"),
        ({"inner": {"low": 10}}, r"^f: inner: low 10 lies above high 9$"),
    ],
)
def test_mistakes_name_the_key(data: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Outer.model_validate(data)
    with pytest.raises(ConfigError, match=words):
        raise explained(raised.value, Outer, "f")
