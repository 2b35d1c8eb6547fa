"""Builds a frozen dataclass from the plain values of a YAML file: every key known, each value of its type and range."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pairloom.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a field may hold, beside its type: `Annotated[float, Range(0, 1)]`.

    least and most may be held themselves, above and below may not; None: no end on that side.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None

    def __contains__(self, value: float) -> bool:
        low = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        return low and (self.most is None or value <= self.most) and (self.below is None or value < self.below)

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"from {self.least} to {self.most}"
        ends = [] if self.least is None else [f"{self.least} or more"]
        ends += [f"{name} {end}" for name, end in (("above", self.above), ("below", self.below)) if end is not None]
        return ", ".join(ends if self.most is None else [*ends, f"at most {self.most}"])


Share = Annotated[float, Range(0, 1)]
Positive = Annotated[int, Range(1)]


def build(kind: type[T], section: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`. Every key must be one of its fields, every value of its type and range.

    A class with a static method `expanded` completes the section first (curate's profiles).
    where: for messages, such as "params.yaml, section tags". Raises ConfigError naming setting, value and cure.
    """
    return _build(kind, section, "", where)


def check_ranges(settings: Any) -> None:
    """Raise ConfigError if a value is outside the range, or not among the literals, that its field's type names.

    For values from code, which `build` has not seen: a class with ranges calls it in `__post_init__`.
    """
    kind = type(settings)
    for name, hint in hints_of(kind).items():
        if next(ranges_in(hint), None) is not None or _has_literal(hint):
            _convert(getattr(settings, name), hint, name, f"{kind.__module__}.{kind.__qualname__}")


def hints_of(kind: type[Any]) -> dict[str, Any]:
    """The type of each field of a dataclass, with its range."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {item.name: hints[item.name] for item in dataclasses.fields(kind)}


def ranges_in(hint: Any) -> Iterator[tuple[Any, Range]]:
    """Each number type of a field that has a range, with it."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        yield from ((arguments[0], mark) for mark in arguments[1:] if isinstance(mark, Range))
    elif typing.get_origin(hint) is not Literal:
        for argument in arguments:
            yield from ranges_in(argument)


def _has_literal(hint: Any) -> bool:
    return typing.get_origin(hint) is Literal or any(map(_has_literal, typing.get_args(hint)))


def describe(hint: Any) -> str:
    """A field's type and range in words, as a message or the settings' page says it: "int (from 0 to 16) or null"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *(f"({mark})" for mark in arguments[1:] if isinstance(mark, Range))])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    if origin is tuple:
        each = " and ".join(dict.fromkeys(describe(argument) for argument in arguments if argument is not Ellipsis))
        return f"list of {each}" if arguments[-1] is Ellipsis else f"list of {len(arguments)}: {each}"
    if dataclasses.is_dataclass(hint) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return "mapping"
    return str(getattr(hint, "__name__", hint))


class OutOfRangeError(ConfigError):
    """The type fits, the number does not: no other type of a union is tried."""


def _build(kind: type[T], section: Mapping[str, Any], prefix: str, where: str) -> T:
    section = getattr(kind, "expanded", dict)(section)
    hints = hints_of(kind)
    for key in section:
        if key not in hints:
            raise ConfigError(f"there is no setting {prefix}{key}", where, f"use one of {', '.join(sorted(hints))}")
    values = {key: _convert(value, hints[key], f"{prefix}{key}", where) for key, value in section.items()}
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    missing = [f"{prefix}{name}" for name, item in fields.items() if name not in values and _is_required(item)]
    if missing:
        raise ConfigError(f"the settings {', '.join(missing)} are missing", where, "add them")
    return kind(**values)


def _is_required(item: dataclasses.Field[Any]) -> bool:
    return item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, name: str, where: str) -> Any:
    """YAML's value as the field's type: lists become tuples, whole numbers pass for floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _within(_convert(value, arguments[0], name, where), hint, name, where)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, hint, name, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return _build(hint, value, f"{name}.", where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            pairs = enumerate(zip(value, kinds, strict=True))
            return tuple(_convert(item, kind, f"{name}[{i}]", where) for i, (item, kind) in pairs)
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _convert(item, arguments[1], f"{name}.{key}", where) for key, item in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if hint is Any or type(value) is hint or (origin is Literal and value in arguments):
        return value
    raise ConfigError(f"{name} is {value!r}", where, f"set it to {describe(hint)}")


def _within(value: Any, hint: Any, name: str, where: str) -> Any:
    if all(value in range_ for _, range_ in ranges_in(hint)):
        return value
    raise OutOfRangeError(f"{name} is {value!r}", where, f"set it to {describe(hint)}")


def _convert_union(value: Any, hint: Any, name: str, where: str) -> Any:
    """The value as the first of the types that takes it. A mapping is meant for the dataclass among them."""
    for option in typing.get_args(hint):
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            return _convert(value, option, name, where)
        if value is None and option is type(None):
            return None
        try:
            return _convert(value, option, name, where)
        except OutOfRangeError:
            break
        except ConfigError:
            continue
    raise ConfigError(f"{name} is {value!r}", where, f"set it to {describe(hint)}")
