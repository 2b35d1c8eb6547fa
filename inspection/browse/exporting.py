"""A selection as a file: a list, a table for curate's `exclude`, or a command."""

from __future__ import annotations

import io
import shlex
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from inspection.browse.data import Data, Table
from inspection.browse.pages_of_rows import expressions
from inspection.browse.selection import Selection
from inspection.browse.site import Answer, Query, Sent, Site
from pairloom.errors import InputError

EXPORTED = 1_000_000  # rows of a selection that is written out


def export(site: Site, query: Query) -> Answer:
    """The selection as a list, as a table for curate's `exclude`, or as the command that filters shards."""
    _, data = site.dataset(query)
    table = data.table(query.get("t") or data.default_table())
    selection = Selection.read(query)
    condition, order = expressions(data, table, selection)
    kind = query.get("as", "list")
    if kind == "command":
        return Sent((command(data, table, condition) + "\n").encode(), "text/plain; charset=utf-8")
    scan = site.scans.get(data, table, condition or "true", order)
    scan.wait(3600)
    if scan.error:
        raise scan.error
    if scan.count > EXPORTED:
        fix = "narrow the selection, or filter the shards with the command"
        raise InputError(f"the selection has {scan.count:,} rows, and {EXPORTED:,} can be written", "the form", fix)
    places = scan.places(0, EXPORTED, 0)
    columns = [name for name in ("image_id", "url") if name in table.columns]
    rows = [
        row for start in range(0, len(places), 5000) for row in data.rows(table, places[start : start + 5000], columns)
    ]
    if kind == "exclude":
        return Sent(
            exclude_table([row["image_id"] for row in rows if "image_id" in row]),
            "application/octet-stream",
            "exclude.parquet",
        )
    lines = [
        "\t".join(v.hex() if isinstance(v, bytes) else str(v) for v in (row[name] for name in columns)) for row in rows
    ]
    return Sent(
        "\n".join(["\t".join(columns), *lines, ""]).encode(),
        "text/tab-separated-values; charset=utf-8",
        "selection.tsv",
    )


def command(data: Data, table: Table, condition: str) -> str:
    """The command that keeps these rows of the training shards, for the shell."""
    shards = data.found.tables.get("shards")
    place = str(shards.path if shards else table.folder.path)
    where = condition.replace("\n", " ") or "true"
    return f"pairloom shards filter {shlex.quote(place)} --where {shlex.quote(where)} --out filtered"


def exclude_table(ids: Sequence[bytes]) -> bytes:
    """A Parquet file that `curate.exclude` takes."""
    sink = io.BytesIO()
    pq.write_table(pa.table({"image_id": pa.array(ids, pa.binary(16))}), sink)
    return sink.getvalue()
