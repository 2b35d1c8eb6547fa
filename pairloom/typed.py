"""Builds a frozen dataclass from the plain values of a YAML file: every key known, every value of its field's type."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from pairloom.errors import ConfigError

T = TypeVar("T")


def build(kind: type[T], section: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`; every key must be one of its fields and of its field's type.

    A class with a static method `expanded` completes the section first (curate's profiles).
    where: for messages, such as "params.yaml, section tags". Raises ConfigError naming key, value and cure.
    """
    section = getattr(kind, "expanded", dict)(section)
    hints = typing.get_type_hints(kind)
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    for key in section:
        if key not in fields:
            raise ConfigError(f"there is no setting {key!r}", where, f"use one of {', '.join(sorted(fields))}")
    values = {key: _convert(value, hints[key], f"{where}, {key}") for key, value in section.items()}
    missing = [name for name, item in fields.items() if name not in values and _required(item)]
    if missing:
        raise ConfigError(f"the settings {missing} are missing", where, "add them")
    return kind(**values)


def _required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:
    """YAML's value as the field's type: lists become tuples, whole numbers pass for floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        return _checked(value in arguments, value, f"one of {', '.join(map(repr, arguments))}", where)
    if origin is tuple:
        _checked(isinstance(value, list | tuple), value, "a list", where)
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        _checked(len(kinds) == len(value), value, f"a list of {len(kinds)}", where)
        return tuple(_convert(item, kind, where) for item, kind in zip(value, kinds, strict=True))
    if origin in (dict, Mapping) or (origin and issubclass(origin, Mapping)):
        return _checked(isinstance(value, dict), value, "a mapping", where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, _checked(isinstance(value, dict), value, "a mapping", where), where)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Any:
        return value
    return _checked(type(value) is hint, value, getattr(hint, "__name__", str(hint)), where)


def _convert_union(value: Any, options: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in options:
        return None
    for option in options:
        if option is not type(None):
            try:
                return _convert(value, option, where)
            except ConfigError:
                continue
    wanted = " or ".join(
        "null" if option is type(None) else getattr(option, "__name__", str(option)) for option in options
    )
    return _checked(False, value, wanted, where)


def _checked(good: bool, value: Any, wanted: str, where: str) -> Any:
    if not good:
        raise ConfigError(f"the value is {value!r}", where, f"set it to {wanted}")
    return value
