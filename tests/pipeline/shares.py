"""A small stage with an index of the whole corpus: of each text, its share of all letters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pairloom.table import Column, Table
from stages.contract import Corpus, Scope

INPUTS = ("urls",)
OUTPUT = Table("shares", 1, "one url", (Column("url", pa.string(), "as listed"), Column("share", pa.float64(), "0–1")))
VERSION = 1
SCOPE: Scope = "all"
TOTAL = "total.json"


@dataclass(frozen=True)
class Config:
    times: int = 1


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    (folder / "deep").mkdir()
    total = sum(sum(letters(table)) for _, table in corpus.tables("urls", ["captions"]))
    (folder / "deep" / TOTAL).write_text(json.dumps(total), encoding="utf-8")


def setup(config: Config, folder: Path) -> float:
    total: int = json.loads((folder / "deep" / TOTAL).read_text(encoding="utf-8"))
    return config.times / total


def process(urls: pa.Table, tools: float) -> pa.Table:
    return OUTPUT.table(url=urls["url"], share=[length * tools for length in letters(urls)])


def letters(urls: pa.Table) -> Sequence[int]:
    return [len(captions[0]["text"]) for captions in urls["captions"].to_pylist()]
