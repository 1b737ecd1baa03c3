"""What may be shown of a source: a local file by its name, a URL without what opens the store.

Shards and pages leave the machine; paths, passwords and signatures must not leave with them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SECRETS = ("sig", "token", "key", "secret", "credential", "password", "expires", "policy")
"""Parts of query parameter names that mark a signature or a login."""

NAMES_OF_SECRETS = tuple(s for s in SECRETS if s not in ("sig", "expires", "policy"))
"""Without those of signed URLs: ``scheduling_policy`` is an argument of the engine."""
PLACE = re.compile(r"^(/|~|\.{1,2}/|[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://)")
"""An absolute path, one from a home or the current folder, or a URL."""
REMOVED = "(removed)"
_LOGIN = re.compile(r"https?://[^/\s@]+@|://[^/\s:@]*:[^/\s@]+@")
_WORDS = re.compile(r"[^a-z]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def public_name(uri: str) -> str:
    """A local path's last part, or a URL without user, password and signature parameters."""
    if "://" not in uri:
        return PurePosixPath(uri).name or uri
    parts = urlsplit(uri)
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if not any(secret in name.lower() for secret in SECRETS)
    ]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query), ""))


def secret_in(value: object) -> str | None:
    """Dotted name of the first secret at any depth; None: there is none.

    A word of a name has to end like a secret: ``HF_TOKEN`` and ``apiKey`` do, while
    ``TOKENIZERS_PARALLELISM`` and ``max_num_batched_tokens`` do not.
    """
    if isinstance(value, str):
        return "" if _LOGIN.search(value) else None
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if _names_secret(str(name)):
                return str(name)
            if (where := secret_in(inner)) is not None:
                return f"{name}.{where}".rstrip(".")
    elif isinstance(value, list | tuple):
        return next((w for w in map(secret_in, value) if w is not None), None)
    return None


def without_places(value: Any) -> Any:  # noqa: ANN401 - JSON is any
    """A JSON value in which paths and URLs are cut to what may be shown of them."""
    if isinstance(value, str):
        return _public(value) if PLACE.match(value) else value
    if isinstance(value, Mapping):
        return {
            str(k): REMOVED if v and isinstance(v, str) and secret_in({k: v}) else without_places(v)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_places(v) for v in value]
    return value


def _public(text: str) -> str:
    return public_name(text.replace("\\", "/") if re.match(r"[A-Za-z]:\\", text) else text)


def _names_secret(name: str) -> bool:
    words = _WORDS.split(_HUMP.sub("_", name).lower())
    return any(
        word.endswith(secret) or (secret != "token" and word.endswith(f"{secret}s"))
        for word in words
        for secret in NAMES_OF_SECRETS
    )
