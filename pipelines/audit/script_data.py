"""What the scripts of the page get: clips to look up, the funnel, the curves."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pipelines.audit.curves import Curve
from pipelines.audit.funnel import Funnel
from pipelines.audit.why import Story
from pipelines.report import words


def script_data(
    name: str, told: Mapping[str, Story], funnel: Funnel, curves: list[Curve]
) -> dict[str, Any]:
    """All of it, as JSON-able values; the pictures are added last, as many as fit."""
    return {
        "name": name,
        "clips": [_clip_data(story) for story in told.values()],
        "funnel": _funnel_data(funnel),
        "curves": [_curve_data(c) for c in curves],
        "pictures": {},
    }


def _clip_data(story: Story) -> dict[str, Any]:
    """A clip for the search box."""
    like = story.likeness
    return {
        "id": story.clip_id,
        "name": story.name,
        "title": story.title,
        "span": story.span,
        "length": words.duration(story.end_s - story.start_s),
        "verdict": story.verdict,
        "split": story.split,
        "license": story.license,
        "source": story.source,
        "said": story.caption,
        "answer": story.answer,
        "why": [[o.code, o.text, o.mend] for o in story.obstacles],
        "set": story.settings,
        "scores": [
            [m.column, _shown(m.value), m.wanted, m.passes, m.margin] for m in story.measured
        ],
        "like": like
        and [like.clip_id, like.words, like.reference and words.source_label(like.reference)],
    }


def _shown(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).lower() if isinstance(value, bool) else words.shorten(str(value), 60)


def _funnel_data(funnel: Funnel) -> dict[str, Any]:
    return {
        "all": funnel.all,
        "steps": [[s.label, s.num_here, s.seconds_here, s.num_alone] for s in funnel.steps],
        "failed": funnel.of("failed"),
        "unjudged": funnel.of("unjudged"),
        "kept": funnel.of("kept"),
    }


def _curve_data(curve: Curve) -> dict[str, Any]:
    t = curve.threshold
    return {
        "column": t.column,
        "side": t.side,
        "value": t.value,
        "quantile": t.quantile,
        "set": t.set_to("{}"),
        "alone": curve.num_alone,
        "places": curve.places,
        "kept": curve.kept,
        "kept_s": curve.kept_s,
        "edges": curve.edges,
        "bars": curve.bars,
    }


def json_for_script(value: object) -> str:
    """JSON that nothing in it can end or open a tag with; no number that JSON does not know."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
