"""What failed: sources and clips by error code, a few examples of each, and the count of all."""

from __future__ import annotations

from dataclasses import dataclass, field

from curation.catalog.views import Views
from pipelines.report.words import message_of, source_label

MAX_CODES = 30
EXAMPLES = 5

SOURCES = f"""
SELECT coalesce(code, 'unknown') AS code, count(*) AS n,
    bool_or(coalesce(retryable, false)) AS again,
    arg_min({{'uri': uri, 'stage': failed_stage, 'message': error, 'at_s': NULL}}, uri, {EXAMPLES})
        AS examples
FROM sources WHERE status = 'failed' GROUP BY 1 ORDER BY n DESC, code LIMIT {MAX_CODES}
"""
CLIPS = f"""
SELECT c.code AS code, count(*) AS n, bool_or(coalesce(e.retryable, false)) AS again,
    arg_min({{'uri': c.uri, 'stage': coalesce(e.stage, 'judge'), 'message': e.message,
        'at_s': c.start_s}}, c.clip_id, {EXAMPLES}) AS examples
FROM (SELECT clip_id, uri, start_s, unnest(reasons) AS code FROM clips WHERE verdict = 'failed') c
LEFT JOIN (SELECT clip_id, code, any_value(stage) AS stage, any_value(message) AS message,
        bool_or(retryable) AS retryable
    FROM errors WHERE clip_id IS NOT NULL GROUP BY clip_id, code) e
    ON e.clip_id = c.clip_id AND e.code = c.code
GROUP BY 1 ORDER BY n DESC, code LIMIT {MAX_CODES}
"""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One failed source or clip: its file, the stage, the message, and where a clip starts."""

    name: str
    stage: str
    message: str
    at_s: float | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One error code.

    Attributes:
        code: As in the catalog.
        count: Sources or clips that ended with it.
        again: Whether the next run tries them again.
        examples: A few of them.
    """

    code: str
    count: int
    again: bool
    examples: list[Example] = field(default_factory=list)


def source_failures(views: Views) -> list[Failure]:
    """Failed sources by code, the most frequent first."""
    return _failures(views, SOURCES)


def clip_failures(views: Views) -> list[Failure]:
    """Failed clips by code, the most frequent first."""
    return _failures(views, CLIPS)


def _failures(views: Views, sql: str) -> list[Failure]:
    return [
        Failure(
            code=row["code"],
            count=row["n"],
            again=row["again"],
            examples=[
                Example(
                    name=source_label(e["uri"] or ""),
                    stage=e["stage"] or "",
                    message=message_of(e["message"], e["uri"]),
                    at_s=e["at_s"],
                )
                for e in row["examples"]
            ],
        )
        for row in views.query(sql).to_pylist()
    ]
