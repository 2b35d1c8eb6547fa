"""Hard negatives that may be false: captions that fit the picture as well as its own, by signs that can be counted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from inspection.browse.cards import Card, Described, Negative
from inspection.browse.data import Data, batches, literals
from pairloom.store.folder import Folder


@dataclass(frozen=True)
class Doubt:
    """A negative with what makes it doubtful: `shared` of the true picture's `of` tags are its picture's, too."""

    card: Card
    caption: Described
    negative: Negative
    shared: tuple[str, ...]
    of: int

    @property
    def weight(self) -> tuple[bool, float, float]:
        """The most doubtful first: the same words, then the share of tags, then the similarity."""
        return self.negative.same_words, len(self.shared) / self.of if self.of else 0.0, self.negative.similarity

    @property
    def doubtful(self) -> bool:
        return self.negative.same_words or (self.of > 0 and len(self.shared) == self.of)


def doubts(data: Data, tags: Folder | None, cards: Sequence[Card]) -> list[Doubt]:
    """Every negative of these rows, the most doubtful first. tags: the table of them, if there is one."""
    ids = {bytes.fromhex(one.image_id) for card in cards for caption in card.captions for one in caption.hard}
    named = tags_of(data, tags, ids) if tags else {}
    found = []
    for card in cards:
        own = {text for text, _ in card.tags}
        for caption in card.captions:
            for negative in caption.hard:
                shared = tuple(sorted(own & named.get(negative.image_id, frozenset())))
                found.append(Doubt(card, caption, negative, shared, len(own)))
    return sorted(found, key=lambda doubt: doubt.weight, reverse=True)


def tags_of(data: Data, folder: Folder, ids: Collection[bytes]) -> dict[str, frozenset[str]]:
    """image_id in hex -> the texts of its tags, in batches of shards until all are found."""
    found: dict[str, frozenset[str]] = {}
    missing = set(ids)
    for shards in batches(folder) if missing else ():
        files = [str(folder.here(name)) for name in shards]
        texts = "SELECT image_id, [t.text for t in tags] AS texts FROM read_parquet(?)"
        sql = f"{texts} WHERE image_id IN ({literals(missing)})"
        for row in data.query(sql, [files]):
            found[row["image_id"].hex()] = frozenset(row["texts"] or ())
            missing.discard(row["image_id"])
        if not missing:
            break
    return found
