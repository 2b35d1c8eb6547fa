"""Files of features to the table `regions` of a dataset whose pictures are there: shard by shard beside `curate`.

Features come in the order of their file, pictures in that of the list. So each entry is first put aside with those of
its shard, on disk, and each shard's are then put in order: one shard is in memory at a time.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from formats import features
from formats.features.keys import Keys, Seen
from formats.features.record import Bad, BrokenError, Record
from formats.features.tables import Form, check, table_of
from formats.names import as_path
from pairloom.errors import RunError, StoreError
from pairloom.extra import as_dict
from pairloom.store.folder import Entry, Folder, Header, is_table, open_folder
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, only_writer, write_shard
from pipeline.features.incoming import NAME, VERSION, Asked, Taken, first_of, form_of, reject_of
from pipeline.fingerprints import refuse_mixture
from pipeline.planning import of_quarantine
from pipeline.progress import Progress
from pipeline.task import write_rejects
from schemas.regions import REGIONS
from stages.rejects import Reject, quarantine

PAIRS = "curate"
COLUMNS = ("image_id", "url", "extra", "width", "height", "original_width", "original_height")
IDS = ("coco_id", "key", "image_id", "id")  # columns of lists that name a picture, as imports call them
ASIDE = "aside"  # folder of entries on their way
ROWS_OF_REJECTS = 10_000  # of a shard of what was left out of the files


def joins(out: Path) -> bool:
    """Whether a dataset has pictures already, so that features belong to these."""
    return any(is_table(out / name) and open_folder(out / name).header.stage != NAME for name in (PAIRS, "download"))


@dataclass
class Places:
    """Where each picture of the dataset lies: (shard, row), by any of its names."""

    folder: Folder
    starts: list[int] = field(default_factory=list)
    keys: list[Keys] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Folder) -> Places:
        sizes = [entry.rows for entry in folder.shards]
        starts = [0, *np.cumsum(sizes).tolist()]
        names = [Keys(_names(folder, which)) for which in (0, 1)]
        return cls(folder, starts, names)

    def rows(self, key: str) -> list[tuple[int, int]]:
        """All places of the picture. None where no picture, or several, have this name."""
        found = next((rows for keys in self.keys if len(rows := keys.rows(key))), np.zeros(0, np.int64))
        shards = np.searchsorted(self.starts, found, side="right") - 1
        return [(shard, row - self.starts[shard]) for shard, row in zip(shards.tolist(), found.tolist(), strict=True)]


def _names(folder: Folder, which: int) -> Iterator[str]:
    """0: the id that each row's list gives (its address where it gives none); 1: the path in its address."""
    for _, table in folder.tables(["url", "extra"]):
        for row in table.to_pylist():
            path = as_path(row["url"].partition(":")[2].partition("?")[0])
            own = as_dict(row["extra"])
            yield path if which else next((own[name] for name in IDS if own.get(name)), path)


def take(asked: Asked) -> Taken:
    """Make the table `regions` beside the dataset's pairs.

    Raises StoreError where the pairs are not curated yet, RunError where no picture found its features.
    """
    source = asked.out / PAIRS
    if not is_table(source) or not (pairs := open_folder(source)).complete:
        fix = f"curate the pictures first: `pairloom curate {asked.out} --out {asked.out}`"
        raise StoreError("features join the curated pairs, and there are none yet", str(source), fix)
    layout = features.load(asked.layout)
    form = form_of(first_of(layout.read(asked.path, asked.floats), asked), replace(asked, captions=None))
    form = replace(form, unknown=tuple(name for name in form.unknown if name != "width"))
    with only_writer(asked.out, NAME):
        header = Header(REGIONS.name, REGIONS.version, NAME, VERSION, asked.settings(), pairloom=version("pairloom"))
        target = asked.out / "regions"
        if is_table(target) and not asked.redo:
            refuse_mixture(open_folder(target).header, header, target)
        aside = asked.out / ".index" / NAME / ASIDE
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        with Progress(NAME, None, "pictures", asked.quiet) as progress:
            counts = _put_aside(layout.read(asked.path, asked.floats), asked, form, pairs, header, progress.advance)
        taken = _write(asked, form, pairs, header)
        shutil.rmtree(aside.parent)
    if not taken.images:
        fix = "are these the features of these pictures? See `quarantine/import`"
        raise RunError("no picture of the dataset found its features", str(asked.path), fix)
    return replace(taken, rejected=dict(sorted((Counter(taken.rejected) + counts).items())))


def _put_aside(
    found: Iterable[Record | Bad], asked: Asked, form: Form, pairs: Folder, header: Header, advance: Any
) -> Counter[str]:
    """Each entry to the others of its shard. What has no picture, or is broken, to quarantine/import."""
    places, seen, counts = Places.of(pairs), Seen(), Counter[str]()
    writer = Writer.open(asked.out / "quarantine" / NAME, of_quarantine(header))
    writer.begin([])
    bad: list[Bad] = []
    aside = asked.out / ".index" / NAME / ASIDE
    for one in found:
        try:
            if isinstance(one, Record):
                _one_aside(one, places, seen, form, aside)
        except BrokenError as error:
            bad.append(Bad(one.key, str(asked.path), error.reason, str(error)))
        if isinstance(one, Bad):
            bad.append(one)
        advance(1)
        if len(bad) == ROWS_OF_REJECTS:
            _note(writer, bad, counts)
    _note(writer, bad, counts)
    writer.finish()
    return counts


def _note(writer: Writer, bad: list[Bad], counts: Counter[str]) -> None:
    """A shard of what was left out. The list is empty afterwards."""
    if not bad:
        return
    counts.update(one.reason for one in bad)
    writer.record(write_rejects(writer.folder, shard_name(len(writer.done)), quarantine(NAME, map(reject_of, bad))))
    bad.clear()


def _one_aside(one: Record, places: Places, seen: Seen, form: Form, aside: Path) -> None:
    if not seen.first(one.key):
        raise BrokenError("an earlier entry has the same key; that one is kept", "doubled-key")
    rows = places.rows(one.key)
    if not rows:
        raise BrokenError("the dataset has no picture of this key, or several", "no-image")
    sized = one if one.width is not None else replace(one, width=1, height=1)  # boxes are shares of the sides
    check(sized, form)
    table = table_of([sized], [bytes(16)], form, "").replace_schema_metadata(None)
    for shard, row in rows:
        batch = table.append_column("row", pa.array([row], pa.int32())).combine_chunks().to_batches()[0]
        content = batch.serialize()
        with (aside / shard_name(shard)).open("ab") as file:
            file.write(len(content).to_bytes(8, "little"))
            file.write(content)


def _write(asked: Asked, form: Form, pairs: Folder, header: Header) -> Taken:
    """The shards of `regions`, and the pictures without features in quarantine/regions."""
    tables = Writer.open(asked.out / "regions", header)
    rejects = Writer.open(asked.out / "quarantine" / "regions", of_quarantine(header))
    for writer in (rejects, tables):
        writer.begin([])
    images, counts = 0, Counter[str]()
    for number, entry in enumerate(pairs.shards):
        rows = pairs.read(entry.name, COLUMNS).to_pylist()
        table, left_out = _shard(rows, asked.out / ".index" / NAME / ASIDE / shard_name(number), form, asked.layout)
        reasons = dict(sorted(Counter(one.reason for one in left_out).items()))
        quarantined = write_rejects(rejects.folder, entry.name, quarantine("regions", left_out))
        if quarantined.rows:
            rejects.record(quarantined)
        written: Entry = write_shard(tables.folder, entry.name, table)
        tables.record(replace(written, rows_in=entry.rows, rejected=reasons))
        images, counts = images + table.num_rows, counts + Counter(reasons)
    for writer in (rejects, tables):
        writer.finish()
    return Taken(images, 0, dict(counts), len(pairs.shards), form, {"regions": tables.folder})


def _shard(rows: list[dict[str, Any]], aside: Path, form: Form, layout: str) -> tuple[pa.Table, list[Reject]]:
    """(regions of these pictures in their order, those that have none)."""
    schema = REGIONS.schema().append(pa.field("row", pa.int32()))
    there = {found["row"]: found for found in _entries(aside, schema)}
    kept, left_out = [], []
    for place, row in enumerate(rows):
        problem = _unlike(there[place], row) if place in there else ("no-features", "no entry has its key")
        if problem is not None:
            left_out.append(Reject(row["image_id"].hex(), *problem, {"url": row["url"]}))
        else:
            kept.append(_placed(there[place], row))
    columns = {column.name: [one[column.name] for one in kept] for column in REGIONS.columns}
    filled = {name: values for name, values in columns.items() if any(v is not None for v in values) or not kept}
    metadata = form.metadata(layout)
    return REGIONS.table(metadata=metadata, **filled) if kept else _empty(metadata), left_out


def _empty(metadata: Mapping[str, str]) -> pa.Table:
    return REGIONS.empty().replace_schema_metadata(dict(metadata))


def _entries(aside: Path, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    """The entries that were put aside for a shard."""
    if not aside.exists():
        return
    with aside.open("rb") as file:
        while size := file.read(8):
            content = pa.py_buffer(file.read(int.from_bytes(size, "little")))
            yield pa.ipc.read_record_batch(content, schema).to_pylist()[0]


def _unlike(found: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(reason, detail) where the features are of a picture of another size than the dataset's."""
    own, sizes = (found["width"], found["height"]), {(1, 1)}
    sizes |= {(row[f"{before}width"], row[f"{before}height"]) for before in ("", "original_")}
    if own in sizes:
        return None
    pixels = f"{row['original_width']} × {row['original_height']}"
    return "bad-value", f"its features are of a picture of {own[0]} × {own[1]} pixels, this one has {pixels}"


def _placed(found: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """The entry as the row of this picture, with boxes in pixels of the picture as stored."""
    boxes = np.frombuffer(found["boxes"], "<f4").reshape(-1, 4)
    factors = np.array([row["width"] / found["width"], row["height"] / found["height"]] * 2, np.float32)
    inside = np.clip(boxes * factors, 0, np.array([row["width"], row["height"]] * 2, np.float32))
    sizes = {"width": row["width"], "height": row["height"], "image_id": row["image_id"]}
    return {**found, **sizes, "boxes": inside.astype("<f4").tobytes()}
