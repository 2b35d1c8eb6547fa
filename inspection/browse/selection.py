"""What of a table is shown, as the address says it: fields of the form, a condition in SQL, and an order."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlencode

import duckdb

from pairloom.errors import InputError

ORDERS = {
    "": "as in the table",
    "class": "most regions of the class first",
    "regions": "most regions first",
    "captions": "most captions first",
    "large": "largest picture first",
    "small": "smallest picture first",
    "score": "surest region first",
}
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Selection:
    """The fields of the form. "" is any. Each name is the one in the address."""

    words: str = ""
    split: str = ""
    source: str = ""
    licence: str = ""
    lang: str = ""
    kind: str = ""
    tag: str = ""
    cls: str = ""
    attribute: str = ""
    at_least: str = ""  # regions of the class
    score: str = ""  # of a region, 0 to 1
    min_regions: str = ""
    max_regions: str = ""
    min_side: str = ""
    max_side: str = ""
    where: str = ""
    order: str = ""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Selection:
        return cls(**{item.name: query.get(item.name, "").strip() for item in fields(cls)})

    @property
    def empty(self) -> bool:
        return self == Selection()

    def address(self, **more: Any) -> str:
        """The query string of this selection; more: further parameters."""
        return urlencode({key: value for key, value in (vars(self) | more).items() if value not in ("", None)})

    def condition(self, columns: Mapping[str, Any], vocabulary: Mapping[str, list[str]]) -> str:
        """SQL on the table's columns, which `pairloom shards filter --where` takes, too. "" keeps every row.

        Raises InputError where a field is no number, names a class that there is none of, or needs a column that the
        table and those beside it lack, or where the SQL is no condition.
        """
        parts = [*self._plain(), *self._captions(), *self._regions(vocabulary)]
        used = {name for part in parts for name in WORD.findall(part)}
        lacking = {"split", "source", "licence", "captions", "tags", "class_ids", "num_regions"} & used - set(columns)
        if lacking:
            raise InputError(f"these tables have no {', '.join(sorted(lacking))}", "the form", "empty that field")
        if self.where:
            refuse_statement(self.where)
            parts.append(f"({self.where}\n)")  # after a line break: it may end in a comment
        return " AND ".join(parts)

    def _plain(self) -> list[str]:
        made = [
            f"{name} = {quoted(getattr(self, name))}" for name in ("split", "source", "licence") if getattr(self, name)
        ]
        for name, column in (("regions", "num_regions"), ("side", "least(width, height)")):
            if low := getattr(self, f"min_{name}"):
                made.append(f"{column} >= {number(low, f'min_{name}')}")
            if high := getattr(self, f"max_{name}"):
                made.append(f"{column} <= {number(high, f'max_{name}')}")
        if self.tag:
            made.append(f"len([t for t in tags if t.text = {quoted(self.tag)}]) > 0")
        return made

    def _captions(self) -> list[str]:
        tests = [f"contains(lower(c.text), {quoted(word.lower())})" for word in self.words.split()]
        tests += [f"c.{name} = {quoted(getattr(self, name))}" for name in ("lang", "kind") if getattr(self, name)]
        return [f"len([c for c in captions if {' AND '.join(tests)}]) > 0"] if tests else []

    def _regions(self, vocabulary: Mapping[str, list[str]]) -> list[str]:
        made = []
        if self.cls:
            test = f"{self.counted(vocabulary)} >= {number(self.at_least or '1', 'at_least')}"
            made.append(f"contains(hex(class_ids), '{_code(self.cls, vocabulary, 'classes')}') AND {test}")
        if self.attribute:
            made.append(f"{self._count('attribute', _code(self.attribute, vocabulary, 'attributes'))} >= 1")
        if self.score and not (self.cls or self.attribute):
            made.append(f"len([i for i in range(0, num_regions::BIGINT) if {_above('class', self.score)}]) >= 1")
        return made

    def counted(self, vocabulary: Mapping[str, list[str]]) -> str:
        """SQL: how many regions of the class a row has, of the score at least."""
        return self._count("class", _code(self.cls, vocabulary, "classes"))

    def _count(self, kind: str, code: str) -> str:
        test = f"hex({kind}_ids[2 * i + 1 : 2 * i + 2]) = '{code}'"
        test += f" AND {_above(kind, self.score)}" if self.score else ""
        return f"len([i for i in range(0, num_regions::BIGINT) if {test}])"

    def ordering(self, vocabulary: Mapping[str, list[str]]) -> str:
        """SQL: a number by which the largest comes first. "" for the order of the table."""
        if self.order == "class":
            if not self.cls:
                raise InputError("there is no class to order by", "order", "name a class, or choose another order")
            return self.counted(vocabulary)
        ways = {
            "regions": "num_regions",
            "captions": "len(captions)",
            "large": "width::BIGINT * height",
            "small": "-width::BIGINT * height",
            "score": bits("class_scores", "0"),
        }
        if self.order and self.order not in ways:
            raise InputError(
                f"there is no order {self.order!r}", "order", f"name one of {', '.join(filter(None, ORDERS))}"
            )
        return ways.get(self.order, "")


def _code(name: str, vocabulary: Mapping[str, list[str]], kind: str) -> str:
    """The bytes of a class's number as they stand in the table, in hex."""
    names = vocabulary.get(f"names of {kind}", [])
    if name not in names:
        near = next((other for other in names if other.startswith(name)), names[0] if names else "none")
        raise InputError(
            f"there is no {name!r} among the {len(names):,} {kind}", "the form", f"name one, such as {near}"
        )
    return struct.pack("<H", names.index(name)).hex().upper()


def _above(kind: str, score: str) -> str:
    """SQL: the i-th score is at least this. Bits of floats from 0 on are in the order of the floats."""
    least: int = struct.unpack("<I", struct.pack("<f", float(number(score, "score"))))[0]
    return f"{bits(f'{kind}_scores', 'i')} >= {least}"


def bits(column: str, place: str) -> str:
    """SQL: the bits of a little-endian float32 of a blob, as a whole number."""
    digits = " || ".join(f"hex({column}[4 * {place} + {byte} : 4 * {place} + {byte}])" for byte in (4, 3, 2, 1))
    return f"('0x' || {digits})::BIGINT"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def number(text: str, name: str) -> str:
    """The text if it is a number, as SQL takes it."""
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{text!r} is no number", name, "write one, such as 3 or 0.5") from None
    return str(int(value)) if value == int(value) else repr(value)


def refuse_statement(condition: str) -> None:
    """Raise InputError unless the text is one condition: it goes into a SELECT, and nothing else may come of it."""
    try:
        statements = duckdb.extract_statements(f"SELECT ({condition}\n)")
    except duckdb.Error as error:
        fix = "write a condition on the columns, such as width > 500 AND num_regions >= 10"
        raise InputError(f"DuckDB says: {error}", condition, fix) from error
    if len(statements) != 1 or not statements[0].type.name.startswith("SELECT"):
        raise InputError("that is more than a condition", condition, "write a condition on the columns alone")
