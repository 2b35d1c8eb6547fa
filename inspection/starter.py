"""What is only a demo: regions of the starter detector, which was trained on drawings. One line says so."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from pairloom.store.folder import Folder

STARTER = "starter"  # the detector that ships, as the metadata of regions and shards name it


def starter_note(metadata: Mapping[str, str]) -> str:
    """Of a file's metadata. "" where its regions are of another detector, or it has none."""
    if metadata.get("detector") != STARTER:
        return ""
    classes = len(json.loads(metadata.get("classes", "[]")))
    return f"{STARTER}: {classes:,} classes, trained on drawings; for real work add a published detector"


def starter_notes(folders: Iterable[Folder], sound: Collection[Path] | None = None) -> list[str]:
    """The note of the first shard of each table that has regions, once. sound: files that may be read, if not all."""
    notes = []
    for folder in folders:
        first = next((entry.name for entry in folder.shards if entry.rows), None)
        if folder.table in ("regions", "shards") and first and (sound is None or folder.file(first) in sound):
            notes.append(starter_note(folder.metadata(first)))
    return list(dict.fromkeys(filter(None, notes)))
