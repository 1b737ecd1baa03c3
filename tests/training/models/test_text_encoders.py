"""Text encoders: the real MiniLM, and T5, UMT5 and CLIP of the real classes at a tiny size."""

# ruff: noqa: ANN401 - networks of transformers have no types

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from curation.errors import ConfigError
from curation.models.registry import find_weights
from curation.models.weights import MINILM_L6, MINILM_TOKENIZER
from training.models.text_encoders import open_text_encoder

pytest.importorskip("transformers")

TEXTS = ["a dog runs", "", "a dog runs on the beach at dawn", "the beach"]
WORDS = ["<pad>", "</s>", "<s>", "<unk>", *sorted({w for t in TEXTS for w in t.split()})]
DIM = 16


def save_tokenizer(folder: Path, *, begins: bool, length: int = 24, ends: bool = True) -> None:
    """A tokenizer of words that marks the end of a text as T5's does, and the begin as CLIP's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    if ends:
        marks = [("<s>", 2), ("</s>", 1)] if begins else [("</s>", 1)]
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>" if begins else "$A </s>", special_tokens=marks
        )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        model_max_length=length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)


T5_CONFIG: dict[str, Any] = {
    **{"vocab_size": len(WORDS), "d_model": DIM, "d_kv": 8, "d_ff": 32, "num_layers": 2},
    **{"num_heads": 2, "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0},
}
CLIP_CONFIG: dict[str, Any] = {
    **{"vocab_size": len(WORDS), "hidden_size": DIM, "intermediate_size": 32},
    **{"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 12},
    **{"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
}


def tiny_t5() -> Any:
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(1)
    return T5EncoderModel(T5Config(**T5_CONFIG))


def tiny_umt5() -> Any:
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(1)
    return UMT5EncoderModel(UMT5Config(**T5_CONFIG))


def tiny_clip() -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(1)
    return CLIPTextModel(CLIPTextConfig(**CLIP_CONFIG))


MAKERS: dict[str, Callable[[], Any]] = {"t5": tiny_t5, "umt5": tiny_umt5, "clip": tiny_clip}


def save_encoder(folder: Path, kind: str) -> Path:
    MAKERS[kind]().save_pretrained(folder, safe_serialization=True)
    save_tokenizer(folder, begins=kind == "clip")
    return folder


def num_marks(kind: str) -> int:
    return 2 if kind == "clip" else 1


@pytest.fixture(params=list(MAKERS))
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """Kind and folder of a tiny encoder."""
    return request.param, save_encoder(tmp_path / "encoder", request.param)


def test_every_text_gets_its_own_tokens(saved: tuple[str, Path]) -> None:
    kind, folder = saved
    encoder = open_text_encoder(str(folder))
    states = encoder.encode(TEXTS)
    marks = num_marks(kind)
    assert [s.shape for s in states] == [(len(t.split()) + marks, DIM) for t in TEXTS]
    assert all(s.dtype == torch.float32 and not s.requires_grad for s in states)
    assert len(encoder.spec.fingerprint) == 16
    assert encoder.spec.dim == DIM
    # 24 is the tokenizer's length, 12 what CLIP's positions allow.
    assert encoder.spec.max_tokens == (12 if kind == "clip" else 24)


def test_states_equal_the_network_run_with_padding_and_mask(saved: tuple[str, Path]) -> None:
    kind, folder = saved
    ids = [[WORDS.index(w) for w in t.split()] + [1] for t in TEXTS]
    if kind == "clip":
        ids = [[2, *row] for row in ids]
    longest = max(map(len, ids))
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    given = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    network = MAKERS[kind]().eval()
    with torch.inference_mode():
        expected = network(input_ids=given, attention_mask=mask).last_hidden_state
    for row, states in enumerate(open_text_encoder(str(folder)).encode(TEXTS)):
        torch.testing.assert_close(states, expected[row, : len(ids[row])], atol=1e-5, rtol=1e-5)


def test_a_text_does_not_depend_on_its_neighbours(saved: tuple[str, Path]) -> None:
    encoder = open_text_encoder(str(saved[1]))
    together = encoder.encode(TEXTS)
    for text, states in zip(TEXTS, together, strict=True):
        assert torch.equal(encoder.encode([text])[0], states)
    assert all(map(torch.equal, reversed(together), encoder.encode(TEXTS[::-1])))


def test_long_texts_are_cut_and_keep_their_end(saved: tuple[str, Path]) -> None:
    kind, folder = saved
    encoder = open_text_encoder(str(folder), max_tokens=4)
    cut, whole = encoder.encode([TEXTS[2], " ".join(TEXTS[2].split()[: 4 - num_marks(kind)])])
    assert cut.shape == (4, DIM)
    assert torch.equal(cut, whole)


def test_clip_has_no_more_positions_than_it_has(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "clip")
    with pytest.raises(ConfigError, match="2 to 12 tokens, not 13"):
        open_text_encoder(str(folder), max_tokens=13)


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_float16_is_refused_where_it_overflows(kind: str, tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, kind)
    with pytest.raises(ConfigError, match="overflows in float16"):
        open_text_encoder(str(folder), dtype="float16")
    exact = open_text_encoder(str(folder))
    short = open_text_encoder(str(folder), dtype="bfloat16")
    assert short.spec.fingerprint != exact.spec.fingerprint
    a, b = exact.encode(TEXTS[:1])[0], short.encode(TEXTS[:1])[0]
    assert 0 < (a - b).abs().max() < 0.1


def test_the_encoder_is_taken_out_of_a_whole_model(tmp_path: Path) -> None:
    """The hub mostly holds T5 with its decoder, and CLIP with its pictures."""
    from transformers import CLIPConfig, CLIPModel, T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    t5 = T5ForConditionalGeneration(T5Config(**T5_CONFIG)).eval()
    t5.save_pretrained(tmp_path / "t5", max_shard_size="10KB")
    assert len(list((tmp_path / "t5").glob("*.safetensors"))) > 1
    save_tokenizer(tmp_path / "t5", begins=False)
    pictures = {**{"hidden_size": DIM, "intermediate_size": 32, "num_hidden_layers": 1}}
    pictures |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=CLIP_CONFIG, vision_config=pictures)).eval()
    clip.save_pretrained(tmp_path / "clip")
    save_tokenizer(tmp_path / "clip", begins=True)
    ids = torch.tensor([[WORDS.index(word) for word in TEXTS[0].split()]])
    begin, end = torch.tensor([[2]]), torch.tensor([[1]])
    with torch.inference_mode():
        by_t5 = t5.encoder(torch.cat([ids, end], 1)).last_hidden_state[0]
        by_clip = clip.text_model(torch.cat([begin, ids, end], 1)).last_hidden_state[0]
    for name, expected in (("t5", by_t5), ("clip", by_clip)):
        states = open_text_encoder(str(tmp_path / name)).encode(TEXTS[:1])[0]
        torch.testing.assert_close(states, expected)


def test_parts_of_a_pipeline_are_found(tmp_path: Path) -> None:
    MAKERS["umt5"]().save_pretrained(tmp_path / "text_encoder_2")
    save_tokenizer(tmp_path / "tokenizer_2", begins=False)
    save_encoder(tmp_path / "alone", "umt5")
    part = open_text_encoder(f"{tmp_path}#text_encoder_2")
    alone = open_text_encoder(str(tmp_path / "alone"))
    assert part.spec.fingerprint == alone.spec.fingerprint  # wherever it lies
    assert torch.equal(part.encode(TEXTS[:1])[0], alone.encode(TEXTS[:1])[0])
    with pytest.raises(ConfigError, match=f"{tmp_path}#text_encoder_2"):
        open_text_encoder(str(tmp_path))


def test_fingerprint_tells_weights_words_and_lengths_apart(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "a", "t5")
    seen = {open_text_encoder(str(folder)).spec.fingerprint}
    seen.add(open_text_encoder(str(folder), max_tokens=8).spec.fingerprint)
    other = tmp_path / "b"
    shutil.copytree(folder, other)
    state = load_file(other / "model.safetensors")
    state["encoder.final_layer_norm.weight"][0] += 1e-3
    save_file(state, other / "model.safetensors", {"format": "pt"})
    seen.add(open_text_encoder(str(other)).spec.fingerprint)
    third = tmp_path / "c"
    shutil.copytree(folder, third)
    save_tokenizer(third, begins=True)
    seen.add(open_text_encoder(str(third)).spec.fingerprint)
    assert len(seen) == 4


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "t5", "t5")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(ConfigError, match="'gpt2' is no text encoder"):
        open_text_encoder(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="no precision 'int8'"):
        open_text_encoder(str(folder), dtype="int8")
    with pytest.raises(ConfigError, match="no hub id"):
        open_text_encoder(str(tmp_path / "nowhere" / "at" / "all"))

    state = load_file(folder / "model.safetensors")
    lacking = {k: v for k, v in state.items() if "final_layer_norm" not in k}
    save_file(lacking, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 of the weights.*final_layer_norm"):
        open_text_encoder(str(folder))

    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="no weights in safetensors"):
        open_text_encoder(str(folder))


def test_a_tokenizer_is_needed_and_has_to_mark_the_end(tmp_path: Path) -> None:
    MAKERS["t5"]().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer is here"):
        open_text_encoder(str(tmp_path))
    save_tokenizer(tmp_path, begins=False, ends=False)
    with pytest.raises(ConfigError, match="marks no end"):
        open_text_encoder(str(tmp_path))


def test_the_hubs_cache_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "hub" / "models--some--pipeline"
    MAKERS["t5"]().save_pretrained(repo / "snapshots" / commit / "text_encoder")
    save_tokenizer(repo / "snapshots" / commit / "tokenizer", begins=False)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    encoder = open_text_encoder("some/pipeline#text_encoder")
    assert encoder.encode([""])[0].shape == (1, DIM)
    with pytest.raises(ConfigError, match=r"some/other: config.json is neither in the hub's cache"):
        open_text_encoder("some/other")


def test_minilm_gives_its_token_states() -> None:
    if not (find_weights(MINILM_L6) and find_weights(MINILM_TOKENIZER)):
        pytest.skip("the weights of all-MiniLM-L6-v2 are not here")
    from curation.models.minilm import MiniLM

    encoder = open_text_encoder()
    texts = ["a dog runs on the beach", "", "one two three " * 200]
    states = encoder.encode(texts)
    assert encoder.spec.dim == 384
    assert [len(s) for s in states] == [8, 2, 256]  # words and the marks of both ends
    assert all(torch.equal(encoder.encode([t])[0], s) for t, s in zip(texts, states, strict=True))

    # The sentence's vector, which the curation stores, is their mean at length 1.
    mean = torch.nn.functional.normalize(states[0].mean(0), dim=0).numpy()
    np.testing.assert_allclose(mean, MiniLM().embed(texts[:1])[0], atol=1e-6)

    short = open_text_encoder(max_tokens=6)
    assert [len(s) for s in short.encode(texts)] == [6, 2, 6]
    assert short.spec.fingerprint != encoder.spec.fingerprint
    with pytest.raises(ConfigError, match="2 to 256 tokens, not 300"):
        open_text_encoder(max_tokens=300)
