"""docs/reference/detector-catalogue.md: every detector, its files and its settings, from stages/regions/detectors/."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inspection.markdown import table
from pipeline.settings_page import comments_of as field_comments
from pipeline.yaml_comments import comments_of, head_of
from stages.regions import catalogue
from stages.regions.catalogue import Detector
from stages.regions.published.settings import FasterRCNN

PAGE = "docs/reference/detector-catalogue.md"
TOLD_APART = ("name", "family", "about", "licence", "source", "published", "layouts")  # stand in tables of their own
HEAD = """# The catalogue of detectors

Written by `python -m pipeline.pages` from `stages/regions/detectors/*.yaml` and the classes that they are built into.
Edit those, not this page.

For people who choose a detector, or who compare one's settings with the code it was published with. `regions.detector`
takes a name of this page, the path of a YAML file of your own, or `detectron2:CONFIG`. `pairloom detector show NAME`
prints the same of one detector. [Detectors](detectors.md) says how they differ and how to bring the weights.
"""


def detectors_markdown() -> str:
    """The whole page."""
    entries = {name: catalogue.load(name) for name in catalogue.names()}
    published = {name: entry for name, entry in entries.items() if isinstance(entry, FasterRCNN)}
    lines = [HEAD, "## All of them", "", *_overview(entries)]
    lines += [
        "## Published files",
        "",
        "A file is recognised by its content, not by its name. pairloom ships none.",
        "",
    ]
    lines += _files(published)
    lines += ["## Settings of the published detectors", "", "Where the detectors differ:", "", *_differing(published)]
    lines += ["What all of them share:", "", *_shared(published)]
    lines += ["## Settings of the starter", "", *_starter(catalogue.starter())]
    lines += ["## What the files say", "", "Why a setting has its value, where the file says so.", "", *_said()]
    return "\n".join(lines).rstrip() + "\n"


def _overview(entries: Mapping[str, catalogue.Entry]) -> Iterator[str]:
    rows = []
    for name, entry in entries.items():
        if isinstance(entry, FasterRCNN):
            about, source = entry.about, entry.source.removeprefix("https://")
            count = str(entry.attributes.count) if entry.attributes else "none"
            classes = f"{entry.classes}, {count}"
        else:
            about, source = f"{entry.architecture}, {entry.backbone}", "ships with pairloom"
            classes = "in the checkpoint"
        rows.append(
            (f"`{name}`", about, classes, f"{entry.feature_width}", f"`{entry.selection}`", source, entry.licence)
        )
    return table(("detector", "what", "classes, attributes", "width", "selection", "source", "licence"), rows)


def _files(published: Mapping[str, FasterRCNN]) -> Iterator[str]:
    rows = [
        (f"`{file.file}`", f"`{name}`", file.address.partition("://")[2] if file.address else "", file.note)
        for name, entry in published.items()
        for file in entry.published
    ]
    return table(("file", "detector", "published at", "note"), rows)


def _differing(published: Mapping[str, FasterRCNN]) -> Iterator[str]:
    columns, meanings = [_flat(entry) for entry in published.values()], _meanings(FasterRCNN)
    rows = [
        (f"`{path}`", *(_value(column.get(path)) for column in columns), meanings.get(path, ""))
        for path in columns[0]
        if not _same(path, columns)
    ]
    return table(("setting", *(f"`{name}`" for name in published), "meaning"), rows)


def _shared(published: Mapping[str, FasterRCNN]) -> Iterator[str]:
    columns, meanings = [_flat(entry) for entry in published.values()], _meanings(FasterRCNN)
    rows = [
        (f"`{path}`", _value(value), meanings.get(path, ""))
        for path, value in columns[0].items()
        if _same(path, columns)
    ]
    return table(("setting", "value", "meaning"), rows)


def _same(path: str, columns: Sequence[Mapping[str, Any]]) -> bool:
    return all(column.get(path) == columns[0][path] for column in columns)


def _starter(starter: Detector) -> Iterator[str]:
    said = {each.path: each.comment for each in comments_of(catalogue.file("starter").read_text(encoding="utf-8"))}
    rows = [(f"`{path}`", _value(value), said.get(path, "")) for path, value in _flat(starter).items()]
    return table(("setting", "value", "meaning"), rows)


def _said() -> Iterator[str]:
    rows = []
    for name in catalogue.names():
        text = catalogue.file(name).read_text(encoding="utf-8")
        rows.append((f"`{name}`", "", " ".join(head_of(text))))
        if name != "starter":  # whose comments stand beside its settings
            rows += [(f"`{name}`", f"`{said.path}`" if said.path else "", said.comment) for said in comments_of(text)]
    return table(("detector", "setting", "what its file says"), rows)


def _flat(entry: Any, above: str = "") -> dict[str, Any]:
    """Dotted setting -> value. A part that is not there, such as attributes, is one setting of the value None."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(entry):
        value, path = getattr(entry, item.name), f"{above}{item.name}"
        if path in TOLD_APART:
            continue
        if dataclasses.is_dataclass(value):
            found.update(_flat(value, f"{path}."))
        else:
            found[path] = value
    return found


def _meanings(kind: type[Any], above: str = "") -> dict[str, str]:
    """Dotted setting -> its comment in the class that it is a field of."""
    found = {f"{above}{name}": said.meaning for name, said in field_comments(kind).items()}
    for name, hint in typing.get_type_hints(kind).items():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type) and f"{above}{name}" not in TOLD_APART:
                found.update(_meanings(inner, f"{above}{name}."))
    return found


def _value(value: Any) -> str:
    return "–" if value is None else f"`{json.dumps(value, ensure_ascii=False).strip(chr(34))}`"
