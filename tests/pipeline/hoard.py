"""A stage that fills the disk, as it indexes or as it writes its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairloom.table import Column, Table
from stages.contract import Corpus

INPUTS = ("urls",)
OUTPUT = Table("hoard", 1, "one url", (Column("url", pa.string(), "as listed"), Column("noise", pa.string(), "of it")))
VERSION = 1
MUCH = 1 << 18  # numbers of 8 bytes


@dataclass(frozen=True)
class Config:
    where: str = "index"


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    if config.where == "index":
        np.arange(MUCH).tofile(folder / "numbers")


def setup(config: Config, folder: Path) -> Config:
    return config


def process(urls: pa.Table, tools: Config) -> pa.Table:
    random = np.random.default_rng(0)
    noise = [random.bytes(1 << 17).hex() if tools.where == "write" else "" for _ in range(urls.num_rows)]
    return OUTPUT.table(url=urls["url"], noise=noise)
