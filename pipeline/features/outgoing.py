"""Training shards, or a table of regions, to files of features: shard by shard, so that a killed run resumes.

OUT/train and OUT/val hold a split each (a table of regions has none: then all lies in OUT), with the names of classes
and attributes; OUT/export.sha256 lists every file as `sha256sum -c` reads it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from formats import features
from formats.features.record import Vocabularies
from formats.features.tables import READ, UNKNOWN, records_of, unknown_in, words_of
from pairloom.errors import ConfigError, RunError, StoreError
from pairloom.store.folder import Entry, Folder, open_folder, sha256_of
from pairloom.store.writing import only_writer, replace_text, sha256_file
from pipeline.features import words
from pipeline.features.keys import keys_of
from pipeline.features.sums import Sums
from pipeline.progress import Progress

STATE, LIST = ".export.json", "export.sha256"
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
    resumed: int  # shards that an earlier run had finished


def export(source: Path, layout: str, out: Path, key: str | None, check: bool, quiet: bool) -> Exported:
    """Write the features of a finished folder in this layout, and read them back if `check`.

    Raises ConfigError before any work where the layout needs what the shards lack, or two pictures have one key.
    """
    folder = _open(source)
    module = features.load(layout)
    notes = folder.metadata(next(entry.name for entry in folder.shards if entry.rows))
    refuse_lacking(layout, module.NEEDS, notes, source)
    named = keys_of(folder, key)
    state = _State.open(out, {"layout": layout, "shards": sha256_of(folder.shards), "key": key})
    resumed = len(state.done)
    with only_writer(out, "export"), Progress("export", folder.rows, "pictures", quiet) as progress:
        for place, of_split in _splits(folder).items():
            if place not in state.finished:
                _write(_Job(folder, module, words_of(notes), named, state, progress), of_split, out / place)
                state.finished.append(place)
                state.save()
        folders = {str(out / place): sum(e.rows for e in part) for place, part in _splits(folder).items()}
    checked = _check(folder, out, module, named, quiet) if check else 0
    _list(out)
    (out / STATE).unlink()
    return Exported(folders, checked, resumed)


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


class _State:
    """Which shards are in the files already, and how far each writer was then."""

    def __init__(self, path: Path, settings: Mapping[str, Any], content: Mapping[str, Any]) -> None:
        self._path, self._settings = path, dict(settings)
        self.done: list[str] = list(content.get("done", []))
        self.finished: list[str] = list(content.get("finished", []))
        self.writer: dict[str, Any] = dict(content.get("writer", {}))

    @classmethod
    def open(cls, out: Path, settings: Mapping[str, Any]) -> _State:
        """Raises StoreError where the folder holds something else."""
        path = out / STATE
        if not path.exists():
            if out.exists() and any(out.iterdir()):
                raise StoreError("the folder is not empty", str(out), "name another with --out, or remove it first")
            out.mkdir(parents=True, exist_ok=True)
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if content and content["settings"] != dict(settings):
            what = f"an export of {content['settings']['layout']} was begun here, of other shards or settings"
            raise StoreError(what, str(out), "name another folder with --out, or remove this one")
        found = cls(path, settings, content)
        found.save()
        return found

    def save(self) -> None:
        content = {"settings": self._settings, "done": self.done, "finished": self.finished, "writer": self.writer}
        replace_text(self._path, json.dumps(content))


@dataclass(frozen=True)
class _Job:
    """What all splits of an export share."""

    folder: Folder
    module: Any  # the layout
    names: Vocabularies
    keys: Mapping[str, Sequence[str]]  # of the pictures of each shard
    state: _State
    progress: Progress


def _write(job: _Job, entries: Sequence[Entry], place: Path) -> None:
    """One split, from the first shard that is not in the files yet."""
    state = job.state
    place.mkdir(parents=True, exist_ok=True)
    begun = [entry for entry in entries if entry.name in state.done]
    writer = job.module.Writer(place, job.names, state.writer if begun else {})
    for entry in entries[len(begun) :]:
        for record in records_of(_table(job.folder, entry), job.keys[entry.name]):
            writer.add(record)
            job.progress.advance(1)
        flushed = writer.flush()
        if flushed is not None:  # else it begins anew if it is killed
            state.done.append(entry.name)
            state.writer = flushed
            state.save()
    writer.close()
    words.write(place, job.names)


def _table(folder: Folder, entry: Entry) -> pa.Table:
    scales = ["feature_scales"] if folder.table == "shards" else []
    return folder.read(entry.name, [*READ, *scales])


def _check(folder: Folder, out: Path, module: Any, named: Mapping[str, Sequence[str]], quiet: bool) -> int:
    """Read every picture back and compare it with the shards. Raises RunError for the first that differs."""
    checked = 0
    with Progress("check", 2 * folder.rows, "pictures", quiet) as progress:
        for place, entries in _splits(folder).items():
            sums = Sums(module.STORED)
            for entry in entries:
                for record in records_of(_table(folder, entry), named[entry.name]):
                    sums.add(record)
                    progress.advance(1)
            for found in module.read(out / place, "<f4"):
                if (problem := sums.differs(found)) is not None:
                    fix = "export again into another folder; if it is so again, report it as a bug"
                    raise RunError(problem, str(out / place), fix)
                progress.advance(1)
            if missing := sums.missing():
                raise RunError(f"{missing} pictures are not in the files", str(out / place), "export again")
            checked += len(sums)
    return checked


def _is_listed(path: Path, out: Path) -> bool:
    """Not our own files, nor the lock of a database, which every reader writes to."""
    hidden = any(part.startswith(".") for part in path.relative_to(out).parts)
    return not hidden and path.name not in (LIST, "lock.mdb")


def _list(out: Path) -> None:
    """The SHA-256 of every file below the folder."""
    files = sorted(path for path in out.rglob("*") if path.is_file() and _is_listed(path, out))
    lines = "".join(f"{sha256_file(path)}  {path.relative_to(out).as_posix()}\n" for path in files)
    replace_text(out / LIST, lines)
