"""SigLIP: the same as transformers gives for the same file; texts of 64 tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from curation.errors import ConfigError
from curation.models import embedders_siglip
from curation.models.embedders import MODELS, load_embedder
from curation.models.embedders_siglip import PAD_ID, SIGLIP_TOKENIZER, TEXT_TOKENS, text_ids
from curation.models.embedders_torch import prepare

KEY = "siglip-so400m"


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SiglipModel:
    """One layer per tower with random weights; its file in a models folder."""
    small = {"intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 16}
    monkeypatch.setattr(embedders_siglip, "TOWER", {**embedders_siglip.TOWER, **small})
    monkeypatch.setenv("CLIPMILL_MODELS", str(tmp_path))
    torch.manual_seed(0)
    model = SiglipModel(embedders_siglip.siglip_config(384)).eval()
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / MODELS[KEY].weights.file)
    return model


def tokenizer() -> Tokenizer:
    words = [("<unk>", 0.0), ("</s>", 0.0), ("▁a", -1.0), ("▁dog", -2.0), ("▁two", -2.0)]
    made = Tokenizer(models.Unigram(words, unk_id=0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore[reportAttributeAccessIssue]
    return made


def noise(height_px: int, width_px: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)


def test_pictures_are_made_ready_as_transformers_does() -> None:
    size = {"height": 384, "width": 384}
    published = SiglipImageProcessorPil(
        size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=3
    )
    for shape in ((288, 512), (512, 288), (100, 173)):
        theirs = published(images=noise(*shape), return_tensors="np")["pixel_values"][0]
        np.testing.assert_allclose(prepare(noise(*shape), MODELS[KEY]), theirs, atol=1e-6)


def test_both_towers_give_what_transformers_gives(network: SiglipModel, tmp_path: Path) -> None:
    embedder = load_embedder(KEY)
    with pytest.raises(ConfigError, match="SigLIP's tokenizer"):
        embedder.texts(["a dog"])
    tokenizer().save(str(tmp_path / SIGLIP_TOKENIZER.file))
    picture = noise(288, 512)
    with torch.inference_mode():
        both = network(
            pixel_values=torch.from_numpy(prepare(picture, MODELS[KEY])[None]),
            input_ids=torch.tensor([text_ids(tokenizer(), "A dog!")]),
        )
    np.testing.assert_allclose(embedder.pictures([picture]), both.image_embeds, atol=1e-5)
    np.testing.assert_allclose(embedder.texts(["a dog"]), both.text_embeds, atol=1e-5)
    assert embedder.dim == 1152


def test_a_text_becomes_exactly_64_tokens() -> None:
    made = tokenizer()
    short = text_ids(made, "Two  dogs, a DOG.")
    assert len(short) == TEXT_TOKENS and short[-1] == PAD_ID
    assert text_ids(made, "a dog") == text_ids(made, " A, dog! ")
    assert text_ids(made, "a dog")[:3] == [2, 3, 1]
    assert len(text_ids(made, "a dog " * 100)) == TEXT_TOKENS
    assert text_ids(made, "a dog " * 100)[-1] == PAD_ID
    assert text_ids(made, "") == [PAD_ID] * TEXT_TOKENS
