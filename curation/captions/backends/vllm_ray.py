"""Captions by vLLM, on GPUs, in batches across all videos: settings, and the look-up afterwards.

vLLM does not run inside the per-video stage: a batch of one video's clips would leave a GPU idle.
Before the stage runs, the pending requests of all videos go through Ray Data's LLM processor
(``curation/engine/ray_llm.py``), which stores every answer in the ledger. The stage finds them
there. What it does not find (a second try, the joining of windows) it notes in ``wanted`` for
another pass; a request that no pass answered is a reply with the code ``caption_backend``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.captions.backends.settings import BackendSettings
from curation.captions.backends.transformers_vlm import local_checksums, local_folder
from curation.captions.ledger import Ledger
from curation.captions.request import Backend, Reply, Request
from curation.errors import ConfigError, ErrorCode
from curation.redact import secret_in

OURS = frozenset(
    {
        "model",
        "task_type",
        "trust_remote_code",
        "revision",
        "max_model_len",
        "dtype",
        "quantization",
    }
    | {"tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization", "runner"}
    | {"limit_mm_per_prompt", "mm_processor_kwargs", "tokenizer", "hf_overrides", "load_format"}
)
"""Arguments of the engine that have a field of their own, or that must not be set."""


class VllmSettings(BackendSettings):
    """Settings of the backend ``vllm``.

    A pinned ``revision`` reaches the engine; Ray's chat-template stage reads the template of the
    newest one. Where they differ, give a local folder that all nodes see.
    """

    operational: ClassVar[frozenset[str]] = BackendSettings.operational | {
        *("concurrency", "batch_size", "max_concurrent_batches", "accelerator_type"),
        *("tensor_parallel_size", "pipeline_parallel_size", "gpu_memory_utilization"),
        *("runtime_env", "cpu_stage_num_cpus"),
    }
    paid: ClassVar[bool] = True

    kind: Literal["vllm"] = "vllm"  # pyright: ignore[reportIncompatibleVariableOverride]
    model: str = Field(description="owner/name on the hub, or a folder that all nodes see")
    revision: str | None = Field(None, description="commit on the hub; a branch may move")
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = Field(None, description="as vLLM names it: fp8, awq, gptq, ...")
    max_model_len: int = Field(16384, ge=256, description="most tokens of question and answer")
    max_images: int = Field(32, ge=1, description="most frames of one request")
    mm_processor_kwargs: dict[str, Any] = Field(
        {}, description="for the model's image processor, e.g. {max_pixels: 200704}"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0: the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 0
    structured: bool = Field(True, description="enforce the answer's JSON schema")
    engine_kwargs: dict[str, Any] = Field({}, description="further arguments of vLLM's engine")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share one copy's layers")
    pipeline_parallel_size: int = Field(1, ge=1, description="GPUs that take turns at its layers")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    concurrency: int | tuple[int, int] = Field(
        1, description="copies of the model, or least and most"
    )
    batch_size: int = Field(32, ge=1, description="requests per batch; stored when it is done")
    max_concurrent_batches: int = Field(8, ge=1, description="batches in one engine at a time")
    accelerator_type: str | None = Field(None, description="as Ray names it: H100, A100, L4, ...")
    cpu_stage_num_cpus: float = Field(0.5, gt=0, description="cores of a worker beside the engine")
    runtime_env: dict[str, Any] | None = Field(
        None, description="Ray's runtime environment that has vLLM, if this machine has none"
    )

    @field_validator("runtime_env", "engine_kwargs", "mm_processor_kwargs")
    @classmethod
    def _no_secrets(
        cls, value: dict[str, Any] | None, info: ValidationInfo
    ) -> dict[str, Any] | None:
        """Settings are kept in the catalog and shown on the report's page."""
        if (where := secret_in(value)) is not None:
            # Not a ValueError: pydantic would show the value.
            raise ConfigError(
                "is a password, a token or a key by its name, or a URL with one in it",
                where=f"backend vllm: {info.field_name}.{where}".rstrip("."),
                mend="settings are stored with the dataset; set it in the environment of the"
                " cluster's machines, and leave it out here",
            )
        return value

    @model_validator(mode="after")
    def _no_double_settings(self) -> VllmSettings:
        if twice := sorted(OURS & self.engine_kwargs.keys()):
            raise ValueError(
                f"engine_kwargs: {', '.join(twice)} is not set there: use the field of that name,"
                " if there is one (code of others is never run)"
            )
        return self

    @property
    def model_name(self) -> str:
        """``vllm:owner/name@revision``; of a folder its last part."""
        folder = local_folder(self.model)
        at = f"@{self.revision}" if self.revision and folder is None else ""
        return f"vllm:{self.model if folder is None else folder.name}{at}"

    def identity(self) -> dict[str, Any]:
        """The fields, and of a local model its files, not its place."""
        told = super().identity()
        if (folder := local_folder(self.model)) is not None:
            told |= {"model": folder.name, "files": dict(self.checksums())}
        return told

    def checksums(self) -> Mapping[str, str]:
        """sha256 of a local model's files."""
        folder = local_folder(self.model)
        return {} if folder is None or not folder.is_dir() else local_checksums(folder)

    def problems(self) -> list[str]:
        """Packages and files that are missing."""
        found = []
        if self.runtime_env is None and importlib.util.find_spec("vllm") is None:
            found.append(
                "backend vllm: the package vllm is not installed; pip install 'ray[llm]' on"
                " machines with a GPU, or name an environment that has it in runtime_env"
            )
        folder = local_folder(self.model)
        if folder is not None and not (folder / "config.json").is_file():
            found.append(f"{self.model}: is no folder of a model; it holds no config.json")
        return found

    def fallbacks(self) -> list[str]:
        """A model that may change."""
        if local_folder(self.model) is None and self.revision is None:
            return [
                f"captions: {self.model} has no `revision`; should its owner change it, later"
                " clips are captioned by another model"
            ]
        return []

    def make(self) -> Backend:
        """The look-up; the stage reads the ledger itself, so what comes here is not there."""
        return VllmBackend(self)


class VllmBackend(Backend):
    """Looks answers up that the engine's pass has stored.

    Args:
        settings: Whose answers.
        ledger: Where they are; None: whoever asks has looked already.
    """

    def __init__(self, settings: VllmSettings, ledger: Ledger | None = None) -> None:
        self._identity = settings.identity()
        self._ledger = ledger
        self.wanted: list[Request] = []
        """Requests without an answer so far, for another pass."""

    def identity(self) -> Mapping[str, Any]:
        """See the settings."""
        return self._identity

    def answer(
        self, requests: Sequence[Request], beat: Callable[[], None] = lambda: None
    ) -> Iterator[Reply]:
        """See :meth:`Backend.answer`."""
        for request in requests:
            beat()
            stored = self._ledger.get(request.key(self._identity)) if self._ledger else None
            if stored is not None:
                yield stored
                continue
            self.wanted.append(request)
            yield Reply(
                request_id=request.request_id,
                code=ErrorCode.CAPTION_BACKEND,
                message="vLLM's pass has stored no answer to this request; see its failures",
            )
