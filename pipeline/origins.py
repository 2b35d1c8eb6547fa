"""sources.yaml of a dataset's folder: where the sources of its rows lie, for `retry` and for linked pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from formats.pictures.linked import SOURCES
from pairloom.store.writing import replace_text
from pipeline.params import Params, read_params

HEAD = "# Where the pictures came from, for `pairloom retry` and linked pictures. Correct a path if they have moved.\n"


def note(out: Path, listed: Mapping[str, Any]) -> None:
    """Remember where the sources of this section `sample` lie. Nothing where it has none."""
    from stages import sample

    if listed.get("sources") or listed.get("format"):
        kept = {key: listed[key] for key in ("urls", "format") if listed.get(key)}
        if "://" not in kept["urls"]:
            kept["urls"] = str(Path(kept["urls"]).absolute())
        kept["sources"] = dict(Params({"sample": dict(listed)}).build(sample.Config, "sample").places())
        out.mkdir(parents=True, exist_ok=True)
        replace_text(out / SOURCES, HEAD + yaml.safe_dump({"sample": kept}, sort_keys=False, allow_unicode=True))


def with_sources(params: Params, folder: Path) -> Params:
    """The same with the sources that `note` remembered, unless section sample names others."""
    if params.section("sample").get("sources") or not (folder / SOURCES).is_file():
        return params
    return params.with_section("sample", **read_params(folder / SOURCES).section("sample"))


def carry(folder: Path, out: Path) -> None:
    """Tables that are made of a folder's pairs elsewhere find the linked pictures, too."""
    if (folder / SOURCES).is_file() and not (out / SOURCES).exists():
        out.mkdir(parents=True, exist_ok=True)
        replace_text(out / SOURCES, (folder / SOURCES).read_text(encoding="utf-8"))
