"""Folders of an index that workers make: each is whole or not there, and what an interrupted run finished stays.

A worker fills a folder aside, gives it its name, and notes the SHA-256 of its files beside it. In a dataset in a bucket
the files are put there, too, the note last, so that neither the coordinator nor other workers need share a folder with
it.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from pairloom.store.bucket import Bucket
from pairloom.store.hashed import sha256_file
from pairloom.store.pulling import fetch_exactly
from pairloom.store.pushing import JOBS, in_parallel
from pairloom.store.scratch import Scratch, behind, put
from pairloom.store.writing import replace_text
from pipeline import handing
from pipeline.fingerprints import digest
from pipeline.handing import files_below
from pipeline.paths import with_paths
from stages.gathered import Listed

WHOLE = ".whole.json"  # ends the name of a note beside such a folder: what it is of, and of each file (size, SHA-256)


@dataclass(frozen=True)
class Making:
    """A folder to make: function(argument, folder)."""

    function: Callable[[Any, Path], None]
    argument: Any
    target: Path
    room: Path  # on the same disk, for what is not finished

    @property
    def of(self) -> str:
        """Stands for all that decides the content, of one index. A path counts by its name."""
        named = with_paths(self.argument, lambda path: Path(path.name))
        return digest([self.function.__module__, self.function.__qualname__, repr(named)])


@dataclass(frozen=True)
class Note:
    """What lies in a whole folder."""

    of: str
    files: Mapping[str, tuple[int, str]]  # size, SHA-256

    @classmethod
    def read(cls, content: bytes | None) -> Note | None:
        try:
            found = json.loads(content or b"")
        except ValueError:  # none, or cut off as the machine stopped
            return None
        return cls(found["of"], {name: (size, sha256) for name, (size, sha256) in found["files"].items()})

    @classmethod
    def of_folder(cls, folder: Path) -> Note | None:
        file = beside(folder)
        return cls.read(file.read_bytes()) if file.is_file() else None


def beside(folder: Path) -> Path:
    """The note of a folder."""
    return folder.with_name(folder.name + WHOLE)


def make(making: Making) -> int:
    """Leave the folder whole, here or in the bucket behind it. Returns the size of its note."""
    target = making.target
    there = behind(target.parent)
    content = None if there is None else there.below(target.parent).read(beside(target).name)
    if content is not None and (note := Note.read(content)) and note.of == making.of:
        return len(content)
    if not is_whole(target, making.of):
        for path in paths_in(making.argument):
            bring(path)
        _fill(making)
    if there is not None:
        _put(target, there)
    return beside(target).stat().st_size


def _fill(making: Making) -> None:
    temporary = making.room / f"{uuid.uuid4().hex}.tmp"
    temporary.mkdir(parents=True)
    try:
        making.function(making.argument, temporary)
        files = {
            str(file.relative_to(temporary)): (file.stat().st_size, sha256_file(file))
            for file in files_below(temporary)
        }
        if is_whole(making.target, making.of):
            return  # the worker was given up, and another has made it
        making.target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(making.target, ignore_errors=True)  # damaged, or of something else
        temporary.replace(making.target)
        replace_text(beside(making.target), json.dumps({"of": making.of, "files": files}))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_whole(folder: Path, of: str) -> bool:
    """Whether the folder is of this, and its files are as they were written."""
    note = Note.of_folder(folder)
    if note is None or note.of != of:
        return False
    files = {folder / name: own for name, own in note.files.items()}
    sizes = (file.is_file() and file.stat().st_size == size for file, (size, _) in files.items())
    return all(sizes) and all(sha256_file(file) == sha256 for file, (_, sha256) in files.items())


def _put(folder: Path, there: Scratch) -> None:
    note = Note.of_folder(folder)
    assert note is not None
    handing.put_all(there.below(folder), folder, note.files)
    there.below(folder.parent).put(beside(folder).name, beside(folder))  # the last: who finds it finds all


def bring(wanted: Path | Listed) -> None:
    """Have a file, a whole folder or all listed files here, which may lie in the bucket behind them."""
    if isinstance(wanted, Listed):
        bring(wanted.path)
        missing = [file for file in wanted.files() if not file.exists()]
        for folder in {file.parent for file in missing}:
            handing.bring(folder, {file.name for file in missing if file.parent == folder}.__contains__)
    elif not wanted.exists() and (there := behind(wanted.parent)) is not None:
        content = there.below(wanted.parent).read(beside(wanted).name)
        if (note := Note.read(content)) is None:
            there.bucket.bring(there.name(wanted), wanted)
        else:
            _fetch(note, there.below(wanted), wanted)
            beside(wanted).write_bytes(content or b"")


def _fetch(note: Note, there: Bucket, folder: Path) -> None:
    with handing.arriving(folder) as temporary:
        for _ in in_parallel(JOBS, lambda file: fetch_exactly(there, temporary, file[0], *file[1]), note.files.items()):
            pass


def hand(arguments: Iterable[Any]) -> None:
    """Put the files that these arguments name into the bucket behind them, for workers elsewhere.

    Folders are there, and so are files that are listed: workers made them.
    """
    files = {one.path if isinstance(one, Listed) else one for argument in arguments for one in paths_in(argument)}
    for file in sorted(file for file in files if file.is_file()):
        put(file)


def paths_in(argument: Any) -> Iterator[Path | Listed]:
    """The files and folders of this machine that an argument names. A Config has texts, of files on every machine."""
    if isinstance(argument, Path | Listed):
        yield argument
    elif isinstance(argument, tuple):
        for each in argument:
            yield from paths_in(each)
    elif isinstance(argument, Mapping):
        yield from paths_in(tuple(argument.values()))
    elif is_dataclass(argument) and not isinstance(argument, type):
        yield from paths_in(tuple(getattr(argument, each.name) for each in fields(argument)))


def sums_below(folder: Path) -> dict[Path, str]:
    """File -> SHA-256 of what lies in whole folders below this one. Their notes go, since the folder is complete."""
    found: dict[Path, str] = {}
    for file in sorted(folder.rglob(f"*{WHOLE}")):
        whole = file.with_name(file.name.removesuffix(WHOLE))
        note = Note.of_folder(whole)
        assert note is not None
        found |= {whole / name: sha256 for name, (_, sha256) in note.files.items()}
        file.unlink()
    return found


def keep_whole(folder: Path) -> bool:
    """Remove what lies in no whole folder below this one. Returns whether there are any."""
    kept: set[Path] = set()
    every = list(folder.iterdir()) if folder.is_dir() else []
    for each in filter(Path.is_dir, every):
        note = Note.of_folder(each)
        if note is not None:
            for file in files_below(each):
                if str(file.relative_to(each)) not in note.files:
                    file.unlink()
            kept |= {each, beside(each)}
        elif keep_whole(each):
            kept.add(each)
        else:
            shutil.rmtree(each)
    for each in every:
        if each not in kept and each.exists():
            each.unlink()
    return bool(kept)
