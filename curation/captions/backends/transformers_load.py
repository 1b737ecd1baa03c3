"""Loading a model of transformers: processor, weights, number format, and what it can be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.errors import ConfigError

if TYPE_CHECKING:
    from curation.captions.backends.transformers_vlm import TransformersSettings

THREADS = 1
"""CPU threads of torch: a worker is one core, and sums do not depend on how many there are."""


@dataclass(kw_only=True)
class Loaded:
    """A model, ready to answer.

    Attributes:
        model: In inference mode, on its device.
        processor: Of text and pictures; of a text model its tokenizer.
        tokenizer: The same as the processor's.
        sees: It takes pictures.
        video: Frames are shown as one video.
        folds_system: Its chat template knows no system prompt: that goes before the user's text.
        context_tokens: Most tokens of question and answer together; None: not told.
        vocab_size: Width of its logits, which may be more than the tokenizer's words.
        eos_token_ids: Tokens that end an answer.
        pad_token_id: The token that fills a batch.
    """

    model: Any
    processor: Any
    tokenizer: Any
    sees: bool
    video: bool
    folds_system: bool
    context_tokens: int | None
    vocab_size: int
    eos_token_ids: list[int]
    pad_token_id: int


def load(settings: TransformersSettings) -> Loaded:
    """Load what the settings name.

    Raises:
        ConfigError: There is no such model, or it cannot do what is asked.
    """
    import torch

    if problems := settings.problems():
        what, _, mend = problems[0].partition("; ")
        raise ConfigError(what, where="backend transformers", mend=mend)
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise ConfigError("torch sees no GPU", where="device: cuda", mend="device: auto, or cpu")
    device = "cuda" if cuda and settings.device != "cpu" else "cpu"
    if device == "cpu":
        torch.set_num_threads(THREADS)
    try:
        return _load(settings, device)
    except ConfigError:
        raise
    except (OSError, ValueError, ImportError) as exc:
        first = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        mend = (
            "give the folder that save_pretrained or a download of the hub wrote"
            if settings.local
            else "check the name; without network give a local folder"
        )
        raise ConfigError(
            f"does not load: {first[:300]}", where=f"model {settings.model}", mend=mend
        ) from exc


def _load(settings: TransformersSettings, device: str) -> Loaded:
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
        AutoTokenizer,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a worker writes no bars into the log of a run
    where = str(settings.folder) if settings.local else settings.model
    common: dict[str, Any] = {"trust_remote_code": False, "local_files_only": settings.local}
    if settings.revision and not settings.local:
        common["revision"] = settings.revision
    if settings.gguf_file:
        common["gguf_file"] = settings.gguf_file
    config = AutoConfig.from_pretrained(where, **common)
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    processor = (AutoProcessor if sees else AutoTokenizer).from_pretrained(where, **common)
    tokenizer: Any = processor.tokenizer if sees else processor
    if not settings.gguf_file:
        common["use_safetensors"] = True
    maker: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = maker.from_pretrained(where, **common, **_weights(settings, device)).eval()
    if settings.quantization is None:
        model = model.to(device)
    tokenizer.padding_side = "left"  # answers are written on at the right
    ends = _ends(model, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ends[0])
    text = config.get_text_config()
    pad: Any = tokenizer.pad_token_id
    return Loaded(
        model=model,
        processor=processor,
        tokenizer=tokenizer,
        sees=sees,
        video=sees and _as_video(settings, processor),
        folds_system=_folds_system(settings, processor, sees),
        context_tokens=getattr(text, "max_position_embeddings", None),
        vocab_size=text.vocab_size,
        eos_token_ids=ends,
        pad_token_id=pad,
    )


def _weights(settings: TransformersSettings, device: str) -> dict[str, Any]:
    """Arguments for the number format of the weights."""
    import torch

    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    dtype = named.get(settings.dtype) or ("auto" if device == "cuda" else torch.float32)
    if settings.quantization is None:
        return {"dtype": dtype}
    return {
        "dtype": dtype,
        "device_map": {"": device},
        "quantization_config": _quantization(settings.quantization, device),
    }


def _quantization(kind: str, device: str) -> Any:  # noqa: ANN401 - transformers is optional
    """Weights in 8 bits (LLM.int8, arXiv 2208.07339) or 4 (NF4, arXiv 2305.14314)."""
    import torch
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16 if device == "cuda" else torch.float32,
    )


def _ends(model: Any, tokenizer: Any) -> list[int]:  # noqa: ANN401
    """Ids of all tokens that end an answer, by the model's generation settings and tokenizer."""
    told = model.generation_config.eos_token_id
    found = list(told) if isinstance(told, list | tuple) else [told]
    ends = list(dict.fromkeys(i for i in [*found, tokenizer.eos_token_id] if i is not None))
    if not ends:
        raise ConfigError(
            "names no token that ends an answer",
            where=f"model {model.name_or_path}",
            mend="set eos_token_id in its generation_config.json",
        )
    return ends


def _as_video(settings: TransformersSettings, processor: Any) -> bool:  # noqa: ANN401
    """Whether frames go in as a video.

    Raises:
        ConfigError: That is asked for and the model has no such input.
    """
    able = getattr(processor, "video_processor", None) is not None
    if settings.input == "video" and not able:
        raise ConfigError(
            f"{type(processor).__name__} takes no video",
            where="input: video",
            mend="input: images, or auto",
        )
    return able and settings.input != "images"


def _folds_system(settings: TransformersSettings, processor: Any, sees: bool) -> bool:  # noqa: ANN401
    """Whether the chat template refuses a system prompt.

    Raises:
        ConfigError: There is no chat template, or it refuses any message.
    """
    from jinja2 import TemplateError

    def renders(*roles: str) -> str | None:
        said: Any = [{"type": "text", "text": "a"}] if sees else "a"
        talk = [{"role": role, "content": said} for role in roles]
        try:
            processor.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        except (TemplateError, ValueError, TypeError) as exc:
            return str(exc) or type(exc).__name__
        return None

    if renders("system", "user") is None:
        return False
    if (refused := renders("user")) is not None:
        raise ConfigError(
            f"its chat template does not work: {refused[:200]}",
            where=f"model {settings.model}",
            mend="use an instruction-tuned model that comes with one",
        )
    return True
