"""The dataset that the tests of this folder copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.removal.parts import Made, make


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A curated root that nobody changes."""
    return make(tmp_path_factory.mktemp("removal"))


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy of it."""
    return original.copy(tmp_path)
