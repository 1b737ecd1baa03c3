"""What may be shown of a source: a local file by its name, a URL without what opens the store.

Shards and pages leave the machine; paths, passwords and signatures must not leave with them.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

SECRETS = ("sig", "token", "key", "secret", "credential", "password", "expires", "policy")
"""Parts of query parameter names that mark a signature or a login."""


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
