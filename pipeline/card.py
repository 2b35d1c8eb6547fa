"""The card of a folder of training shards: dataset.json for programs and README.md for people, from the shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from formats.exports.hf import head_of
from inspection.starter import starter_note
from pairloom.layout import FEATURE_DTYPE
from pairloom.store.folder import COMPANIONS, Folder
from pairloom.store.writing import replace_text
from pairloom.table import Blob
from schemas.regions import REGIONS
from schemas.shards import SHARDS

FACTS = ("detector", "checkpoint", "feature_width", FEATURE_DTYPE, "prob_width")  # short ones of the file metadata

# Texts are most of what captions take, and the card needs none, so it names the parts of them as Parquet does.
COUNTED = ("licence", "source", *(f"captions.list.element.{key}" for key in ("lang", "kind")))


def write_card(folder: Folder) -> None:
    """Describe a finished folder, so that it can be read without pairloom. The same shards give the same bytes."""
    facts = describe(folder)
    name, readme = COMPANIONS
    if (folder.path / Path(name).name).exists():  # pairloom 0.1.0 wrote it there, where it hinders other readers
        for old in COMPANIONS:
            (folder.path / Path(old).name).unlink(missing_ok=True)
    texts = {name: json.dumps(facts, indent=1, ensure_ascii=False, sort_keys=True) + "\n", readme: markdown(facts)}
    for file, text in texts.items():
        if not (folder.path / file).exists() or (folder.path / file).read_text(encoding="utf-8") != text:
            replace_text(folder.path / file, text)  # a folder that cannot be written may have the card already


def describe(folder: Folder) -> dict[str, Any]:
    """Everything that the card says, as JSON values."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in ("licence", "source", "lang", "kind")}
    splits: dict[str, Counter[str]] = {}
    for name, table in folder.tables(COUNTED):
        captions = pc.list_flatten(table["captions"])
        split = splits.setdefault(name.partition("-")[0], Counter())
        split.update(shards=1, images=table.num_rows, captions=len(captions))
        for key in ("licence", "source"):
            counted[key].update(_counts(table[key]))
        for key in ("lang", "kind"):
            counted[key].update(_counts(pc.struct_field(captions, key)))
    metadata = folder.metadata(folder.shards[0].name) if folder.shards else {}
    header = asdict(folder.header)
    return {
        "format": "pairloom training shards",
        "version": folder.header.table_version,
        "row": SHARDS.row,
        "columns": list(_columns(metadata)),
        "splits": {name: dict(counts) for name, counts in splits.items()},
        "licences": dict(counted["licence"]),
        "sources": dict(counted["source"]),
        "languages": dict(counted["lang"]),
        "kinds": dict(counted["kind"]),
        "regions": {name: metadata[name] for name in FACTS if name in metadata},
        "vocabularies": {name: len(json.loads(metadata.get(name, "[]"))) for name in REGIONS.metadata[-2:]},
        "notes": [note] if (note := starter_note(metadata)) else [],
        "made_by": {name: header[name] for name in ("pairloom", "stage", "stage_version", "config", "resources")},
        "shards": [
            {"file": f"{e.name}.parquet", "rows": e.rows, "bytes": e.bytes, "sha256": e.sha256} for e in folder.shards
        ],
    }


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    return {str(row["values"] or "unknown"): row["counts"] for row in pc.value_counts(column).to_pylist()}


def _columns(metadata: dict[str, str]) -> Iterator[dict[str, str]]:
    for column in SHARDS.columns:
        kind = column.type
        stored = str(kind.type) if isinstance(kind, Blob) else str(kind)
        facts = {"name": column.name, "type": stored, "meaning": column.meaning}
        if isinstance(kind, Blob):
            facts |= {"numbers": kind.number(metadata).str, "shape": ", ".join(map(str, kind.shape))}
        yield facts


def markdown(facts: dict[str, Any]) -> str:
    """The README: what it is, what is in it, how to read it in three lines, and a head for the Hugging Face hub."""
    splits = [
        f"| {name} | {s['shards']:,} | {s['images']:,} | {s['captions']:,} |" for name, s in facts["splits"].items()
    ]
    columns = [
        f"| `{c['name']}` | `{c.get('numbers', c['type'])}`{_shape(c)} | {c['meaning']} |" for c in facts["columns"]
    ]
    lines = [
        _head(facts),
        "# Training shards",
        "",
        f"Image-text pairs with regions, tags and hard negatives, written by pairloom {facts['made_by']['pairloom']}, "
        f"format version {facts['version']}. One row is {facts['row']}. `dataset.json` says the same for programs,",
        "with the SHA-256 of every file; `manifest.json` is pairloom's own list. `.*.index` only speeds its loader up.",
        "On the Hugging Face hub, this file belongs beside the shards.",
        "",
        "| split | shards | images | captions |",
        "|---|---|---|---|",
        *splits,
        "",
        f"Licences: {_listed(facts['licences'])}. Sources: {_listed(facts['sources'])}. "
        f"Languages: {_listed(facts['languages'])}. Kinds of captions: {_listed(facts['kinds'])}.",
        f"Regions: {', '.join(f'{name} {value}' for name, value in facts['regions'].items())}; "
        "the names of classes and attributes are JSON lists in each file's metadata.",
        *facts["notes"],
        "",
        "```python",
        "import numpy, pyarrow.parquet as pq",
        'row = pq.read_table("train-00000.parquet").to_pylist()[0]  # in the folder above this file',
        f'features = numpy.frombuffer(row["features"], "{facts["regions"].get(FEATURE_DTYPE, "<f2")}")',
        'features = features.reshape(row["num_regions"], -1)',
        "```",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        *columns,
        "",
    ]
    return "\n".join(lines)


def _head(facts: dict[str, Any]) -> str:
    """What the Hugging Face hub reads of a card."""
    licences = [name for name in facts["licences"] if name != "unknown"]
    head = head_of("Training shards", licences, {split: f"{split}-*.parquet" for split in facts["splits"]})
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n"


def _shape(column: dict[str, str]) -> str:
    return f" [{column['shape']}] as bytes" if "shape" in column else ""


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(counts.items())) or "unknown"
