"""Find everything that is wrong with a table or a dataset. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inspection.dataset import QUARANTINE, Dataset, open_dataset
from inspection.flow import Flow
from inspection.lint.alignment import Step, check_alignment, check_all_images, check_counts, check_distinct
from inspection.lint.files import check_files
from inspection.lint.joined import check_joined
from inspection.lint.leaks import check_leaks
from inspection.lint.problem import Findings, Problem
from inspection.lint.references import Captions, caption_columns, check_beside, check_told
from inspection.lint.sampling import share_of
from inspection.lint.shard import Shard
from inspection.lint.told import check_limits
from inspection.lint.values import check_values
from inspection.starter import starter_notes
from pairloom.store.folder import Folder

__all__ = ["Problem", "examine", "lint", "lint_text"]


def lint(path: Path | str, flow: Flow) -> list[Problem]:
    """Every problem of the table in this folder, or of all tables below a data root and between them."""
    return examine(path, flow).problems


def examine(path: Path | str, flow: Flow) -> Findings:
    """All problems, and notes of what was looked at in part.

    They come in the order of the data, so that their cures can be followed one after the other. Raises StoreError only
    when there is no table at all.
    """
    found, findings = open_dataset(path, flow), Findings()
    for folder, error in found.broken.items():
        findings.file("manifest", folder, error.args[0], error.args[2])
    sound: set[Path] = set()
    for table in found.folders():
        for name in sorted(check_files(table, findings)):
            if check_values(table, name, findings):
                sound.add(table.file(name))
    for table in found.tables.values():
        if flow.distinct(table.header.stage):
            check_distinct(table, sound, findings)
    if found.is_root:
        _check_between(found, sound, findings)
    check_leaks(found, sound, findings)
    for note in starter_notes(found.tables.values(), sound):
        findings.note(note)
    places = {name: number for number, name in enumerate(found.tables)}
    findings.problems.sort(key=lambda problem: places.get(_stage(problem, found.root), -1))
    return findings


def _stage(problem: Problem, root: Path) -> str:
    """The folder of the table that a problem is of; of a quarantine, of the stage that left the rows out."""
    parts = Path(problem.file).relative_to(root).parts
    return next((part for part in parts if part != QUARANTINE), "")


def _check_between(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """What only the tables together can show."""
    for stage, folder in found.tables.items():
        if not folder.maker:
            continue  # made of other folders: what is beside it is not its input
        rejects, source = found.rejects_of(folder), _source(found, stage, folder)
        check_counts(folder, rejects, findings)
        if source is not None and found.flow.recut(stage):
            check_all_images(found, Step(source, folder, rejects, sound), findings)
        elif source is not None:
            check_alignment(Step(source, folder, rejects, sound), findings)
    check_beside(found, sound, findings)
    check_joined(found, sound, findings)
    _check_captions(found, sound, findings)


def _source(found: Dataset, stage: str, folder: Folder) -> Folder | None:
    """The table that this one was made from. Imported regions were made beside the pairs, whatever curate left out."""
    beside = [each for each in found.tables.values() if each.header.stage == folder.header.stage and each is not folder]
    if folder.table == "regions" and beside:
        return beside[0]
    return found.tables.get(found.flow.main_input(stage) or "")


def _check_captions(found: Dataset, sound: set[Path], findings: Findings) -> None:
    """The captions that a table tells of are those of the table that it was made from."""
    known: dict[str, Captions] = {}
    for stage, folder in found.tables.items():
        told, source = caption_columns(folder.table), found.flow.main_input(stage) or ""
        corpus = found.tables.get(source)
        if not told or corpus is None or not folder.maker:
            continue
        if not {corpus.file(entry.name) for entry in corpus.shards} <= sound:
            continue
        captions = known[source] = known.get(source) or Captions.read(corpus, share_of(corpus, findings))
        for entry in folder.shards:
            if folder.file(entry.name) in sound:
                shard = Shard(folder.file(entry.name), folder.read(entry.name, ["image_id", *told]), {}, findings)
                for name in told:
                    check_told(shard, name, captions, source)
                    if folder.table != name and name in found.tables and not shard.table[name].null_count:
                        check_limits(shard, name, found.tables[name].header.config)


def lint_text(problems: Sequence[Problem], notes: Sequence[str] = ()) -> str:
    """The problems for a terminal, then what was looked at in part."""
    count = len(problems)
    last = f"{count:,} problem{'s' if count != 1 else ''} found" if count else "no problem found"
    return "\n".join([*map(str, problems), *notes, last])
