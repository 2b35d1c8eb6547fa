"""The folder of converted checkpoints: where it is, what its files hold, and how a detector is added to it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from pairloom.errors import InputError
from stages.regions.catalogue import ZOO
from stages.regions.importing import vocabulary
from stages.regions.published.settings import FasterRCNN

if TYPE_CHECKING:  # to list what is there should not take the seconds that torch does
    from torch import Tensor

FORM = "pairloom-detector-1"  # raise the number when the same name means other weights


@dataclass(frozen=True)
class Stored:
    """A converted checkpoint."""

    path: Path
    tensors: dict[str, Tensor]
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    source: str  # the published file's name
    source_sha256: str
    layout: str
    named: bool  # False where no vocabulary was given and names are stand-ins


def folder() -> Path:
    """$PAIRLOOM_DETECTORS, or ~/.cache/pairloom/detectors. Weights belong to a machine, not to a dataset's settings."""
    return Path(os.environ.get("PAIRLOOM_DETECTORS") or Path.home() / ".cache" / "pairloom" / "detectors")


def file(name: str) -> Path:
    """Where the converted checkpoint of this detector lies, if it was added."""
    stem = name.removeprefix(ZOO).removesuffix(".yaml").replace("/", "--") if name.startswith(ZOO) else Path(name).stem
    return folder() / f"{stem}.safetensors"


def add(settings: FasterRCNN, source: Path, objects: Path | None = None, attributes: Path | None = None) -> Stored:
    """Convert a published checkpoint and put it into the folder, whole or not at all.

    Vocabularies not named are looked for beside the checkpoint under their published names.
    """
    from safetensors.torch import save_file

    from stages.regions.importing import containers
    from stages.regions.importing.convert import convert

    converted = convert(containers.read(source), settings, str(source))
    names = _vocabularies(converted.settings, source, objects, attributes)
    notes = {
        "form": FORM,
        "detector": settings.name,
        "layout": converted.layout,
        "source": source.name,
        "source_sha256": containers.sha256(source),
        "classes": json.dumps(names["objects"][0], ensure_ascii=False),
        "attributes": json.dumps(names["attributes"][0], ensure_ascii=False),
        "named": json.dumps(names["objects"][1]),
        "unused": json.dumps(list(converted.unused)),
    }
    target = file(settings.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    try:
        save_file(converted.tensors, temporary, metadata=notes)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return read(target)


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


def read(path: Path, with_tensors: bool = True) -> Stored:
    """A converted checkpoint. Raises InputError if it is missing, damaged, or not one that `detector add` wrote."""
    cure = "run `pairloom detector add NAME FILE` with the published file"
    if not path.is_file():
        raise InputError("the detector's checkpoint is not there", where=str(path), fix=cure)
    try:
        with safe_open(path, framework="pt" if with_tensors else "np") as opened:
            notes = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"the detector's checkpoint cannot be read: {error}", where=str(path), fix=cure) from error
    if notes.get("form") != FORM:
        raise InputError("it is no checkpoint that `detector add` wrote", where=str(path), fix=cure)
    return Stored(
        path=path,
        tensors=tensors,
        classes=tuple(json.loads(notes["classes"])),
        attributes=tuple(json.loads(notes["attributes"])),
        source=notes["source"],
        source_sha256=notes["source_sha256"],
        layout=notes["layout"],
        named=bool(json.loads(notes["named"])),
    )
