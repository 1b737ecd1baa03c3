"""Captions by a model that runs in this process, with Hugging Face transformers.

Any image-text-to-text architecture that transformers knows (Qwen2.5-VL, Qwen3-VL, SmolVLM2,
LLaVA-OneVision, ...), from the hub or a local folder, safetensors alone and no code of others; for
questions without pictures any causal language model. Cost: seconds a clip for 2B parameters on a
GPU, minutes on a CPU core. On a GPU at scale the backend ``vllm`` is several times faster.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from curation.captions.backends.settings import BackendSettings
from curation.captions.request import Backend
from curation.models.registry import file_sha256

INSTALL = "pip install 'clipmill[vlm]'"


class TransformersSettings(BackendSettings):
    """Settings of the backend ``transformers``."""

    operational: ClassVar[frozenset[str]] = BackendSettings.operational | {"batch_size", "device"}

    kind: Literal["transformers"] = "transformers"  # pyright: ignore[reportIncompatibleVariableOverride]
    model: str = Field(description="owner/name on the hub, or a local folder")
    revision: str | None = Field(None, description="commit on the hub; a branch may move")
    gguf_file: str | None = Field(None, description="GGUF file of a text model, in its folder")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="auto: the checkpoint's own on a GPU, fp32 on a CPU"
    )
    quantization: Literal["int8", "int4"] | None = Field(
        None, description="of the weights, by bitsandbytes"
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(8, ge=1, description="requests at a time; halved when memory runs out")
    input: Literal["auto", "video", "images"] = Field(
        "auto", description="frames as one video with their times, or as pictures"
    )
    max_pixels: int | None = Field(
        None, ge=28 * 28, description="pixels of a frame, before the processor's own limits"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="0: the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 0
    structured: bool = Field(True, description="enforce the answer's JSON schema with xgrammar")

    @property
    def local(self) -> bool:
        """The model is a folder of this machine, not a name on the hub."""
        return local_folder(self.model) is not None

    @property
    def folder(self) -> Path:
        """The local folder."""
        return Path(self.model).expanduser()

    @property
    def model_name(self) -> str:
        """``transformers:owner/name@revision``; of a folder its last part."""
        name = self.folder.name if self.local else self.model
        at = f"@{self.revision}" if self.revision and not self.local else ""
        bits = f" {self.quantization}" if self.quantization else ""
        return f"transformers:{name}{at}{bits}"

    def identity(self) -> dict[str, Any]:
        """The fields, whether JSON is enforced here, and of a local model its files, not its place.

        Where xgrammar is missing the answers are others, so that is part of it.
        """
        told = super().identity() | {"structured": self.structured and grammar_here()}
        if self.local:
            told |= {"model": self.folder.name, "files": dict(self.checksums())}
        return told

    def problems(self) -> list[str]:
        """Packages and files that are missing."""
        found = [
            f"backend transformers: the package {name} is not installed; {INSTALL}"
            for name in ("torch", "transformers")
            if not _here(name)
        ]
        if self.quantization and not _here("bitsandbytes"):
            found.append(
                f"quantization {self.quantization} needs bitsandbytes; pip install bitsandbytes"
            )
        if self.gguf_file and not _here("gguf"):
            found.append(f"gguf_file needs the package gguf; {INSTALL}")
        if self.local and (lack := self._lack()):
            found.append(lack)
        return found

    def fallbacks(self) -> list[str]:
        """JSON that is not enforced, a model that may change."""
        found = []
        if self.structured and not grammar_here():
            found.append(
                "captions: xgrammar is not installed, answers are asked for as JSON but not held"
                f" to it ({INSTALL})"
            )
        if not self.local and self.revision is None:
            found.append(
                f"captions: {self.model} has no `revision`; should its owner change it, later"
                " clips are captioned by another model"
            )
        return found

    def checksums(self) -> Mapping[str, str]:
        """sha256 of a local model's weights and of what turns text and pictures into its input."""
        if not self.local or self._lack():
            return {}
        if self.gguf_file:
            return {self.gguf_file: file_sha256(self.folder / self.gguf_file)}
        return local_checksums(self.folder)

    def make(self) -> Backend:
        """The model, loaded.

        Raises:
            ConfigError: It cannot be loaded, or cannot do what is asked; the message has the mend.
        """
        from curation.captions.backends.transformers_answer import TransformersBackend
        from curation.captions.backends.transformers_load import load

        return TransformersBackend(self, load(self))

    def _lack(self) -> str | None:
        """Why the local folder is no model, with the mend."""
        if not self.folder.is_dir():
            return f"{self.model}: no such folder; give a local folder or owner/name of the hub"
        if self.gguf_file:
            inside = (self.folder / self.gguf_file).is_file()
            return None if inside else f"{self.model}: holds no {self.gguf_file}"
        if not (self.folder / "config.json").is_file():
            return f"{self.model}: holds no config.json; give the folder of a whole model"
        if not any(self.folder.glob("*.safetensors")):
            return (
                f"{self.model}: holds no *.safetensors; pickled weights are not loaded, convert"
                " them with save_pretrained"
            )
        return None


def local_folder(model: str) -> Path | None:
    """The folder that a model's name means; None: it is a name on the hub."""
    path = Path(model).expanduser()
    is_path = path.exists() or model.startswith(("/", ".", "~")) or model.count("/") != 1
    return path if is_path else None


def local_checksums(folder: Path) -> dict[str, str]:
    """sha256 of each file of a model's folder that decides its answers, by name."""
    kinds = ("*.safetensors", "*.json", "*.jinja")
    files = sorted(p for kind in kinds for p in folder.glob(kind) if p.is_file())
    return {p.name: file_sha256(p) for p in files}


def grammar_here() -> bool:
    """True when xgrammar is installed."""
    return _here("xgrammar")


def _here(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
