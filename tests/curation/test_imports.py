"""The arrows between the rooms: who may import whom."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO

RAY_MODULES = {
    f"curation/engine/{n}.py" for n in ("ask_ahead", "ray_actors", "ray_data", "ray_llm", "ray_map")
}
TRAINING_MAY = tuple(
    f"curation.{name}"
    for name in ("errors", "ids", "media", "models", "schema", "storage", "yaml_settings")
)


TORCH_ALONE = [
    *("training/models/dit.py", "training/models/rope.py", "training/step.py"),
    *("training/diffusion", "training/models/vae_network.py"),
]
"""The mathematics of the trainer: it runs wherever torch runs."""


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, by its full name."""
    package = path.relative_to(REPO).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files_of(room: str) -> list[Path]:
    """Source files of a room."""
    return sorted((REPO / room).rglob("*.py"))


def begins(name: str, *prefixes: str) -> bool:
    """True when a dotted name is one of these or lies below it."""
    return any(name == p or name.startswith(f"{p}.") for p in prefixes)


@pytest.mark.parametrize("room", ["curation", "pipelines", "training"])
def test_rooms_are_there(room: str) -> None:
    assert files_of(room)


def test_curation_imports_nothing_above_it() -> None:
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for path in files_of("curation")
        for name in imports_of(path)
        if begins(name, "pipelines", "training", "configs", "tests")
    ]
    assert not wrong


def test_training_imports_little_of_curation() -> None:
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for path in files_of("training")
        for name in imports_of(path)
        if begins(name, "pipelines", "tests")
        or (begins(name, "curation") and not begins(name, *TRAINING_MAY))
    ]
    assert not wrong


def test_mathematics_of_the_trainer_needs_torch_alone() -> None:
    paths = [p for name in TORCH_ALONE for p in (files_of(name) or [REPO / name])]
    own = {".".join(p.relative_to(REPO).with_suffix("").parts) for p in paths}
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for path in paths
        for name in imports_of(path)
        if name.partition(".")[0] not in {"torch", *sys.stdlib_module_names}
        and not begins(name, *own)
    ]
    assert len(paths) > 6 and not wrong


def test_only_one_module_of_curation_imports_ray() -> None:
    users = {
        str(path.relative_to(REPO))
        for path in files_of("curation")
        for name in imports_of(path)
        if begins(name, "ray")
    }
    assert users == RAY_MODULES


def test_stages_and_measures_know_no_engine() -> None:
    """A stage knows nothing of engines, the catalog or shards."""
    wrong = [
        f"{path.relative_to(REPO)} imports {name}"
        for room in ("curation/stages", "curation/signals", "curation/media")
        for path in files_of(room)
        for name in imports_of(path)
        if begins(name, "curation.engine", "curation.catalog", "curation.shards", "lance", "duckdb")
    ]
    assert not wrong
