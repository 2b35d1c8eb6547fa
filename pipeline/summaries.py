"""What a stage says of its finished table, for the metrics: worked out by workers, and kept while the table stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairloom.store.folder import MANIFEST, open_folder
from pairloom.store.hashed import sha256_file
from pairloom.store.kept import fetch, forget_others, kept
from pipeline.corpus import CorpusOnDisk
from pipeline.desk import Desk
from pipeline.fingerprints import digest
from pipeline.planning import Work
from pipeline.pool import Pool
from schemas.quarantine import QUARANTINE
from stages.contract import kept_in

NAME = "summary-"  # in what a dataset keeps


def known(work: Work) -> dict[str, Any] | None:
    """That of the finished table, if it is kept."""
    path = _path(work)
    if work.stage.summary is None:
        return {}
    if path is None:
        return None
    fetch(path)
    if not path.is_file():
        return None
    found: dict[str, Any] | None = json.loads(kept(path, lambda: b"null"))
    if found is None:  # the file was damaged
        path.unlink()
    return found


def made(work: Work, pool: Callable[[], Pool], plain: bool, apart: bool = False) -> dict[str, Any]:
    """That of the table as it is, which may be unfinished as yet (apart: as of a Desk)."""
    stage, folder = work.stage, kept_in(work.places.data)
    if stage.summary is None:
        return {}
    desk = Desk(stage.name, pool, folder, folder, "", plain, work.tasks.blank.marks, apart)
    tables = {stage.name: open_folder(work.target), QUARANTINE.name: open_folder(work.places.quarantine)}
    return stage.summary(CorpusOnDisk(tables, desk))


def keep(work: Work, summary: dict[str, Any]) -> None:
    """Note it for the table, which is finished now."""
    path = _path(work)
    if work.stage.summary is None or path is None:
        return
    forget_others(path, f"{NAME}{work.stage.name}-")
    kept(path, lambda: json.dumps(summary, ensure_ascii=False).encode())


def _path(work: Work) -> Path | None:
    """Where it is kept. None for a table that is not finished."""
    manifests = [folder / MANIFEST for folder in (work.target, work.places.quarantine)]
    if not all(path.is_file() for path in manifests):
        return None
    of = digest([work.stage.version, *map(sha256_file, manifests)])
    return kept_in(work.places.data) / f"{NAME}{work.stage.name}-{of[:16]}"
