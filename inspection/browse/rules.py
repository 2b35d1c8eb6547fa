"""What the rules of curating would leave out, before they run: the stage itself on the first rows of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pairloom.store.folder import Folder

OWN = "as this dataset was made"
# Settings with a slider: name, least, most, step, what it is.
SLIDERS = (
    ("min_side", 1, 1024, 1, "least pixels of the shorter side"),
    ("max_aspect", 1, 10, 0.1, "most longer side / shorter side"),
    ("min_chars", 1, 200, 1, "least characters of a caption"),
    ("min_words", 0, 50, 1, "least words of a caption"),
    ("max_words", 1, 256, 1, "most words of a caption"),
    ("max_repetition", 0, 1, 0.05, "most repeated words of a caption, as a share"),
    ("min_letters", 0, 1, 0.05, "least letters of a caption, as a share"),
    ("max_distance", 0, 16, 1, "bits by which near duplicates differ"),
    ("min_similarity", -1, 1, 0.01, "least cosine of picture and caption, by the stage score"),
    ("min_score", -1, 1, 0.01, "least score that another tool gave, where the settings name its column"),
)


@dataclass(frozen=True)
class Verdict:
    """Why a row would be left out."""

    shard: str
    key: str  # image_id in hex
    reason: str
    detail: str


class Curating(Protocol):
    """The stage `curate`, as far as looking needs it. The command hands it in, since stages are above this room."""

    stage: str  # that it reads

    def profiles(self) -> Sequence[str]:
        """The names of the rules of published data sets."""

    def settings(self, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """All settings of a section, those of its profile among them. Raises ConfigError."""

    def left_out(
        self, tables: Mapping[str, Folder], shards: Sequence[str], section: Mapping[str, Any]
    ) -> Iterator[Verdict]:
        """What the stage would leave out of these shards, as if they were all there is. Raises InputError."""


@dataclass(frozen=True)
class Comparison:
    """Two sets of rules on the same rows."""

    rows: int
    counts: tuple[Counter[str], Counter[str]]  # rows left out by reason
    only: tuple[list[Verdict], list[Verdict]]  # left out by the first alone, by the second alone

    def reasons(self, side: int) -> list[tuple[str, int]]:
        """Why one side leaves out what the other keeps, the most frequent first."""
        return Counter(verdict.reason for verdict in self.only[side]).most_common()


def compare(
    curating: Curating,
    tables: Mapping[str, Folder],
    shards: Sequence[str],
    sections: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Comparison:
    """Rows that one section leaves out and the other keeps. A caption that goes without its image is not counted."""
    found = [list(curating.left_out(tables, shards, section)) for section in sections]
    keys = [{(verdict.shard, verdict.key) for verdict in verdicts} for verdicts in found]
    rows = sum(entry.rows for entry in tables[curating.stage].shards if entry.name in set(shards))
    counts = tuple(Counter(verdict.reason for verdict in verdicts) for verdicts in found)
    only = [
        [verdict for verdict in verdicts if (verdict.shard, verdict.key) not in others]
        for verdicts, others in zip(found, reversed(keys), strict=True)
    ]
    return Comparison(rows, (counts[0], counts[1]), (only[0], only[1]))


def section_of(name: str, own: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """The section that a profile's name, or OWN, and the form's sliders make."""
    section: dict[str, Any] = dict(own) if name == OWN else {"profile": name}
    kinds = {slider[0]: slider[3] for slider in SLIDERS}
    for key, text in changes.items():
        section[key] = int(text) if kinds[key] == 1 else float(text)
    return section
