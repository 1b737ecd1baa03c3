"""Prompts: found, filled in, hashed; braces of JSON in them stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.captions.prompts import load_prompt
from curation.errors import ConfigError


def test_the_caption_prompt_tells_times_and_facts() -> None:
    prompt = load_prompt("caption-1")
    system, user = prompt.fill(duration_s="4.0", times_s="0.0, 1.0", facts=" It pans.")
    assert "plain English" in system
    assert "shot of 4.0 seconds, taken at 0.0, 1.0 seconds. It pans." in user
    assert '{"short"' in user and "{duration_s}" not in user
    assert prompt.label == f"caption-1@{prompt.sha256[:12]}"


def test_a_users_own_prompt(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text("# user\nWhat is it? {facts}\n")
    prompt = load_prompt(str(path))
    assert prompt.name == "mine" and prompt.fill(facts="{x}") == ("", "What is it? {x}")
    changed = tmp_path / "other.md"
    changed.write_text("# user\nWhat was it? {facts}\n")
    assert load_prompt(str(changed)).sha256 != prompt.sha256


@pytest.mark.parametrize("name", ["caption-0", "../caption-1", "", "nowhere.md", "CAPTION"])
def test_there_is_no_such_prompt(name: str) -> None:
    with pytest.raises(ConfigError, match="caption-1"):
        load_prompt(name)


def test_a_prompt_without_a_question(tmp_path: Path) -> None:
    path = tmp_path / "empty.md"
    path.write_text("# system\nBe kind.\n")
    with pytest.raises(ConfigError, match="# user"):
        load_prompt(str(path))
