"""Adds a published checkpoint to the folder of converted ones, with its vocabularies."""

from __future__ import annotations

import json
import os
from pathlib import Path

from stages.regions.catalogue import ZOO
from stages.regions.importing import vocabulary
from stages.regions.published import store
from stages.regions.published.settings import FasterRCNN


def add(
    settings: FasterRCNN,
    source: Path,
    objects: Path | None = None,
    attributes: Path | None = None,
    asked: str | None = None,
) -> store.Weights:
    """Convert a published checkpoint and put it into the folder, whole or not at all.

    Vocabularies not named are looked for beside the checkpoint under their published names. asked: by which name or
    path the detector is loaded, if that is not the name in its settings.
    """
    from safetensors.torch import save_file

    from stages.regions.importing import containers
    from stages.regions.importing.convert import convert

    converted = convert(containers.read(source), settings, str(source))
    names = _vocabularies(converted.settings, source, objects, attributes)
    notes = {
        "form": store.FORM,
        "detector": settings.name,
        "asked": asked or settings.name,
        "layout": converted.layout,
        "source": source.name,
        "source_sha256": containers.sha256(source),
        "classes": json.dumps(names["objects"][0], ensure_ascii=False),
        "attributes": json.dumps(names["attributes"][0], ensure_ascii=False),
        "named": json.dumps(names["objects"][1]),
        "unused": json.dumps(list(converted.unused)),
    }
    target = store.file(settings.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(converted.tensors, temporary, metadata=notes)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return store.read(target)


def _vocabularies(
    settings: FasterRCNN, source: Path, objects: Path | None, attributes: Path | None
) -> dict[vocabulary.Kind, tuple[tuple[str, ...], bool]]:
    """The names of classes and attributes, and whether they are real."""
    count = settings.attributes.count if settings.attributes else 0
    published = settings.vocabulary
    found: dict[vocabulary.Kind, tuple[tuple[str, ...], bool]] = {}
    wanted: tuple[tuple[vocabulary.Kind, Path | None, str | None, int], ...] = (
        ("objects", objects, published.objects, settings.classes),
        ("attributes", attributes, published.attributes, count),
    )
    for kind, given, usual, number in wanted:
        beside = source.parent / usual if usual else None
        path = given if given is not None else beside if beside and beside.is_file() and number else None
        if path is not None:
            found[kind] = vocabulary.read(path, kind, number), True
        elif kind == "objects" and settings.name.startswith(ZOO):
            from stages.regions.published.zoo import class_names

            found[kind] = (
                class_names(settings.name.removeprefix(ZOO), number) or vocabulary.numbered(kind, number),
                True,
            )
        else:
            found[kind] = vocabulary.numbered(kind, number), number == 0
    return found
