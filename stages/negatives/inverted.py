"""The index of one language: captions, vectors and postings, in memory or as memory-mapped files."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stages.negatives.captions import Captions, arrange, distinct_texts
from stages.negatives.kernel import Postings
from stages.negatives.rule import Config
from stages.negatives.vectors import Vectors, vectorise

Array = npt.NDArray[Any]
TABLE = "captions.arrow"


@dataclass(frozen=True)
class Index:
    """All that is needed to mine one language."""

    captions: Captions
    postings: Postings


def build(captions: pa.Table, config: Config) -> Index:
    """Index these captions, all of one language, in memory."""
    arranged = arrange(captions)
    vectors = vectorise(distinct_texts(arranged), arranged.copies, config)
    return Index(_frozen(arranged), invert(vectors))


def invert(vectors: Vectors) -> Postings:
    """The vectors and, for each term, the documents that have it."""
    order = np.argsort(vectors.terms, kind="stable")
    starts = np.searchsorted(vectors.terms[order], np.arange(vectors.num_terms + 1))
    largest = np.zeros(vectors.num_terms)
    np.maximum.at(largest, vectors.terms, vectors.weights)
    arrays = (
        vectors.starts,
        vectors.terms,
        vectors.weights,
        vectors.query_weights,
        starts.astype(np.int64),
        vectors.documents[order].astype(np.int32),
        vectors.weights[order],
        largest,
    )
    for array in arrays:
        array.flags.writeable = False  # as they are when memory-mapped: the kernel is compiled for one kind only
    return Postings(*arrays, prunable=not bool((vectors.weights < 0).any()))


def _frozen(captions: Captions) -> Captions:
    for field in fields(Captions)[1:]:
        getattr(captions, field.name).flags.writeable = False
    return captions


def save(index: Index, folder: Path) -> None:
    """Write the index as one .npy file an array and one Arrow file for the texts."""
    folder.mkdir(parents=True)
    table = index.captions.table
    with pa.OSFile(str(folder / TABLE), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for name, array in _arrays(index).items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def open_index(folder: Path) -> Index:
    """Map the files of `save` into memory: processes of one machine share them, and only what is used is read."""
    table = pa.ipc.open_file(pa.memory_map(str(folder / TABLE))).read_all()
    captions = [_map(folder, field.name) for field in fields(Captions)[1:]]
    postings = [_map(folder, f"postings-{name}") for name in Postings._fields[:-1]]
    prunable = bool(_map(folder, "postings-prunable"))
    return Index(Captions(table, *captions), Postings._make([*postings, prunable]))


def _map(folder: Path, name: str) -> Array:
    return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))  # the kernel knows no memmap


def _arrays(index: Index) -> dict[str, Array]:
    """Every array of the index under the name of its file."""
    captions = {field.name: getattr(index.captions, field.name) for field in fields(Captions)[1:]}
    return captions | {f"postings-{name}": np.asarray(value) for name, value in index.postings._asdict().items()}
