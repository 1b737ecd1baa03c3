"""Embedders: pictures are made ready as published, vectors do not depend on their neighbours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import ConfigError
from curation.models.embedders import MODELS, Embedder, load_embedder, model_label
from tests.curation.embed_parts import footage, resized, tiny_clip

LITE = "efficientnet-lite0"
SHAPES = [(288, 512), (512, 288), (301, 500), (100, 173), (224, 224), (257, 1000)]


@pytest.fixture(scope="module")
def lite() -> Embedder:
    return load_embedder(LITE)


def noise(height_px: int, width_px: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def test_the_interface_imports_no_network() -> None:
    code = "import sys, curation.stages.embed, curation.stages.aesthetics as a"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_vectors_have_length_one_and_the_declared_size(lite: Embedder) -> None:
    vectors = lite.pictures([noise(*shape) for shape in SHAPES])
    assert vectors.shape == (len(SHAPES), lite.dim) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert lite.pictures([]).shape == (0, lite.dim)


def test_a_vector_does_not_depend_on_its_batch(lite: Embedder) -> None:
    pictures = [noise(*shape, seed=i) for i, shape in enumerate(SHAPES)]
    together = lite.pictures(pictures)
    backwards = lite.pictures(pictures[::-1])[::-1]
    alone = np.concatenate([lite.pictures([p]) for p in pictures])
    assert np.array_equal(together, backwards) and np.array_equal(together, alone)


def test_the_features_are_those_of_the_published_classifier(lite: Embedder) -> None:
    """Carphone shows a man in suit and tie, and so says the classifier behind the features."""
    import torch

    from curation.models.embedders_torch import prepare

    _, pictures = footage("carphone_pristine.mp4", every_s=1)
    network = lite._network  # pyright: ignore[reportAttributeAccessIssue]
    pixels = torch.from_numpy(np.stack([prepare(p, MODELS[LITE]) for p in pictures]))
    with torch.inference_mode():
        logits = network(pixels.contiguous(memory_format=torch.channels_last))
        features = torch.from_numpy(lite.pictures(pictures))
        likely = network._fc(features * 80).mean(0).topk(3).indices.tolist()
    suit, windsor_tie = 834, 906
    assert {suit, windsor_tie} < set(likely)
    assert set(likely) == set(logits.mean(0).topk(3).indices.tolist())


def test_size_matters_little_and_content_much(lite: Embedder) -> None:
    bikes, phone = (footage(n, every_s=2)[1][:3] for n in ("bikes.mp4", "carphone_pristine.mp4"))
    own, half, other = (lite.pictures(p) for p in (bikes, resized(bikes, 136), phone))
    assert (own * half).sum(1).min() > 0.9
    assert (own @ other.T).max() < 0.6


def test_it_says_which_models_know_texts(lite: Embedder) -> None:
    with pytest.raises(ConfigError, match="knows pictures, not texts") as caught:
        lite.texts(["a dog"])
    assert "clip-vit-l-14" in str(caught.value) and not lite.joint_text


def test_missing_weights_are_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    with pytest.raises(ConfigError, match="clipmill models pull clip-vit-l-14"):
        load_embedder("clip-vit-l-14")


def test_clip_runs_both_towers_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import load_file

    path = tiny_clip(tmp_path, monkeypatch, "clip-vit-l-14")
    embedder = load_embedder("clip-vit-l-14")
    network: Any
    preprocess: Any
    network, _, preprocess = open_clip.create_model_and_transforms(
        MODELS["clip-vit-l-14"].architecture
    )
    network.load_state_dict(load_file(path))
    network.eval()
    pictures, texts = [noise(*shape) for shape in SHAPES[:3]], ["a dog", "two cups on a table"]
    with torch.inference_mode():
        seen = network.encode_image(
            torch.stack([preprocess(Image.fromarray(p)) for p in pictures]), normalize=True
        )
        tokens = open_clip.get_tokenizer("ViT-L-14-quickgelu")(texts)
        read = network.encode_text(tokens, normalize=True)
    np.testing.assert_allclose(embedder.pictures(pictures), seen, atol=1e-5)
    np.testing.assert_allclose(embedder.texts(texts), read, atol=1e-5)
    assert model_label(MODELS["clip-vit-l-14"].weights).startswith("clip-vit-l-14@")


def test_pictures_are_made_ready_as_open_clip_does() -> None:
    from open_clip.transform import image_transform
    from PIL import Image

    from curation.models.embedders_torch import prepare

    model = MODELS["clip-vit-b-32"]
    published: Any = image_transform(224, is_train=False, mean=model.mean, std=model.std)
    for shape in SHAPES:
        picture = noise(*shape)
        theirs = published(Image.fromarray(picture))
        np.testing.assert_allclose(prepare(picture, model), theirs, atol=1e-6)


def test_another_networks_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from safetensors.torch import save_file

    path = tiny_clip(tmp_path, monkeypatch, "clip-vit-b-32")
    save_file({"logit_scale": torch.zeros(())}, path)
    with pytest.raises(ConfigError, match="does not hold the weights of CLIP ViT-B/32"):
        load_embedder("clip-vit-b-32")


@pytest.mark.slow
def test_the_real_vit_b_32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import open_clip
    from safetensors.torch import save_file

    model = MODELS["clip-vit-b-32"]
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    network = open_clip.create_model(model.architecture, pretrained=None, load_weights=False)
    save_file(
        {k: v.half().contiguous() for k, v in network.state_dict().items()},
        tmp_path / model.weights.file,
    )
    embedder = load_embedder("clip-vit-b-32")
    pictures = [noise(*shape) for shape in SHAPES]
    vectors = embedder.pictures(pictures)
    assert vectors.shape == (len(SHAPES), 512) and embedder.texts(["a dog"]).shape == (1, 512)
    assert np.array_equal(vectors[1:2], embedder.pictures(pictures[1:2]))
