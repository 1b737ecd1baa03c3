"""``clipmill captions estimate``: what a run would caption, and what that takes, before it is paid.

Counted are kept clips without a row under the fingerprint that the configuration gives: what
another model or prompt would ask anew counts, what is done does not. Beside the estimate stands
what earlier captions of the same model did take, where there are any.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from typing import Any

from curation.captions.answer import answer_schema
from curation.captions.backends.settings import Price
from curation.captions.cost import Estimate, ImageRule, Span, estimate
from curation.captions.prompts import load_prompt
from curation.catalog.catalog import Catalog
from curation.catalog.views import Views
from curation.errors import ConfigError
from curation.stages.caption import CaptionClips
from pipelines.config import CurateConfig

RULES: tuple[tuple[str, ImageRule | None], ...] = (
    ("qwen2.5-vl", "qwen2.5-vl"),
    ("qwen3-vl", "qwen3-vl"),
    ("gpt-4o-mini", None),
    ("gpt-4.1-nano", None),
    ("gpt-4.1-mini", "openai-patches"),
    ("gpt-4o", "openai-tiles"),
    ("gpt-4.1", "openai-tiles"),
)
"""How a model counts pictures, by a part of its name; of others the span covers all ways."""
DEARER = ("gpt-4o-mini", "gpt-4.1-nano")
"""Models that count pictures several times as high as any rule here."""
FACTS_CHARS = 400
"""What was measured, in sentences: a few of them."""
MEASURED = """
SELECT count(*) AS num_clips, avg(caption_input_tokens) AS input_tokens,
    avg(caption_output_tokens) AS output_tokens, avg(caption_busy_s) AS busy_s,
    avg(caption_attempts) AS attempts
FROM raw_captions WHERE caption_model = '{model}'
"""


def estimate_captions(out: str, config: CurateConfig) -> dict[str, Any]:
    """What captioning a dataset with a configuration is going to take.

    Args:
        out: The dataset root.
        config: The dataset's configuration with changes.

    Returns:
        ``backend, model, prompt, fingerprint``; ``num_kept, num_done, num_clips, clip_s``;
        ``notes`` on how far to trust it; ``estimate`` with spans ``[low, high]`` of ``requests``,
        ``input_tokens``, ``output_tokens`` and, with a price, ``money``; None for a captioner that
        reads no prompt;
        ``measured`` means per clip of earlier captions of this model, and ``expected``, those times
        the clips to do; None without any.

    Raises:
        ConfigError: The configuration has no captioner.
    """
    catalog = Catalog.open(out)
    plan = config.plan()
    stage = next((s for s in plan.stages if isinstance(s, CaptionClips)), None)
    if stage is None:
        raise ConfigError(
            "this configuration has no captioner",
            where=catalog.storage.url,
            mend="add one: caption={} or caption.backend.kind=openai caption.backend.model=NAME",
        )
    plan.check()
    fingerprint = plan.fingerprints()[stage.name]
    views = Views(catalog)
    clips, num_kept = _clips_to_do(catalog, views, fingerprint)
    backend = stage.backend
    report: dict[str, Any] = {
        "backend": backend.kind,
        "model": backend.model_name,
        "prompt": load_prompt(stage.prompt).label if backend.prompted else None,
        "fingerprint": fingerprint[:12],
        "num_kept": num_kept,
        "num_done": num_kept - len(clips),
        "num_clips": len(clips),
        "clip_s": round(sum(c["duration_s"] for c in clips), 3),
        "notes": [],
        "estimate": None,
    }
    if any(name in backend.model_name.lower() for name in DEARER):
        report["notes"].append(
            "this model counts a picture as several times more tokens than estimated here: see its "
            "owner's price list"
        )
    if backend.prompted:
        report["estimate"] = _as_dict(_total(clips, stage, config))
    return report | _from_earlier(catalog, views, stage, len(clips))


def _clips_to_do(
    catalog: Catalog, views: Views, fingerprint: str
) -> tuple[list[dict[str, Any]], int]:
    """Kept clips without a row under the fingerprint, and the number of all kept clips."""
    kept = views.query("SELECT count(*) AS n FROM clips WHERE verdict = 'kept'").column("n")[0]
    anti = ""
    if catalog.has("captions"):
        anti = f"""ANTI JOIN (SELECT clip_id FROM raw_captions WHERE fingerprint = '{fingerprint}')
            USING (clip_id)"""
    rows = views.query(
        f"""SELECT video_id, end_s - start_s AS duration_s, width_px, height_px
        FROM (SELECT * FROM clips WHERE verdict = 'kept') {anti}"""
    )
    return rows.to_pylist(), int(kept.as_py())


def _total(clips: list[dict[str, Any]], stage: CaptionClips, config: CurateConfig) -> Estimate:
    """The estimate of all clips, pictures of each size on their own."""
    by_size: defaultdict[tuple[int, int], list[float]] = defaultdict(list)
    for clip in clips:
        by_size[_shown_px(clip, stage, config)].append(clip["duration_s"])
    prompt = load_prompt(stage.prompt)
    chars = len(prompt.system) + len(prompt.user) + len(json.dumps(answer_schema()))
    rate = stage.fps if stage.frames == "dense" else 1 / config.signals.sample_interval_s
    parts = [
        estimate(
            durations,
            width_px=width,
            height_px=height,
            frames_per_s=rate,
            max_frames=stage.max_frames,
            window_s=stage.window_s,
            prompt_chars=chars + FACTS_CHARS * stage.tell_facts,
            max_tokens=stage.max_tokens,
            checks_per_request=_canaries(clips, stage) / len(clips),
            rule=_rule(stage.backend.model_name),
            low_detail=getattr(stage.backend, "image_detail", None) == "low",
            price=stage.backend.price,
        )
        for (width, height), durations in sorted(by_size.items())
    ]
    return _sum(parts, stage.backend.price)


def _shown_px(clip: dict[str, Any], stage: CaptionClips, config: CurateConfig) -> tuple[int, int]:
    """Size of the pictures that go to the model."""
    width, height = clip["width_px"] or 1280, clip["height_px"] or 720
    longest = stage.max_side_px
    if stage.frames == "samples":
        longest = min(longest, config.signals.sample_long_side_px)
    share = min(1.0, longest / max(width, height))
    return max(1, round(width * share)), max(1, round(height * share))


def _canaries(clips: list[dict[str, Any]], stage: CaptionClips) -> int:
    """Checks of integrity: some with every batch, and a batch holds clips of one video."""
    per_video = Counter(c["video_id"] for c in clips)
    return stage.canaries * sum(math.ceil(n / stage.batch_size) for n in per_video.values())


def _rule(model: str) -> ImageRule | None:
    lower = model.lower()
    return next((rule for part, rule in RULES if part in lower), None)


def _sum(parts: list[Estimate], price: Price | None) -> Estimate:
    zero = Span(0, 0)
    money = [p.money for p in parts if p.money is not None]
    return Estimate(
        num_clips=sum(p.num_clips for p in parts),
        num_requests=sum((p.num_requests for p in parts), zero),
        input_tokens=sum((p.input_tokens for p in parts), zero),
        output_tokens=sum((p.output_tokens for p in parts), zero),
        money=None if price is None else sum(money, zero),
        currency="" if price is None else price.currency,
    )


def _as_dict(made: Estimate) -> dict[str, Any]:
    def whole(span: Span) -> list[int]:
        return [round(span.low), round(span.high)]

    money = made.money
    return {
        "requests": whole(made.num_requests),
        "input_tokens": whole(made.input_tokens),
        "output_tokens": whole(made.output_tokens),
        "money": None if money is None else [round(money.low, 4), round(money.high, 4)],
        "currency": made.currency,
    }


def _from_earlier(
    catalog: Catalog, views: Views, stage: CaptionClips, num_clips: int
) -> dict[str, Any]:
    """Means of what this model wrote before, under whatever configuration, and what follows."""
    none = {"measured": None, "expected": None}
    if not catalog.has("captions"):
        return none
    model = stage.backend.model_name.replace("'", "''")
    means = views.query(MEASURED.format(model=model)).to_pylist()[0]
    if not means["num_clips"]:
        return none
    expected: dict[str, Any] = {"busy_s": round(means["busy_s"] * num_clips, 1)}
    tokens = means["input_tokens"], means["output_tokens"]
    if None not in tokens:
        read, written = (round(mean * num_clips) for mean in tokens)
        expected |= {"input_tokens": read, "output_tokens": written, "money": None, "currency": ""}
        if price := stage.backend.price:
            expected["money"] = round(price.of(read, written), 4)
            expected["currency"] = price.currency
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in means.items()}
    return {"measured": rounded, "expected": expected}
