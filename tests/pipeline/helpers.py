"""Small datasets for the executor's tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from formats.lists import Part
from pipeline.listing import write_list
from schemas.urls import URLS


@dataclass(frozen=True)
class ListConfig:
    """What the cutting of a list needs of the sample's settings."""

    urls: str = "list.csv"
    rows_per_shard: int = 4
    unite: bool = True


def listed(texts: list[str]) -> list[Part]:
    return [Part(table_of(texts))]


def table_of(texts: list[str]) -> pa.Table:
    return URLS.table(
        url=[f"http://host/{row}" for row in range(len(texts))],
        captions=[[{"text": text, "lang": "en"}] for text in texts],
        extra=[[] for _ in texts],
    )


def write_texts(texts: list[str], data: Path, redo: bool = False) -> None:
    write_list(listed(texts), ListConfig(), data, redo)


def hashes(folder: Path) -> dict[str, str]:
    """Relative name -> SHA-256 of every file below, for byte-for-byte comparison."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
