"""Settings of the data from a YAML file, a preset's name, and dotted overrides.

A file holds one of these, and every mistake in it is told with its key and the nearest valid one:

- the keys of :class:`BucketSettings` (``shapes``, ``microbatch_tokens``, ...): a buckets file;
- the sections of :class:`DataSettings` (``sources``, ``buckets``, ``order``, ``read``); the keys of
  a buckets file may stand beside them;
- any of this below ``data:``, as in the YAML of a training, whose other sections are left alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from curation.errors import ConfigError
from curation.yaml_settings import apply_override, explained, mapping_in
from training.data.buckets import BucketSettings
from training.data.settings import DataSettings
from training.presets import BUCKETS, bucket_presets, text_of, training_presets

BUCKET_KEYS = frozenset(BucketSettings.model_fields)
SECTIONS = frozenset(DataSettings.model_fields)


def read_settings(path: str | None = None, overrides: Sequence[str] = ()) -> DataSettings:
    """Read a file or preset, apply ``key.sub=value`` overrides, and check everything.

    Args:
        path: YAML file, or a preset's name (``laptop``, ``256px``; or of a training, whose data
            is taken); None: the defaults, with buckets proposed from the clips.
        overrides: ``order.microbatches=8``, ``buckets.max_crop=0.3``; keys of a buckets file may
            be given without ``buckets.``.

    Raises:
        ConfigError: An unknown or mistyped key or value, or a bucket that the autoencoder or the
            budget cannot hold.
    """
    where = path or "settings"
    data = _sections(mapping_in(_text(path), where) if path else {}, where)
    for text in overrides:
        key = text.partition("=")[0].split(".")[0]
        _check_keys([key], SECTIONS | BUCKET_KEYS, text)
        apply_override(data, f"buckets.{text}" if key in BUCKET_KEYS else text)
    try:
        return DataSettings.model_validate(data)
    except ValidationError as exc:
        raise explained(exc, DataSettings, where) from exc


def _text(path: str) -> str:
    """Of a file or preset, of buckets or of a training."""
    if path in training_presets():
        return text_of(path, training_presets)
    return text_of(path, bucket_presets, BUCKETS)


def _sections(data: dict[str, Any], where: str) -> dict[str, Any]:
    """The sections of :class:`DataSettings`, whichever form the file has."""
    if "data" in data:
        if not isinstance(data["data"], dict):
            raise ConfigError("data: must be a mapping of sections", where=where)
        data = data["data"]
    _check_keys(data, SECTIONS | BUCKET_KEYS, where)
    flat = {key: value for key, value in data.items() if key in BUCKET_KEYS}
    sections = {key: value for key, value in data.items() if key in SECTIONS}
    if not flat:
        return sections
    if sections.get("buckets"):
        raise ConfigError(
            f"{', '.join(sorted(flat))} beside a section buckets",
            where=where,
            mend="put all of them into it",
        )
    return sections | {"buckets": flat}


def _check_keys(keys: Iterable[object], known: frozenset[str], where: str) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key), sorted(known), n=1, cutoff=0.5)
            mend = f"did you mean {near[0]!r}?" if near else f"valid: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key {str(key)!r}", where=where, mend=mend)
