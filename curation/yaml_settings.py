"""Settings as people write them: a YAML mapping, dotted overrides, and errors that name the key."""

from __future__ import annotations

import difflib
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from curation.errors import ConfigError


def mapping_in(text: str, where: str) -> dict[str, Any]:
    """The mapping that a YAML text holds; empty for an empty text.

    Args:
        text: YAML.
        where: File it comes from, for errors.

    Raises:
        ConfigError: It is no YAML, or no mapping.
    """
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as exc:
        raise ConfigError(f"is not YAML: {exc}", where=where) from exc
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of sections", where=where)
    return data


def apply_override(data: dict[str, Any], text: str) -> None:
    """Set one dotted key in nested mappings; a number picks an element of a list.

    Args:
        data: Changed in place.
        text: ``a.b.0.c=value`` with a YAML value.

    Raises:
        ConfigError: It has no such form, or leads below a single value.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("an override is key.sub=value", where=text)
    try:
        new = yaml.safe_load(value)
    except yaml.YAMLError as exc:
        raise ConfigError(f"value is not YAML: {exc}", where=text) from exc
    *path, last = key.split(".")
    node: Any = data
    for name in path:
        node = _child(node, name, text)
    if isinstance(node, list):
        _child(node, last, text)
        node[int(last)] = new
    elif isinstance(node, dict):
        if last == "kind" and node.get("kind", new) != new:
            node.clear()  # the settings of another kind mean nothing to this one
        node[last] = new
    else:
        raise ConfigError(f"{path[-1]!r} has no keys below it", where=text)


def _child(node: Any, name: str, text: str) -> Any:  # noqa: ANN401 - nested YAML
    if isinstance(node, list):
        if not name.isdigit() or int(name) >= len(node):
            raise ConfigError(f"no element {name!r} in a list of {len(node)}", where=text)
        return node[int(name)]
    if not isinstance(node, dict):
        raise ConfigError(f"{name!r} is below a single value", where=text)
    child = node.setdefault(name, {})
    if child is None:
        child = node[name] = {}
    return child


def explained(exc: ValidationError, model: type[BaseModel], where: str) -> ConfigError:
    """The first validation error in words, with the nearest key."""
    error = exc.errors(include_url=False)[0]
    path = ".".join(str(p) for p in error["loc"])
    if error["type"] == "extra_forbidden":
        wrong = str(error["loc"][-1])
        valid = sorted(_fields_at(model, error["loc"][:-1]))
        near = difflib.get_close_matches(wrong, valid, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        return ConfigError(f"unknown key {path!r}", where=where, mend=mend)
    text = error["msg"].removeprefix("Value error, ")
    given = error.get("input")
    # A check over several keys is given the whole section, which would only hide what it says.
    got = "" if isinstance(given, (dict, BaseModel)) else f" (got {given!r})"
    return ConfigError(f"{path}: {text}{got}" if path else f"{text}{got}", where=where)


def _inner_type(annotation: Any) -> Any:  # noqa: ANN401 - a type of any kind
    """What is inside ``dict[str, X]``, ``tuple[X, ...]`` and ``X | None``."""
    while inner := getattr(annotation, "__args__", None):
        if getattr(annotation, "__origin__", None) is dict:
            annotation = inner[1]
        else:
            annotation = next((a for a in inner if a not in (type(None), ...)), None)
    return annotation


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that a path of keys leads to."""
    current: Any = model
    for key in path:
        if isinstance(key, int):
            continue  # an element of a list, of the type that was taken out of it
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            break
        field = current.model_fields.get(key)
        if field is None:
            continue  # a key of a mapping, of the type that was taken out of it
        current = _inner_type(field.annotation)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return list(current.model_fields)
    return list(model.model_fields)
