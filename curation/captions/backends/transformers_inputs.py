"""From requests to a padded batch: which go together, how frames are shown, when they were taken.

A batch holds requests of one form (text, pictures or video), one limit and one schema. Frames of
a video carry their true times: processors write them into the prompt or into positions.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from curation.captions.request import Frame, Request
from curation.errors import ConfigError

if TYPE_CHECKING:
    from PIL.Image import Image

    from curation.captions.backends.transformers_load import Loaded

Form = Literal["text", "images", "video"]
TICKS_PER_S = 1000
"""Times are handed over as numbers of frames of a video with so many frames per second."""
QWEN = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"})
RAGGED: dict[Form, frozenset[str]] = {
    "text": frozenset(),
    "images": QWEN | {"smolvlm", "idefics3"},
    "video": QWEN,
}
"""Architectures whose batches may mix requests of different numbers of frames; with others only
equal ones go together. SmolVLM's processor would take such videos too, and tell the model of every
one that it has as many frames as the longest of the batch."""


@dataclass(frozen=True)
class Group:
    """Requests that may share a batch.

    Attributes:
        form: How their frames are shown.
        max_tokens: Limit of the answers.
        schema: Of the answers, as JSON text.
        requests: They.
    """

    form: Form
    max_tokens: int
    schema: str | None
    requests: tuple[Request, ...]


def groups(requests: Sequence[Request], loaded: Loaded) -> list[Group]:
    """Requests by form, limit and schema; neighbours in a group have about as many frames."""
    model_type = loaded.model.config.model_type
    found: dict[tuple[Form, int, str | None, int], list[Request]] = {}
    for request in requests:
        # Not sorted: the schema's order of fields is the order in which they are written.
        schema = None if request.schema is None else json.dumps(dict(request.schema))
        form = form_of(request, loaded)
        count = 0 if model_type in RAGGED[form] else len(request.frames)
        key = form, request.max_tokens, schema, count
        found.setdefault(key, []).append(request)
    return [
        Group(form, limit, schema, tuple(sorted(members, key=lambda r: -len(r.frames))))
        for (form, limit, schema, _), members in found.items()
    ]


def form_of(request: Request, loaded: Loaded) -> Form:
    """How the frames of a request are shown.

    A video of one frame is a picture: some architectures join frames in pairs and take no less.

    Raises:
        ConfigError: There are frames and the model has no eyes.
    """
    if not request.frames:
        return "text"
    if not loaded.sees:
        raise ConfigError(
            "knows text alone and is asked about pictures",
            where=f"model {loaded.model.name_or_path}",
            mend="name a vision-language model",
        )
    return "video" if loaded.video and len(request.frames) > 1 else "images"


def model_inputs(
    requests: Sequence[Request], form: Form, loaded: Loaded, max_pixels: int | None
) -> Mapping[str, Any]:
    """The padded batch on the model's device.

    Returns:
        ``input_ids`` and ``attention_mask`` [b, tokens], padded at the left, and pixels as the
        architecture wants them, in the model's number format.
    """
    prompts = [
        loaded.processor.apply_chat_template(
            conversation(request, form, loaded), tokenize=False, add_generation_prompt=True
        )
        for request in requests
    ]
    options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
    # A template that starts with the start sign has said it; the tokenizer must not add another.
    bos = loaded.tokenizer.bos_token
    options["add_special_tokens"] = not (bos and prompts[0].startswith(bos))
    if form != "text":
        shown = [_one_size([opened(f, max_pixels) for f in r.frames]) for r in requests]
        if form == "images":
            options["images"] = shown
            if max(len(r.frames) for r in requests) > 1 and hasattr(
                getattr(loaded.processor, "image_processor", None), "do_image_splitting"
            ):
                options["do_image_splitting"] = False  # tiles are for one large picture
        else:
            options |= {
                "videos": shown,
                "video_metadata": [metadata(r) for r in requests],
                "do_sample_frames": False,
            }
            if hasattr(loaded.processor.video_processor, "cap_pixels_per_frame"):
                options["cap_pixels_per_frame"] = True  # as Qwen's own code does
    if not loaded.sees:
        return _placed(loaded.tokenizer(prompts, **options), loaded)
    return _placed(loaded.processor(text=prompts, **options), loaded)


def conversation(request: Request, form: Form, loaded: Loaded) -> list[dict[str, Any]]:
    """The messages of a request, frames before the text."""
    system, prompt = (plain(t, loaded.tokenizer) for t in (request.system, request.prompt))
    if loaded.folds_system and system:
        system, prompt = "", f"{system}\n\n{prompt}"
    if not loaded.sees:
        told: list[tuple[str, Any]] = [("system", system), ("user", prompt)]
    else:
        frames: list[dict[str, str]] = []
        if form != "text":
            frames = [{"type": "video"}]
            if form == "images":
                frames = [{"type": "image"}] * len(request.frames)
        told = [
            ("system", [{"type": "text", "text": system}]),
            ("user", [*frames, {"type": "text", "text": prompt}]),
        ]
    return [{"role": r, "content": c} for r, c in told if r == "user" or system]


def plain(text: str, tokenizer: Any) -> str:  # noqa: ANN401
    """Text without signs that mean something to the model.

    What is written in a picture or a subtitle may hold ``<image>`` or an end sign; it must neither
    shift the frames nor end the prompt.
    """
    signs = sorted({t for t in tokenizer.all_special_tokens if len(t) > 1}, key=len, reverse=True)
    for sign in signs:
        if sign in text:
            text = text.replace(sign, f"{sign[0]} {sign[1:]}")
    return text


def opened(frame: Frame, max_pixels: int | None) -> Image:
    """A frame as an RGB picture of at most so many pixels."""
    from PIL import Image

    image = Image.open(io.BytesIO(frame.jpeg)).convert("RGB")
    area = image.width * image.height
    if max_pixels is not None and area > max_pixels:
        share = (max_pixels / area) ** 0.5
        size = max(1, int(image.width * share)), max(1, int(image.height * share))
        image = image.resize(size, Image.Resampling.BICUBIC)
    return image


def _one_size(images: list[Image]) -> list[Image]:
    """Frames in the size of the first: a video has one."""
    first = images[0].size
    return [i if i.size == first else i.resize(first) for i in images]


def metadata(request: Request) -> Any:  # noqa: ANN401 - transformers is optional
    """When the frames of a video were taken.

    Processors read either each frame's time or the mean rate; ``total_num_frames`` is such that
    the rate is that of the frames' spacing.
    """
    from transformers.video_utils import VideoMetadata

    times_s = [f.time_s for f in request.frames]
    spacing_s = (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1) or 1.0
    return VideoMetadata(
        total_num_frames=max(1, round(spacing_s * len(times_s) * TICKS_PER_S)),
        fps=TICKS_PER_S,
        duration=request.duration_s or times_s[-1],
        frames_indices=[round(t * TICKS_PER_S) for t in times_s],
    )


def _placed(inputs: Any, loaded: Loaded) -> Mapping[str, Any]:  # noqa: ANN401
    """Tensors on the model's device, pixels in its number format; anything else is left out."""
    import torch

    model = loaded.model
    moved = {}
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            continue
        kind = model.dtype if value.is_floating_point() else value.dtype
        moved[name] = value.to(device=model.device, dtype=kind)
    if "token_type_ids" in moved and not loaded.sees:
        del moved["token_type_ids"]
    return moved
