"""Where an export goes: a local file or folder that appears whole, by a rename at the end."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from curation.errors import ConfigError


@contextmanager
def appearing(to: str) -> Iterator[Path]:
    """A path to write to beside the target; it gets the target's name when the block ends well.

    Raises:
        ConfigError: The target exists, or is not on this machine.
    """
    if "://" in to:
        raise ConfigError(
            "is no path on this machine", where=f"--to {to}", mend="export here, then copy it"
        )
    target = Path(to).absolute()
    if target.exists():
        raise ConfigError("exists already", where=f"--to {to}", mend="remove it, or name another")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f"{target.name}.tmp-{uuid.uuid4().hex[:8]}")
    try:
        yield beside
        os.rename(beside, target)
    finally:
        if beside.is_dir():
            shutil.rmtree(beside)
        elif beside.exists():
            beside.unlink()
