"""Jinja as every page of inspection is rendered: all values escaped, and a missing one is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2

from inspection.info import size


def environment(*folders: Path) -> jinja2.Environment:
    """The templates of these folders, the first that has one, with the filters `size` (of bytes) and `count`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters["size"] = size
    made.filters["count"] = lambda value: f"{value:,}"
    return made
