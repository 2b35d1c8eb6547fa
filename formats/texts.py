"""Lists of texts without images: txt (one a line), json lines and parquet with `text` and perhaps `lang`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairloom.errors import InputError

Text = tuple[str, str | None]  # with its language, None where the list does not say it


def read_texts(path: Path) -> Iterator[Text]:
    """The texts of a file, in their order, a few in memory at a time; white space around them is taken off.

    Raises InputError, with the line and a cure, if the file cannot be read or is not of its kind.
    """
    kinds: dict[str, Callable[[Path], Iterator[Text]]] = {
        ".txt": _lines, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet,
    }  # fmt: skip
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path.suffix or 'no suffix'} is no known format", str(path), f"name it {', '.join(kinds)}")
    try:
        for text, lang in kind(path):
            yield text.strip(), lang or None
    except UnicodeDecodeError as error:
        raise InputError(f"it is no UTF-8: {error}", str(path), "save the file as UTF-8") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot read it: {error}", str(path), "name a whole file that is there") from error


def _lines(path: Path) -> Iterator[Text]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield line, None


def _json_lines(path: Path) -> Iterator[Text]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                found = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"not JSON: {error}", f"{path}, line {number}", "write one object a line") from error
            text, lang = (found.get("text"), found.get("lang")) if isinstance(found, dict) else (None, None)
            if not isinstance(text, str) or not isinstance(lang, str | None):
                wrong, where = f"no text, or a lang that is none: {line.strip()[:80]}", f"{path}, line {number}"
                raise InputError(wrong, where, 'write {"text": "…"}, and "lang": "en" where it is known')
            yield text, lang


def _parquet(path: Path) -> Iterator[Text]:
    with pq.ParquetFile(path) as file:
        names = [name for name in ("text", "lang") if name in file.schema_arrow.names]
        if "text" not in names:
            raise InputError(f"it has no column text: {file.schema_arrow.names}", str(path), "name the column text")
        for batch in file.iter_batches(columns=names):
            texts = batch["text"].cast(pa.large_string()).fill_null("").to_pylist()
            langs = batch["lang"].cast(pa.string()).to_pylist() if "lang" in names else [None] * len(texts)
            yield from zip(texts, langs, strict=True)
