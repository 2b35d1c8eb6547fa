"""Paths for processes that started in another folder: what was relative is meant from where the run was started."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from stages.contract import IS_PATH

C = TypeVar("C")


def absolute(path: Path) -> Path:
    """The path from the root. Links stay, since a shared folder may be one."""
    return Path.cwd() / path


def resolved(config: C, start: Path) -> C:
    """The Config with the paths that it holds from the root: in its fields, and in those of Configs inside it.

    Which fields hold paths, their metadata says (IS_PATH). start: the folder that relative ones are meant from.
    """
    return with_paths(config, start.joinpath)


def with_paths(argument: C, change: Callable[[Path], Path]) -> C:
    """The argument with other paths: itself, or those in tuples and dataclasses, Configs among them."""
    if isinstance(argument, Path):
        return change(argument)  # type: ignore[return-value]
    if isinstance(argument, tuple):
        return tuple(with_paths(each, change) for each in argument)  # type: ignore[return-value]
    if not dataclasses.is_dataclass(argument) or isinstance(argument, type):
        return argument
    changed: dict[str, Any] = {}
    for item in dataclasses.fields(argument):
        old, is_path = getattr(argument, item.name), item.metadata.get(IS_PATH)
        value = _text(old, change, is_path) if is_path else with_paths(old, change)
        changed |= {item.name: value} if value != old else {}
    return dataclasses.replace(argument, **changed) if changed else argument


def _text(value: Any, change: Callable[[Path], Path], is_path: Callable[[str], bool] | Literal[True]) -> Any:
    if isinstance(value, tuple):
        return tuple(_text(each, change, is_path) for each in value)
    if value is None or "://" in value or not (is_path is True or is_path(value)):
        return value
    return str(change(Path(value)))
