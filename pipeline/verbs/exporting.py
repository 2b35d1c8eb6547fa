"""`pairloom export SHARDS --as LAYOUT`: training shards in the layouts that other code reads."""

from __future__ import annotations

import argparse
from typing import Any

from formats import exports, features
from pipeline.verbs.common import Outcome, add_verb, local, on_tables, place


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "export",
        on_tables(export, "shards"),
        "write shards in the layout that other training code reads",
        "pairloom export data/shards --as uniter-lmdb --out uniter",
    )
    verb.add_argument("shards", type=place, help="folder or address of training shards, or of a table of regions")
    verb.add_argument(
        "--as", dest="layout", required=True, choices=(*features.names(), *exports.names()), help="layout to write"
    )
    verb.add_argument("--out", type=local, required=True, help="new folder; the same command resumes there")
    verb.add_argument("--key", help="column of the list that names pictures (default: key, image_id or id of the list)")
    verb.add_argument("--name", default="pairloom", help="of the collection, in files and cards (default: pairloom)")
    verb.add_argument("--shard-bytes", type=int, default=256 << 20, help="of a tar or Parquet file (default: 256 MB)")
    verb.add_argument("--with-features", action="store_true", help="webdataset and hf also get boxes and features")
    verb.add_argument("--energon", action="store_true", help="webdataset also gets .nv-meta for Megatron-Energon")
    verb.add_argument("--vocab", default="", help="BERT's vocab.txt or a tokenizer.json, for uniter-txt")
    verb.add_argument("--workers", type=int, help="processes that encode (default: as many as pay)")
    verb.add_argument("--no-check", action="store_true", help="do not read everything back afterwards")
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def export(arguments: argparse.Namespace) -> Outcome:
    """Write, read back, list."""
    from formats.exports.settings import Settings
    from pipeline.features import outgoing

    asked = outgoing.Asked(
        source=arguments.shards,
        layout=arguments.layout,
        out=arguments.out,
        key=arguments.key,
        settings=Settings(
            name=arguments.name,
            shard_bytes=arguments.shard_bytes,
            with_features=arguments.with_features,
            energon=arguments.energon,
            vocabulary=arguments.vocab,
        ),
        check=not arguments.no_check,
        workers=arguments.workers,
        quiet=arguments.quiet,
    )
    done = outgoing.export(asked)
    lines = [f"{place}: {count} pictures" for place, count in done.folders.items()]
    said = f"{done.checked} read back and equal" if asked.check else "not read back (--no-check)"
    resumed = f", {done.resumed} shards of an earlier run kept" if done.resumed else ""
    left_out = f", {done.left_out} left out, for which it has no place" if done.left_out else ""
    lines.append(f"export: {sum(done.folders.values())} pictures as {asked.layout}, {said}{left_out}{resumed}")
    facts = {"folders": done.folders, "checked": done.checked, "left_out": done.left_out, "resumed": done.resumed}
    return Outcome(facts, "\n".join(lines))
