"""What goes over the wire to an OpenAI-compatible server, and what comes back. No network here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from curation.captions.request import Request

Structured = Literal["json_schema", "json_object", "off"]
LADDER: tuple[Structured, ...] = ("json_schema", "json_object", "off")
MAX_MESSAGE = 300
MAX_HEADER = 128
UNENFORCED = frozenset(
    {"default", "title", "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
)
"""Keywords that strict servers refuse or that make grammars huge; the parser checks them anyway."""
ABOUT_FORMAT = (
    "response_format",
    "response format",
    "json_schema",
    "json_object",
    "schema",
    "structured output",
    "guided",
    "grammar",
)


class BadBody(ValueError):
    """A response with status 200 that holds no completion."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a completion says.

    Attributes:
        text: The answer, or the words of a refusal; None: there are none.
        why: Why there are none.
        input_tokens: As the server counted; None: it did not.
        output_tokens: Likewise.
        server_id: The completion's id; some servers make it of the request's.
    """

    text: str | None
    why: str
    input_tokens: int | None
    output_tokens: int | None
    server_id: str


@dataclass
class Dialect:
    """What this server understands, as far as it has said so.

    Attributes:
        structured: How an answer's form is asked for.
        limit_field: Name of the field with the token limit.
        version: Grows with every change.
    """

    structured: Structured
    limit_field: str = "max_tokens"
    version: int = 0

    def step_down(self, message: str, *, with_schema: bool) -> str | None:
        """Change what a refusal complains of.

        Args:
            message: Of the server.
            with_schema: The refused request asked for a form.

        Returns:
            What was changed, in words; None: it complains of nothing that can be changed.
        """
        told = message.lower()
        if self.limit_field == "max_tokens" and "max_completion_tokens" in told:
            self.limit_field = "max_completion_tokens"
            self.version += 1
            return "the server wants max_completion_tokens in place of max_tokens"
        if with_schema and self.structured != "off" and any(w in told for w in ABOUT_FORMAT):
            refused = self.structured
            self.structured = LADDER[LADDER.index(refused) + 1]
            self.version += 1
            return f"the server refuses response_format {refused}, going on with {self.structured}"
        return None


def messages(request: Request, image_detail: str | None) -> list[dict[str, Any]]:
    """System prompt, then each picture after its time, then the prompt."""
    made: list[dict[str, Any]] = []
    if request.system:
        made.append({"role": "system", "content": request.system})
    if not request.frames:
        return [*made, {"role": "user", "content": request.prompt}]
    parts: list[dict[str, Any]] = []
    for frame in request.frames:
        url = "data:image/jpeg;base64," + base64.b64encode(frame.jpeg).decode()
        image = {"url": url} if image_detail is None else {"url": url, "detail": image_detail}
        parts.append({"type": "text", "text": f"{frame.time_s:.2f} s:"})
        parts.append({"type": "image_url", "image_url": image})
    parts.append({"type": "text", "text": request.prompt})
    return [*made, {"role": "user", "content": parts}]


def response_format(schema: Mapping[str, Any], structured: Structured) -> dict[str, Any] | None:
    """The field ``response_format``; None: the form is not asked for."""
    if structured == "off":
        return None
    if structured == "json_object":
        return {"type": "json_object"}
    named = {"name": "answer", "strict": True, "schema": strict_schema(schema)}
    return {"type": "json_schema", "json_schema": named}


def strict_schema(schema: Any) -> Any:  # noqa: ANN401 - JSON
    """A schema in the subset that strict servers take.

    Objects need all their properties and may have no others (OpenAI's guide "Structured outputs");
    lengths and defaults go.
    """
    if isinstance(schema, list):
        return [strict_schema(v) for v in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {}
    for name, value in schema.items():
        if name in ("properties", "$defs") and isinstance(value, Mapping):
            made[name] = {k: strict_schema(v) for k, v in value.items()}
        elif name not in UNENFORCED:
            made[name] = strict_schema(value)
    if "properties" in made:
        made["required"] = list(made["properties"])
        made["additionalProperties"] = False
    return made


def read_answer(content: bytes) -> Answer:
    """Read the body of a completion.

    Raises:
        BadBody: It is no completion.
    """
    try:
        body = json.loads(content)
    except ValueError as exc:
        raise BadBody(f"no JSON in a body of {len(content)} bytes") from exc
    body = body if isinstance(body, dict) else {}
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        raise BadBody("a completion without choices")
    text = _text(message.get("content")) or _text(message.get("refusal"))
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answer(
        text=text,
        why="" if text is not None else _why(choice.get("finish_reason")),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        server_id=str(body.get("id") or ""),
    )


def error_message(body: object) -> tuple[str, str]:
    """The words and the code in the body of an error, both perhaps empty."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict):
            words = inner.get("message") or inner.get("detail") or ""
            return one_line(str(words)), str(inner.get("code") or inner.get("type") or "")
        return one_line(str(inner)), ""
    return one_line(str(body or "")), ""


def one_line(text: str) -> str:
    """A text in one line."""
    return " ".join(text.split())


def header_id(request_id: str) -> str:
    """A request's id as the value of a header: itself, or a digest where that is not allowed."""
    if len(request_id) <= MAX_HEADER and re.fullmatch(r"[!-~]+", request_id):
        return request_id
    return "sha256-" + hashlib.sha256(request_id.encode(errors="surrogatepass")).hexdigest()


def _text(content: Any) -> str | None:  # noqa: ANN401 - whatever a server sent
    """The text of a message; some servers send a list of parts."""
    if isinstance(content, list):
        content = "".join(
            p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)
        )
    if not isinstance(content, str) or not content.strip():
        return None
    return content.encode(errors="replace").decode()  # half of a surrogate pair fits in no file


def _why(finish_reason: Any) -> str:  # noqa: ANN401 - whatever a server sent
    if finish_reason == "length":
        return "the token limit was reached before any text; raise max_tokens"
    if finish_reason == "content_filter":
        return "the server's content filter withheld the answer"
    return f"an empty answer (finish_reason {one_line(str(finish_reason))[:40]})"


def _count(value: Any) -> int | None:  # noqa: ANN401 - whatever a server sent
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
