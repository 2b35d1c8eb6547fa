"""Small datasets and clusters for the executor's tests."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from distributed import LocalCluster

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


def cluster_of(workers: int) -> LocalCluster:
    """Processes of one thread on loopback.

    Without an address of a dashboard Dask takes port 8787 of every interface.
    """
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
    )
