"""The pictures of the report: a few, chosen by a seed, from every source in turn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby

import pyarrow as pa
from markupsafe import Markup

from inspection import drawing
from inspection.dataset import Dataset
from inspection.examples import Caption, Example, examples
from inspection.tables import column_names
from pairloom.store.folder import Folder

PICTURES = 24  # shown, whatever the size of the data
SHARDS_READ = 6  # for them
NEGATIVES = 4  # shown for each caption
TAGS = 12  # shown for each picture


@dataclass(frozen=True)
class Card:
    """One picture for the page."""

    example: Example
    image: str  # a data URI
    boxes: Markup
    languages: list[tuple[str, list[Caption]]]  # captions by language, in the order in which they come
    tags: list[tuple[str, int, float]]
    drawn: int  # regions that have a box in the overlay
    opened: Caption | None  # the first caption that has negatives, whose list is open from the start


def gallery(found: Dataset, seed: int) -> list[Card]:
    """Up to PICTURES cards. The same for the same data and seed."""
    folder = next((table for table in found.best() if "image" in column_names(table.table)), None)
    if folder is None:
        return []
    cards = []
    for name, image_ids in _choose(folder, seed):
        cards += [_card(example) for example in examples(found, name, image_ids)]
    return sorted(cards, key=lambda card: _draw(seed, card.example.image_id))[:PICTURES]


def _draw(seed: int, key: str) -> str:
    """A number that looks random but is the same on every machine."""
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()


def _choose(folder: Folder, seed: int) -> list[tuple[str, list[bytes]]]:
    """(shard, image_ids) of the pictures: from each source of these shards one, then a second, and so on."""
    shards = sorted((entry.name for entry in folder.shards if entry.rows), key=lambda name: _draw(seed, name))
    by_source: dict[str, list[tuple[str, bytes]]] = {}
    for name in shards[:SHARDS_READ]:
        table: pa.Table = folder.read(name, ["image_id", "source"])
        for image_id, source in zip(table["image_id"].to_pylist(), table["source"].to_pylist(), strict=True):
            by_source.setdefault(source or "", []).append((name, image_id))
    ranked = []
    for source, items in sorted(by_source.items()):
        items.sort(key=lambda item: _draw(seed, item[1].hex()))
        ranked += [(place, source, item) for place, item in enumerate(items[:PICTURES])]
    chosen = sorted(item for _, _, item in sorted(ranked)[:PICTURES])
    return [(name, [image_id for _, image_id in items]) for name, items in groupby(chosen, key=lambda item: item[0])]


def _card(example: Example) -> Card:
    languages: dict[str, list[Caption]] = {}
    for caption in example.captions:
        languages.setdefault(caption.lang, []).append(caption)
    return Card(
        example,
        drawing.data_uri(example.image),
        drawing.overlay(example),
        list(languages.items()),
        list(example.tags[:TAGS]),
        min(len(example.regions), drawing.SHOWN),
        next((caption for caption in example.captions if caption.negatives), None),
    )
