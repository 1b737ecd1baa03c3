"""Weights that tests need: those beside the checkout, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.models.registry import MODELS_DIR_VARIABLE, find_weights
from curation.models.weights import Weights


def use_weights(assets: Path, monkeypatch: pytest.MonkeyPatch, *needed: Weights) -> None:
    """Take weights from the folder of real footage; without them the test is skipped."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(assets / "weights"))
    for weights in needed:
        if find_weights(weights) is None:
            pytest.skip(f"no weights of {weights.name}")


def without_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder of weights, and no package that carries any."""
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path / "no-models"))
    monkeypatch.setattr("curation.models.registry.importlib.util.find_spec", lambda _: None)
