"""Shards that are made again are kept as they were until the table is finished, for stages that take rows over."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from pairloom.store.folder import MANIFEST, Folder, is_table, manifest_json, open_folder
from pairloom.store.linking import link_or_copy, link_tree
from pairloom.store.writing import replace_text
from pipeline.config import as_json
from pipeline.fingerprints import shard_fingerprint
from pipeline.planning import Work
from stages.contract import EARLIER, PARTIAL

SETTINGS = "settings.sha256"  # in an index folder: what stands for the stage's version and settings


def keep(work: Work, kept: Collection[str]) -> None:
    """Give all shards of the table but those in `kept` a name where the stage finds them, and let it look at them.

    To be called while they are on the manifest. Shards of another version of the stage are of no use to it.
    """
    recall, folder = work.stage.recall, work.index / EARLIER
    if recall is None:
        return
    if is_table(work.target) and is_table(work.places.quarantine):
        table = open_folder(work.target)
        old, new = table.header, work.header
        same = (old.table_version, old.stage_version, old.resources) == (
            new.table_version,
            new.stage_version,
            new.resources,
        )
        if same and any(entry.name not in kept for entry in table.shards):
            temporary = folder / "tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            _link(table, temporary / "table", kept)
            _link(open_folder(work.places.quarantine), temporary / "quarantine", kept)
            temporary.replace(folder / str(_next(folder)))
    if folder.exists() and (rows := recall(as_json(work.config), work.index)):
        print(f"{work.stage.name}: {rows} rows of earlier shards are known", file=sys.stderr, flush=True)


def carry(work: Work, others: Iterable[Path], folder: Path) -> None:
    """Give what other index folders keep a name in this one, and what is finished there, if settings are the same.

    A stage that keeps what is finished of a shard finds it by what it holds, so that of another list does no harm.
    """
    settings = shard_fingerprint(work.header, None)
    (folder / SETTINGS).write_text(settings, encoding="utf-8")
    for other in others:
        same = (other / SETTINGS).is_file() and (other / SETTINGS).read_text(encoding="utf-8") == settings
        if same and (other / PARTIAL).is_dir():
            link_tree(other / PARTIAL, folder / PARTIAL, exist_ok=True)
        for number in _numbers(other / EARLIER):
            target = folder / EARLIER / str(_next(folder / EARLIER))
            link_tree(other / EARLIER / str(number), target)


def forget(work: Work) -> None:
    """Remove what was kept. The table is finished."""
    shutil.rmtree(work.index / EARLIER, ignore_errors=True)


def _link(table: Folder, target: Path, kept: Collection[str]) -> None:
    """A table of the shards that are not in `kept`, as far as their files are there."""
    target.mkdir(parents=True)
    linked = [entry for entry in table.shards if entry.name not in kept and table.file(entry.name).is_file()]
    for entry in linked:
        link_or_copy(table.file(entry.name), target / f"{entry.name}.parquet")
    replace_text(target / MANIFEST, manifest_json(table.header, linked))


def _numbers(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*"))


def _next(folder: Path) -> int:
    return max(_numbers(folder), default=-1) + 1
