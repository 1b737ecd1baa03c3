"""Models of others, by local folder or hub id: found, checked for what is read, and told apart.

    FOLDER, FOLDER#subfolder, owner/name, owner/name#subfolder

Only ``config.json`` and safetensors are ever opened, so no file of a stranger is run. What the
hub's cache holds in full is taken as it is, without asking the network: a model does not change
under a data set. ``HF_HOME`` says where that cache is.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from curation.errors import ConfigError
from curation.ids import json_digest

FINGERPRINT_HEX = 16
DTYPES = {
    **{"float32": torch.float32, "fp32": torch.float32},
    **{"bfloat16": torch.bfloat16, "bf16": torch.bfloat16},
    **{"float16": torch.float16, "fp16": torch.float16},
}
NETWORK_STEMS = ("diffusion_pytorch_model", "model")
"""File names of weights: diffusers' and transformers'."""
TOKENIZER_FILES = (
    *("tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"),
    *("spiece.model", "vocab.json", "merges.txt"),
)
HOW = "give a folder, FOLDER#subfolder, or a hub id as owner/name or owner/name#subfolder"


def model_folder(name: str) -> Path:
    """The local folder of a network: ``config.json`` and its weights in safetensors.

    Raises:
        ConfigError: There is none, it is a pipeline's with no part named, it holds no safetensors,
            or the hub does not give it.
    """
    base, part = split_name(name)
    if Path(base).is_dir():
        folder = Path(base) / part
        if not (folder / "config.json").is_file():
            raise ConfigError(
                "no model is here: config.json is missing", where=name, mend=_hint(base)
            )
    else:
        folder = _hub_network(base, part)
    if not weights_files(folder):
        raise ConfigError(
            "holds no weights in safetensors, and other files are not opened",
            where=str(folder),
            mend="save the model again with save_pretrained(folder, safe_serialization=True)",
        )
    return folder


def tokenizer_folder(name: str) -> Path:
    """The folder of a text encoder's tokenizer: its own, or ``tokenizer`` beside it.

    Diffusers' pipelines keep ``text_encoder`` and ``tokenizer``, ``text_encoder_2`` and
    ``tokenizer_2`` side by side.

    Raises:
        ConfigError: Neither holds one, or the hub does not give it.
    """
    base, part = split_name(name)
    beside = part.replace("text_encoder", "tokenizer")
    places = dict.fromkeys((part, beside))
    if Path(base).is_dir():
        found = [Path(base) / place for place in places]
        found = [p for p in found if any((p / file).is_file() for file in TOKENIZER_FILES[:2])]
    else:
        asked = [(place, cached) for cached in (True, False) for place in places]
        found = (_hub_tokenizer(base, place, cached=cached) for place, cached in asked)
    for folder in found:
        if folder is not None:
            return folder
    raise ConfigError(
        f"no tokenizer is here: {TOKENIZER_FILES[0]} is missing",
        where=name,
        mend=f"put the tokenizer's files into {beside or 'that folder'}",
    )


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a model.

    Raises:
        ConfigError: It is not a JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot be read: {exc}", where=str(path)) from exc
    if not isinstance(config, dict):
        raise ConfigError("is not a JSON object", where=str(path))
    return config


def weights_files(folder: Path) -> list[Path]:
    """The safetensors files of a network, all of its index where it has one; else none."""
    for stem in NETWORK_STEMS:
        index = folder / f"{stem}.safetensors.index.json"
        if index.is_file():
            files = [folder / file for file in _shards(index)]
        else:
            files = [folder / f"{stem}.safetensors"]
        if all(file.is_file() for file in files):
            return files
    return []


def fingerprint(config: dict[str, Any], *parts: object) -> str:
    """16 hex digits of a configuration and of what else decides the numbers that come out.

    Paths and versions of libraries stay out, so that the same model saved again, or found in
    another folder, is the same.
    """
    kept = {
        key: value
        for key, value in config.items()
        if (not key.startswith("_") or key == "_class_name")
        and key not in ("transformers_version", "torch_dtype", "dtype")
    }
    return json_digest([kept, *map(str, parts)])[:FINGERPRINT_HEX]


def files_sha256(files: list[Path]) -> list[str]:
    """Digests of files, in their order; read anew each time, since a folder may be written anew."""
    digests: list[str] = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


def as_dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    """A precision by name; None: float32.

    Raises:
        ConfigError: Another name.
    """
    if dtype is None:
        return torch.float32
    if isinstance(dtype, str) and dtype in DTYPES:
        return DTYPES[dtype]
    if dtype not in DTYPES.values():
        raise ConfigError(f"no precision {str(dtype)!r}", mend=f"one of: {', '.join(DTYPES)}")
    assert isinstance(dtype, torch.dtype)
    return dtype


def split_name(name: str) -> tuple[str, str]:
    """Folder or hub id, and the subfolder, ``""`` without one."""
    base, _, part = name.partition("#")
    return base, part.strip("/")


def _hint(base: str) -> str:
    parts = sorted(path.parent.name for path in Path(base).glob("*/config.json"))
    if not parts:
        return HOW
    return f"name the part of it: {', '.join(f'{base}#{part}' for part in parts[:6])}"


def _shards(index: Path) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as exc:
        raise ConfigError("is not an index of weights", where=str(index)) from exc


def _hub_network(repo: str, part: str) -> Path:
    """Folder in the hub's cache, filled where it is not full."""
    config = _hub_file(repo, part, "config.json", cached=True)
    if config is not None and weights_files(config.parent):
        return config.parent
    config = _hub_file(repo, part, "config.json")
    if config is None:
        raise ConfigError(
            "no model is here: config.json is missing", where=_at(repo, part), mend=HOW
        )
    for stem in NETWORK_STEMS:
        index = _hub_file(repo, part, f"{stem}.safetensors.index.json")
        for file in _shards(index) if index else [f"{stem}.safetensors"]:
            _hub_file(repo, part, file)
        if weights_files(config.parent):
            break
    return config.parent


def _hub_tokenizer(repo: str, part: str, *, cached: bool) -> Path | None:
    """Folder of a tokenizer in the hub's cache, filled unless only the cache is asked."""
    settings = _hub_file(repo, part, TOKENIZER_FILES[0], cached=cached)
    if settings is None:
        return None
    words = [_hub_file(repo, part, file, cached=cached) for file in TOKENIZER_FILES[1:]]
    return settings.parent if any(words) else None


def _hub_file(repo: str, part: str, file: str, *, cached: bool = False) -> Path | None:
    """A file of the hub; None when it has no such file, or when only the cache is asked."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(hf_hub_download(repo, file, subfolder=part or None, local_files_only=cached))
    except HFValidationError as exc:
        raise ConfigError("no such folder, and no hub id", where=repo, mend=HOW) from exc
    except LocalEntryNotFoundError as exc:
        if cached:
            return None
        raise ConfigError(
            f"{file} is neither in the hub's cache nor to be had from the hub now",
            where=_at(repo, part),
            mend=f"{HOW}; without a network, copy the folder here",
        ) from exc
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, OSError) as exc:
        # Such as: no such repository, or one whose terms have to be accepted first.
        raise ConfigError(
            f"the hub does not give it: {str(exc).strip().splitlines()[0][:200]}",
            where=_at(repo, part),
            mend=HOW,
        ) from exc


def _at(repo: str, part: str) -> str:
    return f"{repo}#{part}" if part else repo
