"""A tiny SmolVLM taught to see: it answers with a caption that names the colour of plain frames.

About a minute on one core. It knows nothing else, but that it reads from the pixels, through the
real processor, so a pipeline whose pictures get lost or swapped is found out by its words.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from curation.captions.backends.transformers_vlm import TransformersSettings
from curation.captions.prompts import load_prompt
from curation.captions.request import Frame, Request
from tests.captions.tiny_vlm import make_tiny_smolvlm

COLOURS = {
    "red": (230, 20, 20),
    "green": (20, 180, 35),
    "blue": (20, 40, 220),
    "yellow": (240, 220, 20),
}
STEPS = 150
LEARNING_RATE = 3e-3


def caption_of(colour: str) -> str:
    """The answer that is taught."""
    return (
        f'{{"short": "A plain {colour} picture.",'
        f' "medium": "A plain {colour} picture fills the frame.",'
        f' "long": "A plain {colour} picture fills the whole frame and nothing in it moves.",'
        ' "events": [], "camera": "static"}<end_of_utterance>'
    )


def plain_request(colour: str, num_frames: int, rng: random.Random, *, whole: bool) -> Request:
    """A question about frames of nearly one colour; ``whole``: with all of the prompt."""
    rgb = tuple(min(255, max(0, v + rng.randint(-20, 20))) for v in COLOURS[colour])
    times_s = [round(i * rng.uniform(0.4, 2.0), 1) for i in range(num_frames)]
    system, prompt = load_prompt("caption-1").fill(
        duration_s=f"{times_s[-1] + 0.5:.1f}", times_s=", ".join(map(str, times_s)), facts=""
    )
    if not whole:
        words = prompt.split(" ")
        start = rng.randrange(len(words) - 20)
        prompt = " ".join(words[start : start + rng.randint(5, 40)])
        system = ""
    jpeg = _plain(rgb)
    return Request(
        request_id=colour,
        system=system,
        prompt=prompt,
        frames=tuple(Frame(t, jpeg) for t in times_s),
        duration_s=times_s[-1] + 0.5,
    )


def train_tiny_smolvlm_on_colours(folder: Path, steps: int = STEPS, seed: int = 0) -> Path:
    """Write the folder of a model that knows four colours.

    Each step shows all four; one step in three asks with the whole prompt ``caption-1``, the rest
    with pieces of it, so that the words of the question do not matter.
    """
    import torch

    from curation.captions.backends.transformers_answer import TransformersBackend

    prompt = load_prompt("caption-1")
    make_tiny_smolvlm(folder, seed, corpus=[prompt.system, prompt.user])
    backend = TransformersSettings.model_validate({"model": str(folder)}).make()
    assert isinstance(backend, TransformersBackend)
    loaded, rng = backend.loaded, random.Random(seed)
    model = loaded.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 10) * (1 - 0.9 * step / steps)
    )
    for step in range(steps):
        num_frames = rng.choice((1, 2, 3))
        as_video = num_frames > 1 and rng.random() < 0.6
        asked = [
            plain_request(c, num_frames, rng, whole=step % 3 == 0 or step > 0.9 * steps)
            for c in COLOURS
        ]
        batch = _with_answers(asked, "video" if as_video else "images", loaded)
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay.step()
    model.eval().save_pretrained(folder)
    return folder


def _with_answers(asked: list[Request], form: Any, loaded: Any) -> dict[str, Any]:  # noqa: ANN401
    """A training batch: questions padded at the left, answers at the right, loss on the latter."""
    import torch

    from curation.captions.backends.transformers_inputs import model_inputs

    inputs = dict(model_inputs(asked, form, loaded, None))
    answers = loaded.tokenizer(
        [caption_of(r.request_id) for r in asked],
        return_tensors="pt",
        padding=True,
        padding_side="right",
    )
    ids, mask = answers["input_ids"], answers["attention_mask"]
    unscored = torch.full_like(inputs["input_ids"], -100)
    labels = torch.cat([unscored, ids.masked_fill(mask == 0, -100)], dim=1)
    return inputs | {
        "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], mask], dim=1),
        "labels": labels,
    }


def _plain(rgb: tuple[int, ...]) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (64, 48), rgb).save(data, "JPEG")
    return data.getvalue()
