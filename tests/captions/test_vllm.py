"""The vLLM path without vLLM: its settings, its plan, and the prefill through Ray Data's machinery.

What runs for real: Ray Data LLM's HTTP processor against a server, and its processor with a stage
in the engine's place that keeps the engine's contract (columns, ids of its own, failed rows).
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.data
from ray.data.llm import HttpRequestProcessorConfig, HttpRequestStageConfig, build_processor
from ray.llm._internal.batch.processor.base import OfflineProcessorConfig, Processor
from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF

from curation.captions.backends.vllm_ray import VllmBackend, VllmSettings
from curation.captions.ledger import Ledger
from curation.captions.request import Frame, Reply, Request
from curation.engine import ray_llm
from curation.engine.ray_llm import Prefilled, prefill, to_row
from curation.errors import ClipmillError, ConfigError
from curation.storage import Storage
from tests.captions.server import Act, Call, serve
from tests.faults.cluster import address

FEW = {"num_cpus": 0.1}
SCHEMA = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}


def settings_of(**fields: Any) -> VllmSettings:  # noqa: ANN401 - any field
    return VllmSettings.model_validate({"model": "owner/name", "revision": "abc"} | fields)


def request(name: str, num_frames: int = 2, **fields: Any) -> Request:  # noqa: ANN401
    frames = tuple(Frame(float(i), f"jpeg {name} {i}".encode()) for i in range(num_frames))
    told: dict[str, Any] = {"system": "Be brief.", "prompt": f"Describe {name}.", "max_tokens": 99}
    return Request(request_id=name, frames=frames, **(told | fields))


def rows_of(asked: list[Request]) -> list[dict[str, Any]]:
    identity = settings_of().identity()
    return [to_row(r, r.key(identity)) for r in asked]


# --- the plan


def test_config_of_the_engine() -> None:
    config = ray_llm.vllm_config(
        settings_of(
            tensor_parallel_size=2,
            max_images=8,
            batch_size=5,
            concurrency=(1, 3),
            accelerator_type="H100",
            engine_kwargs={"enable_prefix_caching": True},
            mm_processor_kwargs={"max_pixels": 1000},
            quantization="fp8",
        )
    )
    assert type(config).__name__ == "vLLMEngineProcessorConfig"
    assert config.model_source == "owner/name" and config.batch_size == 5
    assert config.concurrency == (1, 3) and config.accelerator_type == "H100"
    assert config.should_continue_on_error is True  # one bad row costs no others
    engine = config.engine_kwargs
    assert engine["trust_remote_code"] is False and engine["revision"] == "abc"
    assert engine["limit_mm_per_prompt"] == {"image": 8} and engine["quantization"] == "fp8"
    assert engine["tensor_parallel_size"] == 2 and engine["enable_prefix_caching"] is True
    stage = config.prepare_multimodal_stage
    assert stage.enabled and stage.chat_template_content_format == "openai"
    assert stage.model_config_kwargs["mm_processor_kwargs"] == {"max_pixels": 1000}
    assert config.tokenize_stage is False and config.detokenize_stage is False
    text = ray_llm.vllm_config(settings_of(), pictures=False)
    assert not text.prepare_multimodal_stage.enabled
    assert "limit_mm_per_prompt" not in text.engine_kwargs


def test_input_of_the_engine() -> None:
    (row,) = rows_of([request("one", schema=SCHEMA, attempt=2)])
    made = ray_llm.engine_input(row, settings=settings_of(seed=7), pictures=True)
    system, user = made["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    first, second, text = user["content"]
    assert text == {"type": "text", "text": "Describe one."}
    for i, part in enumerate((first, second)):
        head, _, data = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64" and base64.b64decode(data) == b"jpeg one %d" % i
    assert made["jpegs"] == []  # they travel once
    sampling = made["sampling_params"]
    assert sampling["max_tokens"] == 99 and sampling["seed"] == 8 and sampling["temperature"] == 0
    held_to = json.loads(sampling["structured_outputs"]["json"])
    assert list(held_to["properties"]) == ["b", "a"]  # the order in which they are written
    free = ray_llm.engine_input(row, settings=settings_of(structured=False), pictures=False)
    assert free["sampling_params"]["structured_outputs"] is None
    assert [m["content"] for m in free["messages"]] == ["Be brief.", "Describe one."]


def test_rows_become_replies() -> None:
    good = {
        "caption_id": "one",
        "caption_key": "k",
        "request_id": 17,  # the engine's own number
        "generated_text": "A dog.",
        "num_input_tokens": 12,
        "num_generated_tokens": 3,
        "time_taken_llm": 0.5,
    }
    reply = ray_llm.from_row(ray_llm.answered(good) | {"__inference_error__": ""})
    assert reply == Reply(
        request_id="one", text="A dog.", input_tokens=12, output_tokens=3, busy_s=0.5
    )
    for bad in (
        {"caption_id": "one", "__inference_error__": "ValueError: too long", "text": None},
        {"caption_id": "one", "text": ""},
    ):
        reply = ray_llm.from_row(bad)
        assert reply.text is None and reply.code == "caption_backend" and reply.message


def test_settings(tmp_path: Path) -> None:
    settings = settings_of()
    assert settings.model_name == "vllm:owner/name@abc" and settings.paid
    assert settings.identity() == settings_of(batch_size=1, tensor_parallel_size=4).identity()
    assert settings.identity() != settings_of(temperature=0.5).identity()
    assert "ray[llm]" in settings.problems()[0]
    assert settings_of(runtime_env={"pip": ["vllm"]}).problems() == []
    assert "no config.json" in settings_of(model=str(tmp_path), runtime_env={}).problems()[0]
    assert settings.fallbacks() == [] and settings_of(revision=None).fallbacks()
    with pytest.raises(ValueError, match="code of others is never run"):
        settings_of(engine_kwargs={"trust_remote_code": True})


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"runtime_env": {"env_vars": {"HF_TOKEN": "hf_1"}}}, "runtime_env.env_vars.HF_TOKEN"),
        (
            {"runtime_env": {"container": [{"registryPassword": "hf_1"}]}},
            "runtime_env.container.registryPassword",
        ),
        (
            {"runtime_env": {"env_vars": {"AWS_SECRET_ACCESS_KEY": "hf_1"}}},
            "runtime_env.env_vars.AWS_SECRET",
        ),
        ({"runtime_env": {"pip": ["-f https://me:hf_1@host/x"]}}, "runtime_env.pip"),
        ({"engine_kwargs": {"hf_token": "hf_1"}}, "engine_kwargs.hf_token"),
        ({"engine_kwargs": {"a": {"b": [{"apiKeys": ["hf_1"]}]}}}, "engine_kwargs.a.b.apiKeys"),
    ],
)
def test_secrets_are_refused(fields: dict[str, Any], where: str) -> None:
    """Settings are stored in the catalog and shown: a key among them would be published."""
    with pytest.raises(ConfigError, match=re.escape(where)) as caught:
        settings_of(**fields)
    assert "hf_1" not in str(caught.value) and "environment of the cluster" in str(caught.value)


def test_what_only_sounds_like_a_secret_may_stay() -> None:
    engine = {
        "max_num_batched_tokens": 8192,
        "tokenizer_mode": "auto",
        "scheduling_policy": "fcfs",
        "kv_transfer_config": {"kv_connector": "x"},
    }
    env_vars = {"TOKENIZERS_PARALLELISM": "false", "HF_HOME": "/models", "HTTP_PROXY": "http://p:1"}
    runtime_env = {"env_vars": env_vars, "pip": ["vllm", "git+ssh://git@host/x"]}
    settings = settings_of(engine_kwargs=engine, runtime_env=runtime_env)
    assert settings.engine_kwargs == engine and settings.runtime_env == runtime_env


def test_the_backend_looks_answers_up(tmp_path: Path) -> None:
    settings, ledger = settings_of(), Ledger(Storage(tmp_path))
    there, absent = request("there"), request("absent")
    ledger.put(there.key(settings.identity()), Reply(request_id="there", text="A dog."))
    backend = VllmBackend(settings, ledger)
    found, missing = backend.answer([there, absent])
    assert found.text == "A dog." and found.reused
    assert missing.code == "caption_backend" and missing.request_id == "absent"
    assert backend.wanted == [absent]


# --- the prefill, through Ray


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A session on the shared cluster of one core."""
    ours = not ray.is_initialized()
    ray.init(address=address(), log_to_driver=False, ignore_reinit_error=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    if ours:
        ray.shutdown()


def http_payload(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the body of a chat completion; the test's server reads the id from ``user``."""
    return {
        "payload": {
            "model": "m",
            "user": row["caption_id"],
            "max_tokens": int(row["max_tokens"]),
            "messages": ray_llm.messages_of(row),
        },
        "jpegs": [],
        "as_python": ray_llm.AS_PYTHON,
    }


def http_answer(row: dict[str, Any]) -> dict[str, Any]:
    """A chat completion, or an error object, as :func:`ray_llm.answered` would give it."""
    said = row["http_response"]
    told = {"caption_id": row["caption_id"], "caption_key": row["caption_key"]}
    if "error" in said:
        return told | {"text": None, "message": said["error"]["message"]}
    usage = said["usage"]
    return told | {
        "text": said["choices"][0]["message"]["content"],
        "message": "",
        "input_tokens": usage["prompt_tokens"],
        "output_tokens": usage["completion_tokens"],
        "busy_s": 0.0,
    }


def http_processor(url: str) -> Processor:
    return build_processor(
        HttpRequestProcessorConfig(
            url=url,
            batch_size=4,
            max_retries=2,
            base_retry_wait_time_in_s=0.1,
            http_request_stage=HttpRequestStageConfig(num_cpus=0.1, concurrency=1),
        ),
        preprocess=http_payload,
        postprocess=http_answer,
        preprocess_map_kwargs=FEW,
        postprocess_map_kwargs=FEW,
    )


class EngineUDF(StatefulStageUDF):
    """Answers as Ray's vLLM stage does: out of order, ids of its own, errors as rows."""

    async def udf(  # pyright: ignore[reportIncompatibleMethodOverride] - Ray's note is at fault
        self, rows: list[dict[str, Any]]
    ) -> AsyncIterator[dict[str, Any]]:
        for number, row in enumerate(reversed(rows)):
            system, user = row["messages"]
            *seen, text = user["content"]
            failed = "bad" in text["text"]
            assert system == {"role": "system", "content": "Be brief."}
            assert isinstance(user["content"], list) and text.keys() == {"type", "text"}
            assert all(part.keys() == {"type", "image_url"} for part in seen)
            limit = row["sampling_params"]["max_tokens"]
            said = f"{text['text']} {len(seen)} pictures, {limit} tokens"
            yield {
                self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
                "request_id": -1 if failed else number,
                "generated_text": "" if failed else said,
                "num_input_tokens": 0 if failed else 10,
                "num_generated_tokens": 0 if failed else 2,
                "time_taken_llm": -1.0 if failed else 0.1,
                "__inference_error__": "ValueError: the prompt is too long" if failed else "",
            }


class EngineStage(StatefulStage):
    """The stage of :class:`EngineUDF`."""

    fn: type[StatefulStageUDF] = EngineUDF

    def get_required_input_keys(self) -> dict[str, str]:
        return {"messages": "", "sampling_params": ""}


def engine_processor() -> Processor:
    """As :func:`ray_llm.vllm_processor`, with that stage for the engine and those around it."""
    return Processor(
        OfflineProcessorConfig(model_source="m", batch_size=4, should_continue_on_error=True),
        [EngineStage(map_batches_kwargs={"concurrency": 1, **FEW})],
        preprocess=functools.partial(ray_llm.engine_input, settings=settings_of(), pictures=True),
        postprocess=ray_llm.answered,
        preprocess_map_kwargs=FEW,
        postprocess_map_kwargs=FEW,
    )


@pytest.mark.slow
def test_prefill_stores_what_the_engine_answers(cluster: None, tmp_path: Path) -> None:
    asked = [
        request("bad" if i == 5 else f"r{i}", i % 3, schema=SCHEMA if i % 2 else None)
        for i in range(11)
    ]
    seen: list[Prefilled] = []
    done = prefill(rows_of(asked), engine_processor, Storage(tmp_path), beat=seen.append)
    assert (done.num_asked, done.num_stored, done.num_failed) == (11, 10, 1)
    assert dict(done.failures) == {"ValueError: the prompt is too long": 1}
    assert (done.input_tokens, done.output_tokens) == (100, 20) and seen
    replies = VllmBackend(settings_of(), Ledger(Storage(tmp_path))).answer(asked)
    for i, reply in enumerate(replies):
        if i == 5:
            assert reply.code == "caption_backend"
            continue
        assert reply.request_id == f"r{i}"
        assert reply.text == f"Describe r{i}. {i % 3} pictures, 99 tokens"


@pytest.mark.slow
def test_prefill_through_a_server(cluster: None, tmp_path: Path) -> None:
    """One request is refused, one server error is tried again, a dead server ends the pass."""
    asked = [request(f"r{i}") for i in range(9)]
    tries: Counter[str] = Counter()

    def script(call: Call) -> Act:
        name = call.body["user"]
        tries[name] += 1
        if name == "r3":
            return Act(status=400, error={"message": "too many pictures"})
        if name == "r4" and tries[name] == 1:
            return Act(status=503)
        pictures = [p for p in call.body["messages"][1]["content"] if p["type"] == "image_url"]
        return Act(text=f"{name}: {len(pictures)} pictures")

    with serve(script) as server:
        url = f"{server.url}/chat/completions"
        done = prefill(rows_of(asked), functools.partial(http_processor, url), Storage(tmp_path))
    assert (done.num_stored, done.num_failed, tries["r4"]) == (8, 1, 2)
    assert dict(done.failures) == {"too many pictures": 1}
    found = list(VllmBackend(settings_of(), Ledger(Storage(tmp_path))).answer(asked))
    assert [r.text for r in found if r.text] == [f"r{i}: 2 pictures" for i in range(9) if i != 3]
    with pytest.raises(ClipmillError, match="broke down after 0 answers"):
        prefill(rows_of(asked[:1]), functools.partial(http_processor, url), Storage(tmp_path / "b"))


def test_nothing_to_ask_starts_nothing(tmp_path: Path) -> None:
    assert prefill([], engine_processor, Storage(tmp_path)).num_asked == 0
    twice = rows_of([request("same"), request("same")])
    with pytest.raises(RuntimeError, match="same key"):
        prefill(twice, engine_processor, Storage(tmp_path))
