"""`pairloom texts`: lists of texts without images, as a table that training draws rows of text alone from."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib.metadata import version
from itertools import chain, islice
from typing import Any

from formats.lists.files import files
from formats.lists.texts import read_texts
from pairloom.errors import StoreError
from pairloom.store.folder import Header, is_table
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, write_shard
from pipeline.verbs.common import Outcome, add_verb, on_folder, place
from schemas.texts import TEXTS

SHARD_TEXTS = 100_000
# Training draws texts at random and decodes the row group around each: so these are a hundredth of other tables'.
ROW_GROUP_BYTES = 192 << 10


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "texts",
        on_folder(texts, "out"),
        "make a table of texts without images, for rows of text alone",
        "pairloom texts news.txt books.jsonl --out data/texts",
    )
    verb.add_argument(
        "lists",
        nargs="+",
        help="lists with the columns text and lang: csv, tsv, txt (a text a line), json, jsonl or parquet, also "
        ".gz, .bz2, .xz or .zst; folders of lists, or paths of fsspec such as s3://bucket/texts.csv",
    )
    verb.add_argument("--out", type=place, required=True, help="folder or address of the table")
    verb.add_argument("--redo", action="store_true", help="replace the table that is there")


def texts(arguments: argparse.Namespace) -> Outcome:
    """Empty texts are left out, and counted."""
    if is_table(arguments.out) and not arguments.redo:
        raise StoreError("there is a table already", str(arguments.out), "name another folder, or add --redo")
    names = [file for name in arguments.lists for file in files(name)]  # a missing one stops the run before any work
    writer = Writer.open(arguments.out, Header(TEXTS.name, TEXTS.version, "texts", 1, {}, pairloom=version("pairloom")))
    writer.begin([])
    listed = kept = 0
    every = chain.from_iterable(map(read_texts, names))
    while rows := list(islice(every, SHARD_TEXTS)):
        found = [(text, lang) for text, lang in rows if text]
        table = TEXTS.table(text=[text for text, _ in found], lang=[lang for _, lang in found])
        entry = write_shard(arguments.out, shard_name(len(writer.done)), table, ROW_GROUP_BYTES)
        writer.record(replace(entry, rows_in=len(found)))  # what is empty has no row of its own to be rejected
        listed, kept = listed + len(rows), kept + len(found)
    writer.finish()
    facts = {"out": str(arguments.out), "texts": kept, "empty": listed - kept}
    return Outcome(facts, f"{kept} texts, {listed - kept} empty ones left out: {arguments.out}")
