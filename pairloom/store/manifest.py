"""The manifest of a table: JSON, with its shards in a Parquet file beside it where they are many.

A small table's `manifest.json` lists its shards. Beyond INLINE of them it has `listed` instead: the name of a file of
ASIDE, its SHA-256 and how many shards it lists. So the manifest's own hash stands for every shard in both forms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import StoreError
from pairloom.store.entries import Columns, Entry, Header, Shards, in_order

INLINE = 10_000  # shards that the JSON lists itself. Its text is read in some 60 ms then
LISTED = "listed"  # key of the JSON: where the shards are listed instead
PREFIX = "manifest-"  # of the names of such files, the rest is their SHA-256
REJECTED = pa.map_(pa.string(), pa.int64())
COLUMNS = pa.schema(
    {
        **dict.fromkeys(("name", "sha256", "fingerprint"), pa.string()),
        **dict.fromkeys(("rows", "bytes", "rows_in"), pa.int64()),
        "rejected": REJECTED,
    }
)


T = TypeVar("T", Header, Entry)
# Of each key, what JSON may hold there.
TYPES: dict[type[Any], dict[str, type]] = {
    Header: {
        **dict.fromkeys(("table", "stage", "pairloom"), str),
        **dict.fromkeys(("table_version", "stage_version"), int),
        **dict.fromkeys(("config", "resources"), dict),
    },
    Entry: {
        **dict.fromkeys(("name", "sha256", "fingerprint"), str),
        **dict.fromkeys(("rows", "bytes", "rows_in"), int),
        "rejected": dict,
    },
}


def manifest_json(header: Header, shards: Iterable[Entry]) -> str:
    """The manifest of a finished table, byte for byte the same whoever wrote the shards in whatever order."""
    return _json(vars(header) | {"shards": [vars(entry) for entry in in_order(shards)]})


def manifest_files(header: Header, shards: Iterable[Entry]) -> tuple[str, dict[str, bytes]]:
    """(the manifest, files of ASIDE that it needs: name -> content)."""
    entries = in_order(shards)
    if len(entries) <= INLINE:
        return manifest_json(header, entries), {}
    columns = {name: [getattr(entry, name) for entry in entries] for name in COLUMNS.names if name != "rejected"}
    columns["rejected"] = [sorted(entry.rejected.items()) for entry in entries]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, COLUMNS), sink, compression="zstd", use_dictionary=False, write_page_checksum=True)
    content = sink.getvalue().to_pybytes()
    sha256 = hashlib.sha256(content).hexdigest()
    listed = {"file": f"{PREFIX}{sha256[:16]}.parquet", "sha256": sha256, "shards": len(entries)}
    return _json(vars(header) | {LISTED: listed}), {str(listed["file"]): content}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def file_of(path: Path) -> str | None:
    """The name of the file beside this manifest that lists its shards, if it needs one. Raises StoreError."""
    listed = parse(path, text_of(path)).get(LISTED)
    return None if listed is None else _listed(path, listed)["file"]


def read_manifest(path: Path) -> tuple[Header, Shards]:
    """Raises StoreError where the manifest, or the file that lists its shards, is missing or not whole."""
    content = parse(path, text_of(path))
    entries, listed = content.pop("shards", None), content.pop(LISTED, None)
    if listed is not None:
        return built(Header, content, path), _read_listed(path, _listed(path, listed))
    if not isinstance(entries, list):
        raise not_a_manifest(path, "it lists no shards")
    return built(Header, content, path), Shards(in_order(built(Entry, entry, path) for entry in entries))


def _listed(path: Path, listed: Any) -> dict[str, Any]:
    file = listed.get("file") if isinstance(listed, dict) else None
    if not isinstance(file, str) or Path(file).name != file or not file.startswith(PREFIX):
        raise not_a_manifest(path, f"{LISTED} is {str(listed)[:40]!r}")
    return dict(listed)


def _read_listed(path: Path, listed: Mapping[str, Any]) -> Shards:
    file = path.with_name(listed["file"])
    try:
        content = file.read_bytes()
    except OSError as error:
        raise not_a_manifest(file, f"the file that lists its shards: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != listed.get("sha256"):
        raise not_a_manifest(file, "the file that lists its shards has another SHA-256")
    columns = Columns(content)
    try:
        schema = columns.schema
    except (OSError, pa.ArrowException) as error:
        raise not_a_manifest(file, str(error)) from error
    if not schema.equals(COLUMNS):
        raise not_a_manifest(file, f"its columns are {', '.join(schema.names)}")
    return Shards(columns)


def read_journal(path: Path) -> tuple[Header, Shards]:
    """Of a table that is being written: a header line, then a line a finished shard."""
    whole = text_of(path).split("\n")[:-1]  # what follows the last line break was cut off by a crash
    if not whole:
        raise StoreError("the journal has no header", str(path), "delete it and run the stage again")
    header = built(Header, parse(path, whole[0]), path)
    return header, Shards(in_order(built(Entry, parse(path, line), path) for line in whole[1:]))


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise not_a_manifest(path, str(error)) from error


def parse(path: Path, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_a_manifest(path, f"it is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise not_a_manifest(path, f"it holds {text[:40]!r}")
    return parsed


def built(kind: type[T], values: Any, path: Path) -> T:
    """A header or an entry of the manifest. Raises StoreError where a key is missing, unknown or of another type."""
    if not isinstance(values, dict):
        raise not_a_manifest(path, f"an entry is {str(values)[:40]!r}")
    for key, wanted in TYPES[kind].items():
        value = values.get(key)
        if key in values and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise not_a_manifest(path, f"{key} is {str(value)[:40]!r}")
    for reason, rows in values.get("rejected", {}).items():
        if not isinstance(rows, int):
            raise not_a_manifest(path, f"rejected has {str(rows)[:40]!r} rows of {reason}")
    try:
        return kind(**values)
    except TypeError as error:
        raise not_a_manifest(path, str(error).partition(") ")[2] or str(error)) from error


def not_a_manifest(path: Path, said: str) -> StoreError:
    fix = "delete it and run the stage again; if a later pairloom wrote it, use that one"
    return StoreError(f"the manifest cannot be read: {said}", str(path), fix)
