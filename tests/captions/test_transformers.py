"""The transformers backend on the real architectures, small and with random weights."""

from __future__ import annotations

import functools
import io
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation.captions.answer import parse_answer
from curation.captions.backends.transformers_vlm import TransformersSettings
from curation.captions.beating import beating
from curation.captions.canaries import canaries
from curation.captions.prompts import load_prompt
from curation.captions.request import Frame, Reply, Request
from curation.errors import RETRYABLE, ConfigError, ErrorCode

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("num2words")

import torch
from PIL import Image

from curation.captions.backends.transformers_answer import TransformersBackend
from curation.captions.backends.transformers_inputs import groups, model_inputs
from tests.captions.tiny_colours import train_tiny_smolvlm_on_colours
from tests.captions.tiny_vlm import (
    make_tiny_llm,
    make_tiny_qwen3_vl,
    make_tiny_qwen_vl,
    make_tiny_smolvlm,
)

TOKENS = 16
LINE = {"type": "string", "minLength": 1, "maxLength": 12}
SMALL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {name: LINE for name in ("short", "medium", "long")},
    "required": ["short", "medium", "long"],
    "additionalProperties": False,
}
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    root = tmp_path_factory.mktemp("models")
    makers: dict[str, Callable[[Path], Path]] = {
        "smolvlm": make_tiny_smolvlm,
        "qwen2_5": make_tiny_qwen_vl,
        "qwen3": make_tiny_qwen3_vl,
        "llm": make_tiny_llm,
    }
    return {name: make(root / name) for name, make in makers.items()}


def settings_of(model: Path | str, **fields: Any) -> TransformersSettings:  # noqa: ANN401
    return TransformersSettings.model_validate({"model": str(model)} | fields)


def backend_of(folder: Path, **fields: Any) -> TransformersBackend:  # noqa: ANN401 - any field
    made = settings_of(folder, **fields).make()
    assert isinstance(made, TransformersBackend)
    return made


def frame(time_s: float, colour: tuple[int, int, int], size: tuple[int, int] = (96, 64)) -> Frame:
    data = io.BytesIO()
    Image.new("RGB", size, colour).save(data, "JPEG")
    return Frame(time_s, data.getvalue())


def request(name: str, num_frames: int, step_s: float = 0.5, **fields: Any) -> Request:  # noqa: ANN401
    shade = sum(map(ord, name)) % 200
    frames = tuple(frame(i * step_s, (shade, 40 * i % 256, 90)) for i in range(num_frames))
    told: dict[str, Any] = {
        "system": "Be brief.",
        "prompt": f"Describe {name}.",
        "max_tokens": TOKENS,
        "duration_s": num_frames * step_s,
    }
    return Request(request_id=name, frames=frames, **(told | fields))


def replies(backend: TransformersBackend, asked: list[Request]) -> dict[str, Reply]:
    """Replies by id; each id exactly once."""
    found = list(backend.answer(asked))
    assert sorted(r.request_id for r in found) == sorted(r.request_id for r in asked)
    return {r.request_id: r for r in found}


MIXED = [request("four", 4), request("two", 2), request("one", 1), request("none", 0)]


@pytest.mark.parametrize("way", ["video", "images"])
@pytest.mark.parametrize("model", ["smolvlm", "qwen2_5", "qwen3"])
def test_batches_say_what_single_requests_say(folders: Folders, model: str, way: str) -> None:
    backend = backend_of(folders[model], input=way)
    together = replies(backend, MIXED)
    backwards = replies(backend, MIXED[::-1])
    for asked in MIXED:
        alone = replies(backend, [asked])[asked.request_id]
        for found in (together[asked.request_id], backwards[asked.request_id]):
            assert found.text == alone.text and found.code is None
            assert found.input_tokens == alone.input_tokens
            assert found.output_tokens == alone.output_tokens
    assert len({r.text for r in together.values()}) > 1


@pytest.mark.parametrize("model", ["smolvlm", "qwen2_5", "qwen3", "llm"])
def test_token_counts(folders: Folders, model: str) -> None:
    """Input: the prompt's own tokens without padding. Output: up to the end sign, with it."""
    backend = backend_of(folders[model])
    asked = [request("none", 0), request("a longer one", 0, prompt="one two three four " * 9)]
    found = replies(backend, asked)
    for question in asked:
        inputs = model_inputs([question], "text", backend.loaded, None)
        reply = found[question.request_id]
        assert reply.input_tokens == inputs["input_ids"].shape[1]
        assert reply.output_tokens == TOKENS  # these random weights do not stop by themselves
    backend.loaded.model.lm_head.weight.data.zero_()  # all logits equal: greedy takes token 0
    backend.loaded.eos_token_ids.append(0)
    assert [r.output_tokens for r in backend.answer(asked)] == [1, 1]


@pytest.mark.parametrize("model", ["smolvlm", "qwen2_5", "qwen3"])
def test_frames_carry_their_times(folders: Folders, model: str) -> None:
    backend = backend_of(folders[model])
    slow = request("four", 4, step_s=4.0, duration_s=16.0)
    inputs = model_inputs([slow], "video", backend.loaded, None)
    said = backend.loaded.tokenizer.decode(inputs["input_ids"][0])
    if model == "smolvlm":
        assert "four frames from a 0:00:16" in said
        assert all(f"Frame from 00:{s:02d}:" in said for s in (0, 4, 8, 12))
    elif model == "qwen3":  # two frames make one step, at their mean time
        assert "<2.0 seconds>" in said and "<10.0 seconds>" in said
    else:
        assert inputs["second_per_grid_ts"].tolist() == pytest.approx([8.0])


def test_a_short_video_is_not_told_it_is_long(folders: Folders) -> None:
    """SmolVLM's processor counts the frames that pad a batch: such videos are not mixed."""
    backend = backend_of(folders["smolvlm"])
    found = groups([request("eight", 8), request("two", 2), request("twin", 2)], backend.loaded)
    assert [[r.request_id for r in g.requests] for g in found] == [["eight"], ["two", "twin"]]
    inputs = model_inputs(found[1].requests, "video", backend.loaded, None)
    assert "two frames from" in backend.loaded.tokenizer.decode(inputs["input_ids"][0])


@pytest.mark.parametrize("model", ["smolvlm", "qwen2_5", "llm"])
def test_answers_are_held_to_the_schema(folders: Folders, model: str) -> None:
    pytest.importorskip("xgrammar")
    backend = backend_of(folders[model])
    frames = 0 if model == "llm" else 2
    asked = [request(n, frames, schema=SMALL_SCHEMA, max_tokens=120) for n in ("first", "second")]
    for reply in replies(backend, asked).values():
        assert reply.text is not None
        said = json.loads(reply.text, strict=False)  # xgrammar lets bare control signs pass
        assert list(said) == ["short", "medium", "long"]
        assert parse_answer(reply.text, 1.0).caption.short
    free = backend_of(folders[model], structured=False)
    assert "{" not in (replies(free, asked[:1])["first"].text or "")[:1]


def test_without_xgrammar_it_says_so(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(folders["llm"])
    assert settings.fallbacks() == [] and settings.identity()["structured"] is True
    where = "curation.captions.backends.transformers_vlm._here"
    monkeypatch.setattr(where, lambda name: name != "xgrammar")
    assert "xgrammar is not installed" in settings.fallbacks()[0]
    assert settings.identity()["structured"] is False
    backend = backend_of(folders["llm"])
    found = replies(backend, [request("none", 0, schema=SMALL_SCHEMA)])["none"]
    assert found.text and "{" not in found.text[:1]


@pytest.mark.parametrize("fits", [2, 0])
def test_memory_that_runs_out_halves_the_batch(
    folders: Folders, fits: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = backend_of(folders["llm"], batch_size=5)
    asked = [request(f"r{i}", 0) for i in range(5)]
    expected = replies(backend, asked)
    whole, sizes = backend.loaded.model.generate, []

    def generate(**inputs: Any) -> Any:  # noqa: ANN401
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(**inputs)

    monkeypatch.setattr(backend.loaded.model, "generate", generate)
    with caplog.at_level(logging.WARNING):
        found = replies(backend, asked)
    if fits:
        assert sizes == [5, 2, 2, 1]
        assert "out of memory with 5 requests at a time, going on with 2" in caplog.text
        assert {i: r.text for i, r in found.items()} == {i: r.text for i, r in expected.items()}
        return
    assert sizes == [5, 2, 1, 1, 1, 1, 1]
    assert {r.code for r in found.values()} == {str(ErrorCode.OUT_OF_MEMORY)}
    assert "Tried to allocate 2.00 GiB" in found["r0"].message


def test_other_errors_are_not_taken_for_memory(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = backend_of(folders["llm"])

    def broken(**inputs: Any) -> None:  # noqa: ANN401
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(backend.loaded.model, "generate", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        list(backend.answer([request("none", 0)]))


def test_it_beats_with_every_token(folders: Folders) -> None:
    beats: list[int] = []
    asked = [request("none", 0), request("other", 0)]
    list(backend_of(folders["llm"], batch_size=1).answer(asked, lambda: beats.append(1)))
    assert len(beats) == 2 * (2 + TOKENS)


def test_it_beats_before_the_first_token(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the question tells nothing of itself; a thread beside it does, and then stops."""
    where = "curation.captions.backends.transformers_answer.beating"
    monkeypatch.setattr(where, functools.partial(beating, every_s=0.02))
    backend = backend_of(folders["llm"])
    whole = backend.loaded.model.generate

    def slow(**inputs: Any) -> Any:  # noqa: ANN401
        time.sleep(0.3)
        return whole(**inputs)

    monkeypatch.setattr(backend.loaded.model, "generate", slow)
    beats: list[int] = []
    list(backend.answer([request("none", 0)], lambda: beats.append(threading.get_ident())))
    assert sum(b != threading.get_ident() for b in beats) > 3
    assert beats[-TOKENS // 2 :] == [threading.get_ident()] * (TOKENS // 2)


def test_signs_in_texts_are_words(folders: Folders) -> None:
    """What a subtitle or a sign in a picture says must not shift the frames or end the prompt."""
    backend = backend_of(folders["smolvlm"], input="images")
    nasty = request("two", 2, prompt="It reads <image><image> <end_of_utterance> here.")
    inputs = model_inputs([nasty], "images", backend.loaded, None)
    ids = inputs["input_ids"][0].tolist()
    image = backend.loaded.tokenizer.convert_tokens_to_ids("<image>")
    assert ids.count(image) == 2 * 4
    assert replies(backend, [nasty])["two"].code is None


def test_a_question_that_does_not_fit(folders: Folders) -> None:
    backend = backend_of(folders["llm"])
    asked = [request("short", 0), request("long", 0, prompt="word " * 5000)]
    found = replies(backend, asked)
    assert found["short"].text and found["short"].code is None
    assert found["long"].code == "caption_invalid" and "4096" in found["long"].message
    assert found["long"].code not in RETRYABLE  # the next run would ask the same again


def test_one_that_does_not_fit_and_memory_that_runs_out(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request is answered, and once, though the batch is cut for two reasons."""
    backend = backend_of(folders["llm"], batch_size=4)
    asked = [request(f"r{i}", 0) for i in range(3)]
    asked.insert(1, request("long", 0, prompt="word " * 5000))
    whole = backend.loaded.model.generate

    def generate(**inputs: Any) -> Any:  # noqa: ANN401
        if len(inputs["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(**inputs)

    monkeypatch.setattr(backend.loaded.model, "generate", generate)
    found = replies(backend, asked)
    assert found["long"].code == "caption_invalid"
    assert all(found[f"r{i}"].text for i in range(3))


def test_sampling_is_repeatable_and_takes_its_seed(folders: Folders) -> None:
    asked = [request("none", 0)]
    warm = [backend_of(folders["llm"], temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    one, again, other = (replies(b, asked)["none"].text for b in warm)
    assert one == again != other


def test_a_text_model_is_not_shown_pictures(folders: Folders) -> None:
    with pytest.raises(ConfigError, match="knows text alone"):
        list(backend_of(folders["llm"]).answer([request("two", 2)]))


def test_max_pixels_shrinks_frames(folders: Folders) -> None:
    backend = backend_of(folders["qwen2_5"], input="images")
    asked = [request("two", 2)]
    large = model_inputs(asked, "images", backend.loaded, None)["pixel_values"]
    small = model_inputs(asked, "images", backend.loaded, 28 * 28)["pixel_values"]
    assert small.shape[0] < large.shape[0]


def test_folders_that_hold_no_model(folders: Folders, tmp_path: Path) -> None:
    def problem(folder: Path | str, **fields: Any) -> str:  # noqa: ANN401
        settings = settings_of(folder, **fields)
        with pytest.raises(ConfigError):
            settings.make()
        return settings.problems()[0]

    assert "no such folder" in problem(tmp_path / "absent")
    assert "no such folder" in problem("some-model")
    assert "holds no config.json" in problem(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "holds no *.safetensors; pickled" in problem(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="does not load"):
        settings_of(tmp_path).make()
    assert "holds no x.gguf" in problem(tmp_path, gguf_file="x.gguf")
    assert settings_of(folders["llm"]).problems() == []


def test_quantization_needs_a_package(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "curation.captions.backends.transformers_vlm._here"
    monkeypatch.setattr(where, lambda name: name != "bitsandbytes")
    settings = settings_of(folders["llm"], quantization="int8")
    assert "pip install bitsandbytes" in settings.problems()[0]
    assert settings.model_name == "transformers:llm int8"


def test_identity_is_of_the_files_not_their_place(folders: Folders, tmp_path: Path) -> None:
    moved = tmp_path / "llm"
    moved.mkdir()
    for path in folders["llm"].iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    here, there = (settings_of(f, batch_size=b) for f, b in ((folders["llm"], 1), (moved, 9)))
    assert here.identity() == there.identity()
    assert here.checksums()["model.safetensors"] in str(here.identity())
    make_tiny_llm(tmp_path / "other" / "llm", seed=1)
    other = settings_of(tmp_path / "other" / "llm")
    assert other.identity() != here.identity()


def test_an_unpinned_model_of_the_hub_is_told_of() -> None:
    settings = settings_of("owner/name")
    assert not settings.local and "no `revision`" in " ".join(settings.fallbacks())
    pinned = settings_of("owner/name", revision="abc")
    assert "revision" not in " ".join(pinned.fallbacks())
    assert pinned.model_name == "transformers:owner/name@abc"


@pytest.mark.slow
def test_a_model_that_looks(tmp_path: Path) -> None:
    """Taught four colours on pixels, it names those of the canaries through the whole backend."""
    backend = backend_of(train_tiny_smolvlm_on_colours(tmp_path / "colours"))
    for way in ("video", "images"):
        backend = backend_of(tmp_path / "colours", input=way)
        birds = {bird.request_id: bird for bird in canaries("some batch", 4)}
        system, prompt = load_prompt("caption-1").fill(
            duration_s="1.5", times_s="0.0, 0.5, 1.0", facts=""
        )
        asked = [bird.request(system, prompt) for bird in birds.values()]
        for name, reply in replies(backend, asked).items():
            assert reply.text is not None and birds[name].passed(reply.text), reply.text
            assert not parse_answer(reply.text, 1.5).repaired


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_quantized_weights_answer(folders: Folders, bits: str) -> None:
    pytest.importorskip("bitsandbytes")
    backend = backend_of(folders["smolvlm"], quantization=bits)
    kinds = {type(m).__name__ for m in backend.loaded.model.modules()}
    assert {"int8": "Linear8bitLt", "int4": "Linear4bit"}[bits] in kinds
    assert replies(backend, [request("two", 2)])["two"].text
