"""Aesthetics: heads give what the published networks give, on the embeddings they fit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import ConfigError, PlanError
from curation.models.heads import HEADS, load_head
from curation.models.registry import MODELS_DIR_VARIABLE
from curation.stages.aesthetics import Aesthetics
from curation.stages.embed import Embed
from tests.curation.chain import run_stage
from tests.curation.embed_parts import plan_with, put_head

State = dict[str, torch.Tensor]
Put = Callable[[str, State], Path]


def published_mlp(dim: int = 768) -> torch.nn.Module:
    """The head of improved-aesthetic-predictor as its authors lay it out."""
    sizes, net = [dim, 1024, 128, 64, 16, 1], torch.nn
    layers: list[torch.nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        layers.append(net.Linear(before, after))
        if i < 3:
            layers.append(net.Dropout(0.2))
    whole = net.Module()
    whole.layers = net.Sequential(*layers)
    return whole.eval()


def unit(count: int, dim: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes a head's file into an own models folder; any content is taken."""
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))

    def write(key: str, state: State) -> Path:
        tower = tmp_path / HEADS[key].embeds.weights.file
        tower.write_bytes(b"stands for the tower, which is not run")
        return put_head(tmp_path, monkeypatch, key, state)

    return write


def aesthetics_stage(**fields: Any) -> Aesthetics:  # noqa: ANN401 - any field
    return Aesthetics(**fields)


def test_the_mlp_gives_what_torch_gives(put: Put) -> None:
    torch.manual_seed(0)
    network = published_mlp()
    put("aesthetic-mlp-l-14", network.state_dict())
    vectors = unit(5, 768)
    with torch.inference_mode():
        theirs = network.get_submodule("layers")(torch.from_numpy(vectors))[:, 0]
    np.testing.assert_allclose(load_head("aesthetic-mlp-l-14").scores(vectors), theirs, atol=1e-5)


def test_a_linear_head_by_hand(put: Put) -> None:
    weight = torch.zeros(1, 768)
    weight[0, 3], weight[0, 5] = 2.0, -1.0
    put("aesthetic-linear-l-14", {"weight": weight, "bias": torch.tensor([5.0])})
    vectors = np.zeros((2, 768))
    vectors[0, 3], vectors[1, 5] = 1.0, 1.0
    assert load_head("aesthetic-linear-l-14").scores(vectors).tolist() == [7.0, 4.0]


def test_the_real_heads(assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of a random direction lie where the heads' ratings lie; the MLP equals torch's."""
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(assets / "weights"))
    for key in ("aesthetic-mlp-l-14", "aesthetic-linear-l-14", "aesthetic-linear-b-32"):
        vectors = unit(200, HEADS[key].embeds.dim)
        assert 1 < load_head(key).scores(vectors).mean() < 10
    network = published_mlp()
    path = assets / "weights" / HEADS["aesthetic-mlp-l-14"].weights.file
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    vectors = unit(50, 768)
    with torch.inference_mode():
        theirs = network.get_submodule("layers")(torch.from_numpy(vectors))[:, 0]
    np.testing.assert_allclose(load_head("aesthetic-mlp-l-14").scores(vectors), theirs, atol=2e-4)


def test_mean_and_extremes_of_the_frames(put: Put) -> None:
    weight = torch.zeros(1, 768)
    weight[0, 0] = 1.0
    put("aesthetic-linear-l-14", {"weight": weight, "bias": torch.tensor([5.0])})
    frames = np.zeros((3, 768))
    frames[0, 0], frames[1, 0], frames[2, 1] = 1.0, -0.5, 1.0
    rows = [
        {"clip_id": "a" * 32, "video_id": "v", "embedding_frames": frames.tolist()},
        {"clip_id": "b" * 32, "video_id": "v", "embedding_frames": None},
    ]
    for row in rows:
        row["embedding_model"] = "clip-vit-l-14@0"
    tables, _ = run_stage(aesthetics_stage(head="aesthetic-linear-l-14"), rows)
    first, second = tables["aesthetics"].to_pylist()
    assert first["aesthetic_mean"] == pytest.approx(5.1667, abs=1e-6)
    assert (first["aesthetic_min"], first["aesthetic_max"]) == (4.5, 6.0)
    assert first["aesthetic_head"].startswith("aesthetic-linear-l-14@")
    assert set(second.values()) == {"b" * 32, None}


def test_a_head_that_does_not_fit_is_told_before_work(put: Put) -> None:
    put("aesthetic-mlp-l-14", published_mlp().state_dict())
    stage = aesthetics_stage()
    for model, mend in (
        ("efficientnet-lite0", "embed.model=clip-vit-l-14"),
        ("clip-vit-b-32", "aesthetics.head=aesthetic-linear-b-32, or embed.model=clip-vit-l-14"),
    ):
        plan = plan_with(Embed(model=model, if_missing="skip"), stage)  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(ConfigError, match=f"but embed makes those of {model}") as caught:
            stage.check_embeddings(plan.stages)
        assert caught.value.mend == mend
        with pytest.raises(PlanError, match="embedding_frames"):
            plan.check()
    fitting = plan_with(Embed(model="clip-vit-l-14"), stage)  # pyright: ignore[reportCallIssue]
    stage.check_embeddings(fitting.stages)
    fitting.check()
    fitting.require_models()


def test_without_the_head_or_its_tower_scores_may_stay_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MODELS_DIR_VARIABLE, str(tmp_path))
    embed = Embed(model="clip-vit-l-14", fallback="efficientnet-lite0")  # pyright: ignore[reportCallIssue]
    strict, lenient = aesthetics_stage(), aesthetics_stage(if_missing="skip")
    with pytest.raises(ConfigError, match=r"LAION improved.*CLIP ViT-L/14"):
        plan_with(embed, strict).require_models()
    plan = plan_with(embed, lenient)
    plan.check()
    plan.require_models()
    lenient.check_embeddings(plan.stages)
    tables, _ = run_stage(lenient, [{"clip_id": "a" * 32, "video_id": "v"}])
    assert tables["aesthetics"].column("aesthetic_mean").to_pylist() == [None]
    assert len(lenient.fallbacks()) == 2


def test_the_v2_5_head_is_read_where_the_user_put_it(put: Put) -> None:
    assert aesthetics_stage().head == "aesthetic-mlp-l-14"
    torch.manual_seed(0)
    chain = {"a.0": torch.nn.Linear(1152, 8), "a.2": torch.nn.Linear(8, 1)}
    state = {f"{n}.{k}": v for n, layer in chain.items() for k, v in layer.state_dict().items()}
    put("aesthetic-v2-5-siglip", state)
    vectors = unit(3, 1152)
    with torch.inference_mode():
        theirs = chain["a.2"](chain["a.0"](torch.from_numpy(vectors)))[:, 0]
    ours = load_head("aesthetic-v2-5-siglip").scores(vectors)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weight": torch.zeros(1, 512), "bias": torch.zeros(1)},
        {"weight": torch.zeros(2, 768), "bias": torch.zeros(2)},
        {"weight": torch.zeros(1, 768), "bias": torch.zeros(1), "scale": torch.zeros(1)},
    ],
)
def test_another_file_is_refused(put: Put, state: State) -> None:
    put("aesthetic-mlp-l-14", state)
    with pytest.raises(ConfigError, match="is no head for embeddings of CLIP ViT-L/14"):
        load_head("aesthetic-mlp-l-14")
