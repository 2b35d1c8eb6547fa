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
    if isinstance(config, tuple):
        return tuple(resolved(each, start) for each in config)  # type: ignore[return-value]
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    changed: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        old, is_path = getattr(config, item.name), item.metadata.get(IS_PATH)
        value = _from(start, old, is_path) if is_path else resolved(old, start)
        changed |= {item.name: value} if value != old else {}
    return dataclasses.replace(config, **changed) if changed else config


def _from(start: Path, value: Any, is_path: Callable[[str], bool] | Literal[True]) -> Any:
    if isinstance(value, tuple):
        return tuple(_from(start, each, is_path) for each in value)
    if value is None or "://" in value or not (is_path is True or is_path(value)):
        return value
    return str(start / value)
