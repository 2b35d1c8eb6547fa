"""Paths for processes that started in another folder: what was relative is meant from where the run was started."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from stages.contract import IS_PATH

C = TypeVar("C")


def absolute(path: Path) -> Path:
    """The path from the root. Links stay, since a shared folder may be one."""
    return Path.cwd() / path


def resolved(config: C, start: Path) -> C:
    """The Config with the paths that its fields hold (their metadata says which) from the root.

    start: the folder that relative ones are meant from.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return config
    found = {item.name: getattr(config, item.name) for item in dataclasses.fields(config) if item.metadata.get(IS_PATH)}
    changed = {name: value for name, old in found.items() if (value := _from(start, old)) != old}
    return dataclasses.replace(config, **changed) if changed else config


def _from(start: Path, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_from(start, each) for each in value)
    return value if value is None or "://" in value else str(start / value)
