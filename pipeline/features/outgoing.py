"""Training shards, or a table of regions, to files of other layouts: shard by shard, so that a killed run resumes.

OUT/train and OUT/val hold a split each (a table of regions has none: then all lies in OUT), with the names of classes
and attributes; OUT/export.sha256 lists every file as `sha256sum -c` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from formats import features
from formats.exports.settings import Settings
from formats.features.record import Vocabularies
from formats.features.tables import UNKNOWN, unknown_in, words_of
from pairloom.errors import ConfigError, RunError, StoreError
from pairloom.layout import left_out_columns
from pairloom.store import derived
from pairloom.store.folder import Entry, Folder, open_folder, sha256_of
from pairloom.store.hashed import sha256_file
from pairloom.store.writing import only_writer, replace_text
from pipeline.features import pieces, words
from pipeline.features.keys import keys_of
from pipeline.features.kinds import Kind, kind_of
from pipeline.features.pieces import Made, Piece, Processes
from pipeline.features.state import STATE, State
from pipeline.features.sums import Seen
from pipeline.progress import Progress

LIST = "export.sha256"
WORTH_PROCESSES = 512 << 20  # bytes of shards. So many take some seconds, and processes start in two
SAYS = {  # how it is said that shards lack a field of Record
    "class_ids": "classes",
    "class_scores": "scores",
    "width": "sizes of pictures",
    "probs": "probabilities of classes",
}


@dataclass(frozen=True)
class Exported:
    """What an export wrote: how many pictures went into each folder, and how many of them were read back."""

    folders: dict[str, int]
    checked: int
    left_out: int  # pairs without a picture or caption, where the layout has no place for them
    resumed: int  # shards that an earlier run had finished


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an export was asked for."""

    source: Path
    layout: str
    out: Path
    key: str | None = None  # column that names pictures
    settings: Settings = field(default_factory=Settings)  # of layouts of pairs
    check: bool = True  # read all back
    workers: int | None = None  # processes; None: as many as pay
    quiet: bool = False

    def facts(self, folder: Folder) -> dict[str, Any]:
        """What decides the files."""
        settings = asdict(self.settings) | {"classes": [], "attributes": []}
        return {"layout": self.layout, "shards": sha256_of(folder.shards), "key": self.key, "settings": settings}


def export(asked: Asked) -> Exported:
    """Write a finished folder in this layout, and read it back.

    Raises ConfigError before any work where the layout needs what the shards lack, or two pictures have one key.
    """
    folder = _open(asked.source)
    notes = folder.metadata(next(entry.name for entry in folder.shards if entry.rows))
    kind = kind_of(asked.layout, folder, notes, asked.settings)
    refuse_lacking(asked.layout, kind.needs, notes, asked.source)
    named = keys_of(folder, asked.key)
    state = State.open(asked.out, asked.facts(folder))
    resumed = len(state.done)
    with only_writer(asked.out, "export"), Processes(asked.workers or _workers(folder, kind)) as processes:
        job = _Job(folder, kind, words_of(notes), named, state, processes, asked.quiet)
        _write_all(job, asked.out)
        written = {place: sum(entry.rows for entry in part) for place, part in _splits(folder).items()}
        kind.finish(asked.out, written)
        _sweep(asked.out)
        checked, left_out = _check(job, asked.out) if asked.check else (0, 0)
    _list(asked.out)
    derived.note(folder, f"export {asked.layout}", asked.out)
    (asked.out / STATE).unlink()
    return Exported({str(asked.out / place): count for place, count in written.items()}, checked, left_out, resumed)


def _open(source: Path) -> Folder:
    folder = open_folder(source)
    if folder.table not in ("shards", "regions") or not folder.complete or not folder.rows:
        what = "unfinished" if not folder.complete else "empty" if not folder.rows else f"a table of {folder.table}"
        raise StoreError(f"it is {what}", str(source), "name finished training shards, or a table of regions")
    return folder


def refuse_lacking(layout: str, needs: Sequence[str], notes: Mapping[str, str], source: Path) -> None:
    """Raise ConfigError where the layout has no place for a picture without something that these lack."""
    if layout in features.names() and "features" in left_out_columns(notes):
        fix = "take a layout of pairs, such as webdataset, hf or coco; or make the shards with shards.regions: true"
        raise ConfigError(f"{layout} holds region features, and these shards were made without", str(source), fix)
    if lacks := [SAYS[name] for name in needs if name in unknown_in(notes)]:
        origin = f", which came from {notes.get('detector')}" if UNKNOWN in notes else ""
        raise ConfigError(
            f"{layout} needs {' and '.join(lacks)}, and these features{origin} have none",
            where=str(source),
            fix="take a layout that needs less, such as butd-tsv; or import them with what is missing (--captions "
            "with sizes), or extract them again",
        )


def _splits(folder: Folder) -> dict[str, list[Entry]]:
    """Where the pictures of each shard go, below OUT."""
    found: dict[str, list[Entry]] = {}
    for entry in (each for each in folder.shards if each.rows):
        found.setdefault(entry.name.partition("-")[0] if folder.table == "shards" else ".", []).append(entry)
    return found


@dataclass(frozen=True)
class _Job:
    """What all splits of an export share."""

    folder: Folder
    kind: Kind
    names: Vocabularies
    keys: Mapping[str, Sequence[str]]  # of the pictures of each shard
    state: State
    processes: Processes
    quiet: bool

    def made(self, make: Callable[[Kind, Piece], Made], shards: Iterable[Entry]) -> Iterator[Made]:
        """What this makes of each piece of the shards, in their order."""
        return self.processes.map(partial(make, self.kind), pieces.pieces(self.folder, shards, self.keys))

    def back(self, place: Path) -> Iterator[Seen]:
        """What was read back of each picture in a folder."""
        parts = self.kind.parts(place)
        if len(parts) == 1:  # here, one picture after the other
            yield from map(self.kind.sums().seen, self.kind.read(parts[0]))
            return
        for found in self.processes.map(partial(pieces.back, self.kind), parts):
            yield from found


def _workers(folder: Folder, kind: Kind) -> int:
    """A process for each core but this one's, where the layout is costly; for little it does not pay to start them."""
    much = kind.costly and sum(entry.bytes for entry in folder.shards) >= WORTH_PROCESSES
    return max(1, (os.cpu_count() or 1) - 1) if much else 1


def _write_all(job: _Job, out: Path) -> None:
    """Every split that is not finished yet."""
    with Progress("export", job.folder.rows, "pictures", job.quiet) as progress:
        for place, of_split in _splits(job.folder).items():
            if place not in job.state.finished:
                _write(job, of_split, out / place, progress)
                job.state.finished.append(place)
                job.state.save()


def _write(job: _Job, entries: Sequence[Entry], place: Path, progress: Progress) -> None:
    """One split, from the first shard that is not in the files yet."""
    state = job.state
    place.mkdir(parents=True, exist_ok=True)
    begun = [entry for entry in entries if entry.name in state.done]
    writer = job.kind.open(place, state.writer if begun else {})
    for made in job.made(pieces.entries, entries[len(begun) :]):
        for item in made.items:
            writer.add(item)
        progress.advance(made.rows)
        if made.piece.last:
            state.writer = writer.flush()
            state.done.append(made.piece.shard)
            state.save()
    writer.close()
    words.write(place, job.names)


def _check(job: _Job, out: Path) -> tuple[int, int]:
    """(pictures that were read back and are as in the shards, pairs that the layout has no place for).

    Raises RunError for the first picture that differs.
    """
    checked = left_out = 0
    with Progress("check", 2 * job.folder.rows, "pictures", job.quiet) as progress:
        for place, entries in _splits(job.folder).items():
            sums = job.kind.sums()
            for made in job.made(pieces.sums, entries):
                for key, wanted in made.items:
                    sums.add(key, wanted)
                left_out += made.left_out
                progress.advance(made.rows)
            for found in job.back(out / place):
                if (problem := sums.differs(found)) is not None:
                    fix = "export again into another folder; if it is so again, report it as a bug"
                    raise RunError(problem, str(out / place), fix)
                progress.advance(1)
            if missing := sums.missing():
                raise RunError(f"{missing} pictures are not in the files", str(out / place), "export again")
            checked += len(sums)
    return checked, left_out


def _sweep(out: Path) -> None:
    """Remove hidden files, which writers went on from, or which were half written when a run was killed.

    Not before all is written: a writer that was closed, and killed before that was noted, is closed again.
    """
    for path in out.rglob(".*"):
        above = path.parent.relative_to(out).parts
        if path.is_file() and path.name != STATE and not any(part.startswith(".") for part in above):
            path.unlink()


def _is_listed(path: Path, out: Path) -> bool:
    """Not our own files, nor the lock of a database, which every reader writes to."""
    hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
    return not hidden and path.name not in (LIST, "lock.mdb")


def _list(out: Path) -> None:
    """The SHA-256 of every file below the folder."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and _is_listed(path, out))
    with ThreadPoolExecutor() as pool:  # hashing releases Python's lock
        sums = pool.map(sha256_file, files)
        lines = "".join(f"{one}  {path.relative_to(out).as_posix()}\n" for one, path in zip(sums, files, strict=True))
    replace_text(out / LIST, lines)
