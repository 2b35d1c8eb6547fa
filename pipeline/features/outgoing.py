"""Training shards, or a table of regions, to files of other layouts: shard by shard, so that a killed run resumes.

OUT/train and OUT/val hold a split each (a table of regions has none: then all lies in OUT), with the names of classes
and attributes; OUT/export.sha256 lists every file as `sha256sum -c` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats.exports.settings import Settings
from formats.features.record import Vocabularies
from formats.features.tables import UNKNOWN, unknown_in, words_of
from pairloom.errors import ConfigError, RunError, StoreError
from pairloom.store.folder import Entry, Folder, open_folder, sha256_of
from pairloom.store.hashed import sha256_file
from pairloom.store.writing import only_writer, replace_text
from pipeline.features import words
from pipeline.features.keys import keys_of
from pipeline.features.kinds import Kind, kind_of
from pipeline.features.state import STATE, State
from pipeline.progress import Progress

LIST = "export.sha256"
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
    left_out: int  # pairs without a picture, where the layout has no place for them
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
    quiet: bool = False

    def facts(self, folder: Folder) -> dict[str, Any]:
        """What decides the files."""
        settings = asdict(self.settings) | {"classes": []}
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
    with only_writer(asked.out, "export"), Progress("export", folder.rows, "pictures", asked.quiet) as progress:
        job = _Job(folder, kind, words_of(notes), named, state, progress)
        for place, of_split in _splits(folder).items():
            if place not in state.finished:
                _write(job, of_split, asked.out / place)
                state.finished.append(place)
                state.save()
    written = {place: sum(entry.rows for entry in part) for place, part in _splits(folder).items()}
    kind.finish(asked.out, written)
    checked, left_out = _check(folder, asked.out, kind, named, asked.quiet) if asked.check else (0, 0)
    _list(asked.out)
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
    progress: Progress


def _write(job: _Job, entries: Sequence[Entry], place: Path) -> None:
    """One split, from the first shard that is not in the files yet."""
    state = job.state
    place.mkdir(parents=True, exist_ok=True)
    begun = [entry for entry in entries if entry.name in state.done]
    writer = job.kind.open(place, state.writer if begun else {})
    for entry in entries[len(begun) :]:
        for one in job.kind.rows(_table(job.folder, entry, job.kind), job.keys[entry.name]):
            if job.kind.takes(one):
                writer.add(one)
            job.progress.advance(1)
        flushed = writer.flush()
        if flushed is not None:  # else it begins anew if it is killed
            state.done.append(entry.name)
            state.writer = flushed
            state.save()
    writer.close()
    words.write(place, job.names)


def _table(folder: Folder, entry: Entry, kind: Kind) -> pa.Table:
    return folder.read(entry.name, kind.columns)


def _check(folder: Folder, out: Path, kind: Kind, named: Mapping[str, Sequence[str]], quiet: bool) -> tuple[int, int]:
    """(pictures that were read back and are as in the shards, pairs that the layout has no place for).

    Raises RunError for the first picture that differs.
    """
    checked = left_out = 0
    with Progress("check", 2 * folder.rows, "pictures", quiet) as progress:
        for place, entries in _splits(folder).items():
            sums = kind.sums()
            for entry in entries:
                for one in kind.rows(_table(folder, entry, kind), named[entry.name]):
                    if kind.takes(one):
                        sums.add(one)
                    else:
                        left_out += 1
                    progress.advance(1)
            for found in kind.read(out / place):
                if (problem := sums.differs(found)) is not None:
                    fix = "export again into another folder; if it is so again, report it as a bug"
                    raise RunError(problem, str(out / place), fix)
                progress.advance(1)
            if missing := sums.missing():
                raise RunError(f"{missing} pictures are not in the files", str(out / place), "export again")
            checked += len(sums)
    return checked, left_out


def _is_listed(path: Path, out: Path) -> bool:
    """Not our own files, nor the lock of a database, which every reader writes to."""
    hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
    return not hidden and path.name not in (LIST, "lock.mdb")


def _list(out: Path) -> None:
    """The SHA-256 of every file below the folder."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and _is_listed(path, out))
    lines = "".join(f"{sha256_file(path)}  {path.relative_to(out).as_posix()}\n" for path in files)
    replace_text(out / LIST, lines)
