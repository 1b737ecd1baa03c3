"""Prompts: versioned Markdown files of this package; the text's hash is part of the fingerprint.

A prompt file has a part after the line ``# system`` and one after ``# user``. ``{name}`` in it is
filled in; a prompt is never edited in place once published: a changed one gets a new number.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from curation.errors import ConfigError

PARTS = re.compile(r"^# (system|user)\s*$", re.MULTILINE)
FIELD = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Prompt:
    """A prompt file.

    Attributes:
        name: Its name without the ending.
        sha256: Of the file.
        system: The system prompt.
        user: The user's text, with ``{fields}``.
    """

    name: str
    sha256: str
    system: str
    user: str

    @property
    def label(self) -> str:
        """What the rows say: the name and the first digits of the hash."""
        return f"{self.name}@{self.sha256[:12]}"

    def fill(self, **fields: object) -> tuple[str, str]:
        """System and user text with the fields filled in.

        Raises:
            KeyError: The prompt wants a field that is not given.
        """

        def put(match: re.Match[str]) -> str:
            return str(fields[match.group(1)])

        return FIELD.sub(put, self.system), FIELD.sub(put, self.user).strip()


def load_prompt(name: str) -> Prompt:
    """A prompt of this package by its name, or of a user by the path of an ``.md`` file.

    Raises:
        ConfigError: There is none, or it has no user part.
    """
    folder = resources.files("curation.captions") / "prompts"
    if name.endswith(".md"):
        source = Path(name)
        found = source.is_file()
    else:
        source = folder / f"{name}.md"
        found = re.fullmatch(r"[a-z0-9-]+", name) is not None and source.is_file()
    if not found:
        known = sorted(p.name.removesuffix(".md") for p in folder.iterdir())
        raise ConfigError(
            "there is no such prompt", where=name, mend=f"one of {', '.join(known)}, or a path.md"
        )
    data = source.read_bytes()
    pieces = PARTS.split(data.decode())
    parts = {pieces[i]: pieces[i + 1].strip() for i in range(1, len(pieces) - 1, 2)}
    if not parts.get("user"):
        raise ConfigError("has no part '# user'", where=name)
    stem = Path(name).stem
    return Prompt(stem, hashlib.sha256(data).hexdigest(), parts.get("system", ""), parts["user"])
