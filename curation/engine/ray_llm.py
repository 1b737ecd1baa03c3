"""Requests of all videos through Ray Data's LLM processor, each answer stored as it comes.

    requests ─▶ preprocess ─▶ pictures ─▶ chat template ─▶ vLLM ─▶ postprocess ─▶ ledger
              messages, limits     (Ray's stages, CPU and GPU)     text, counts

Rows stream: nothing is gathered. A request that vLLM cannot answer is a row with an error, counted
and not stored; the rest goes on. An engine that dies is started anew by Ray. A run that is killed
keeps what it had stored, since requests with a stored answer are not sent again.
"""

from __future__ import annotations

import base64
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from curation.captions.backends.vllm_ray import VllmSettings
from curation.captions.ledger import Ledger
from curation.captions.request import Reply, Request
from curation.errors import ClipmillError
from curation.storage import Storage

if TYPE_CHECKING:
    from ray.data import Dataset

Row = dict[str, Any]
ERROR = "__inference_error__"
"""Ray's column of a failed row; empty for the others."""
STORED = pa.schema(
    [
        pa.field("caption_key", pa.string()),
        pa.field("failure", pa.string()),
        pa.field("input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
    ]
)
"""What comes back to the driver: no texts, no pictures."""
STORE_CPUS = 0.25
"""Cores of a task that stores answers: it waits for files, and must not wait for a whole core."""
MAX_FAILURES = 20
"""Different failure messages that are kept."""


class AsPython:
    """A value that Arrow cannot hold, so that the row beside it travels as Python objects.

    As a column of Arrow the parts of a message would get each other's keys, null: ``image_url`` on
    a text. The chat templates of Qwen2.5-VL and others then draw a picture sign where there is
    none. Lists would arrive as arrays, which Ray's stages do not take for lists.
    """


AS_PYTHON = AsPython()


@dataclass
class Prefilled:
    """What a pass did.

    Attributes:
        num_asked: Requests sent.
        num_stored: Answers stored.
        num_failed: Requests without an answer.
        input_tokens: As the engine counted them.
        output_tokens: Likewise.
        failures: Messages and how often; the first ``MAX_FAILURES`` different ones.
    """

    num_asked: int = 0
    num_stored: int = 0
    num_failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    def note(self, row: Row) -> None:
        """Count one row of ``STORED``."""
        self.num_asked += 1
        self.input_tokens += row["input_tokens"] or 0
        self.output_tokens += row["output_tokens"] or 0
        if row["failure"] is None:
            self.num_stored += 1
            return
        self.num_failed += 1
        if row["failure"] in self.failures or len(self.failures) < MAX_FAILURES:
            self.failures[row["failure"]] += 1


def vllm_config(settings: VllmSettings, *, pictures: bool = True) -> Any:  # noqa: ANN401 - Ray's
    """The processor's configuration.

    Args:
        settings: Of the backend.
        pictures: False for questions about text alone, asked of a text model.
    """
    from ray.data.llm import (
        ChatTemplateStageConfig,
        PrepareMultimodalStageConfig,
        vLLMEngineProcessorConfig,
    )

    cores = settings.cpu_stage_num_cpus
    shown: dict[str, Any] = {}
    model: dict[str, Any] = {"dtype": settings.dtype, "trust_remote_code": False}
    if settings.revision:
        model["revision"] = settings.revision
    if pictures:
        shown["limit_mm_per_prompt"] = {"image": settings.max_images}
    if pictures and settings.mm_processor_kwargs:
        shown["mm_processor_kwargs"] = settings.mm_processor_kwargs
    optional = {"quantization": settings.quantization}
    engine = {
        **settings.engine_kwargs,
        **model,
        **shown,
        **{name: value for name, value in optional.items() if value is not None},
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": settings.tensor_parallel_size,
        "pipeline_parallel_size": settings.pipeline_parallel_size,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
    }
    return vLLMEngineProcessorConfig(
        model_source=settings.model,
        engine_kwargs=engine,
        concurrency=settings.concurrency,
        batch_size=settings.batch_size,
        max_concurrent_batches=settings.max_concurrent_batches,
        accelerator_type=settings.accelerator_type,
        runtime_env=settings.runtime_env,
        should_continue_on_error=True,
        log_engine_metrics=False,
        prepare_multimodal_stage=PrepareMultimodalStageConfig(
            enabled=pictures,
            num_cpus=cores,
            model_config_kwargs={**model, **shown, "max_model_len": settings.max_model_len},
            # The model's own template then places its picture signs; "string" leaves that to vLLM.
            chat_template_content_format="openai",
            apply_sys_msg_formatting=True,
        ),
        chat_template_stage=ChatTemplateStageConfig(enabled=True, num_cpus=cores),
        # The engine does both itself: with pictures the number of tokens is its business anyway.
        tokenize_stage=False,
        detokenize_stage=False,
    )


def vllm_processor(settings: VllmSettings, *, pictures: bool = True) -> Callable[[Any], Any]:
    """Ray's processor for a backend: takes a dataset of :func:`to_row`, gives :func:`answered`."""
    from ray.data.llm import build_processor

    cores = {"num_cpus": settings.cpu_stage_num_cpus}
    return build_processor(
        vllm_config(settings, pictures=pictures),
        preprocess=functools.partial(engine_input, settings=settings, pictures=pictures),
        postprocess=answered,
        preprocess_map_kwargs=cores,
        postprocess_map_kwargs=cores,
    )


def to_row(request: Request, key: str) -> Row:
    """A request as a row of the input dataset.

    The names are ours: Ray's engine writes a ``request_id`` of its own.
    """
    return {
        "caption_id": request.request_id,
        "caption_key": key,
        "system": request.system,
        "prompt_text": request.prompt,
        "jpegs": [f.jpeg for f in request.frames],
        "max_tokens": request.max_tokens,
        "attempt": request.attempt,
        "answer_schema": "" if request.schema is None else json.dumps(dict(request.schema)),
    }


def messages_of(row: Row, *, pictures: bool = True) -> list[Row]:
    """A row as a conversation in OpenAI's form, pictures as data URIs before the text."""
    system, text = row["system"], row["prompt_text"]
    if pictures:
        uris = [f"data:image/jpeg;base64,{base64.b64encode(j).decode()}" for j in row["jpegs"]]
        seen = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris]
        text = [*seen, {"type": "text", "text": text}]
    told = [("system", system), ("user", text)]
    return [{"role": role, "content": content} for role, content in told if content]


def engine_input(row: Row, *, settings: VllmSettings, pictures: bool) -> Row:
    """Preprocess: what the engine reads of a row; pictures go on inside of the messages alone."""
    sampling: Row = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": settings.seed + int(row["attempt"]) - 1,
        "max_tokens": int(row["max_tokens"]),
        "structured_outputs": None,
    }
    if settings.structured and row["answer_schema"]:
        sampling["structured_outputs"] = {"json": row["answer_schema"]}
    return {
        "messages": messages_of(row, pictures=pictures),
        "sampling_params": sampling,
        "jpegs": [],
        "as_python": AS_PYTHON,
    }


def answered(row: Row) -> Row:
    """Postprocess of an answered row. Failed rows pass it by and carry ``ERROR``."""
    return {
        "caption_id": row["caption_id"],
        "caption_key": row["caption_key"],
        "text": row["generated_text"],
        "input_tokens": row["num_input_tokens"],
        "output_tokens": row["num_generated_tokens"],
        "busy_s": row["time_taken_llm"],
    }


def from_row(row: Mapping[str, Any]) -> Reply:
    """A processed row as a reply; without text it has a message."""
    text = row.get("text")
    message = row.get(ERROR) or row.get("message") or ""
    if message or not text:
        return Reply(
            request_id=row["caption_id"],
            code="caption_backend",
            message=str(message or "the answer is empty")[:500],
        )
    return Reply(
        request_id=row["caption_id"],
        text=text,
        input_tokens=_whole(row.get("input_tokens")),
        output_tokens=_whole(row.get("output_tokens")),
        busy_s=float(row.get("busy_s") or 0.0),
    )


def prefill(
    rows: Iterable[Row] | Dataset,
    make_processor: Callable[[], Callable[[Any], Any]],
    storage: Storage,
    *,
    beat: Callable[[Prefilled], None] = lambda done: None,
) -> Prefilled:
    """Answer requests and store the answers; blocks until all are done.

    Args:
        rows: As :func:`to_row` gives them. An iterable is read whole; millions of requests come
            better as a dataset whose tasks load the pictures.
        make_processor: Gives what turns rows into answered rows, e.g. :func:`vllm_processor`.
        storage: The dataset root, seen from all nodes.
        beat: Called with the counts so far whenever some answers were stored.

    Raises:
        ClipmillError: The processor broke down; what was stored stays.
        RuntimeError: A request came back twice, or not at all.
    """
    import ray.data
    import ray.exceptions

    done, awaited = Prefilled(), None
    if not isinstance(rows, ray.data.Dataset):
        listed = list(rows)
        awaited = {row["caption_key"] for row in listed}
        if len(awaited) < len(listed):
            raise RuntimeError("two requests have the same key")
        if not listed:
            return done
        rows = ray.data.from_items(listed)
    answers = make_processor()(rows)
    stored = answers.map_batches(
        functools.partial(store, storage=storage),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=STORE_CPUS,
    )
    seen: set[str] = set()
    try:
        for batch in stored.iter_batches(
            batch_size=None, batch_format="pyarrow", prefetch_batches=0
        ):
            for row in cast(pa.Table, batch).to_pylist():
                if row["caption_key"] in seen:
                    raise RuntimeError(f"request {row['caption_key']} was answered twice")
                seen.add(row["caption_key"])
                done.note(row)
            beat(done)
    except (ray.exceptions.RayError, ray.exceptions.UserCodeException) as exc:
        last = str(exc).strip().splitlines()[-1][:300]
        raise ClipmillError(
            f"Ray's LLM processor broke down after {done.num_stored} answers: {last}",
            where="backend vllm",
            mend="see Ray's logs of the engine; what is stored is not asked again",
        ) from exc
    if awaited is not None and awaited != seen:
        raise RuntimeError(f"{len(awaited - seen)} requests did not come back")
    return done


def store(batch: pa.Table, *, storage: Storage) -> pa.Table:
    """A Ray task: put the answers of a block into the ledger; gives a row of ``STORED`` each."""
    ledger, told = Ledger(storage), []
    for row in batch.to_pylist():
        reply = from_row(row)
        if reply.text is not None:
            ledger.put(row["caption_key"], reply)
        told.append(
            {
                "caption_key": row["caption_key"],
                "failure": None if reply.text is not None else reply.message,
                "input_tokens": reply.input_tokens,
                "output_tokens": reply.output_tokens,
            }
        )
    return pa.Table.from_pylist(told, schema=STORED)


def _whole(value: float | None) -> int | None:
    """A count that may have become a float on its way beside nulls."""
    return None if value is None or value != value else int(value)
