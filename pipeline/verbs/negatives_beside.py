"""What `pairloom negatives` reads beside a list of captions: tags, and the vectors of a dual encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom.errors import InputError
from pairloom.store.folder import open_folder
from pairloom.table import Array, metadata
from stages.negatives.beside import Beside
from stages.negatives.stored import vectors_by_text
from stages.negatives.veto_score import pictures_of
from stages.negatives.veto_tags import tags_of


def tables_beside(tags: Path | None, score: Path | None, ids: pa.Array, texts: pa.Array) -> Beside:
    """Of tables in these folders what there is of a list's images (ids) and captions (texts).

    Raises InputError where a table has no image of the list, or no vectors.
    """
    wanted = frozenset(map(str, ids.unique().to_pylist()))
    told = None if tags is None else {name: own for name, own in _tags(tags) if name in wanted}
    if told is not None:
        _refuse_other(told, tags, wanted)
    if score is None:
        return Beside(told)
    pictures, vectors = dict[str, Array](), dict[tuple[str, str], bytes]()
    width = 0
    for _, table in open_folder(score).tables(["image_id", "texts", "text_embedding", "image_embedding"]):
        names, width = list(map(_name, table["image_id"].to_pylist())), int(metadata(table)["score_width"])
        if not table["image_embedding"].null_count:
            stored = pictures_of(table, table).view(np.float16)
            pictures |= {name: stored[row] for row, name in enumerate(names) if name in wanted}
        known = vectors_by_text(table)
        vectors |= {(_name(image), text): own for (image, text), own in known.items() if _name(image) in wanted}
    _refuse_other({name for name, _ in vectors}, score, wanted)
    nothing = bytes(2 * width)
    keys = zip(map(str, ids.to_pylist()), texts.to_pylist(), strict=True)
    packed = (vectors.get(key, nothing) for key in keys)
    return Beside(told, np.frombuffer(b"".join(packed), "<f2").reshape(len(ids), width), pictures or None)


def _tags(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for _, table in open_folder(folder).tables(["image_id", "tags"]):
        yield from zip(map(_name, table["image_id"].to_pylist()), tags_of(table, table).to_pylist(), strict=True)


def _name(image_id: Any) -> str:
    return image_id.hex() if isinstance(image_id, bytes) else str(image_id)


def _refuse_other(found: Any, folder: Path | None, wanted: frozenset[str]) -> None:
    if wanted and not found:
        fix = "give a list whose image_id is that of the table, in hex"
        raise InputError(f"it has no image of the list, such as {min(wanted)!r}", str(folder), fix)
