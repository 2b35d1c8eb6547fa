"""Find the tables below a path: one table's folder, or the data root with every stage's table and quarantine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from inspection.flow import Flow
from inspection.tables import column_names
from pairloom.errors import StoreError
from pairloom.store.folder import Folder, is_table, open_folder

QUARANTINE = "quarantine"  # data/quarantine/<stage>/


@dataclass(frozen=True)
class Dataset:
    """What lies below a path. `broken` holds the folders whose manifest cannot be read, with the error."""

    root: Path
    is_root: bool  # False when the path is one table's folder
    flow: Flow
    tables: dict[str, Folder] = field(default_factory=dict)  # stage -> its table
    rejects: dict[str, Folder] = field(default_factory=dict)  # stage -> what it left out
    broken: dict[Path, StoreError] = field(default_factory=dict)

    def rejects_of(self, folder: Folder) -> Folder | None:
        """What the stage that wrote this table left out. The stage `sample` writes the table `urls`."""
        return self.rejects.get(folder.path.name) or self.rejects.get(folder.header.stage)

    def folders(self) -> list[Folder]:
        return [*self.tables.values(), *self.rejects.values()]

    def best(self) -> list[Folder]:
        """The tables, first those with pictures, of these first those in which each image comes once."""

        def rank(stage: str) -> tuple[bool, bool]:
            return "image" not in column_names(self.tables[stage].table), not self.flow.distinct(stage)

        return [self.tables[stage] for stage in sorted(self.tables, key=rank)]


def open_dataset(path: Path | str, flow: Flow) -> Dataset:
    """The tables at or below `path`, in the order of the data. Raises StoreError when there is none."""
    path = Path(path)
    found = Dataset(path, not is_table(path), flow)
    if not found.is_root:
        _add(found, path, found.rejects if path.parent.name == QUARANTINE else found.tables)
    else:
        for folder in _in_order(path, flow):
            _add(found, folder, found.tables)
        for folder in _in_order(path / QUARANTINE, flow):
            _add(found, folder, found.rejects)
    if not found.folders() and not found.broken:
        raise StoreError(
            "there is no table here or one level below",
            where=str(path),
            fix="name a table's folder such as data/curate, or data, which holds them all; `dvc repro` makes them",
        )
    return found


def _add(found: Dataset, path: Path, place: dict[str, Folder]) -> None:
    try:
        place[path.name] = open_folder(path)
    except StoreError as error:
        found.broken[path] = error


def _in_order(parent: Path, flow: Flow) -> list[Path]:
    """The table folders below `parent`, known stages first in the order of the data."""
    known = flow.order()
    folders = [path for path in parent.iterdir() if is_table(path)] if parent.is_dir() else []
    return sorted(folders, key=lambda path: (known.index(path.name) if path.name in known else len(known), path.name))
