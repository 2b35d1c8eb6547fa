"""What to run when a table is not as its stage wrote it. Every message about a table takes its cure from here."""

from __future__ import annotations

from pathlib import Path

QUARANTINE = "quarantine"  # data/quarantine/<stage>
FOLDERS = {"sample": "urls"}  # of stages that do not write to a folder of their own name
STAGES = {folder: stage for stage, folder in FOLDERS.items()}


def stage_command(folder: Path, stage: str, redo: bool = False) -> str | None:
    """The command that makes the table in this folder. None where it does not lie as in a dataset, as after a merge."""
    below = folder.parent.parent if folder.parent.name == QUARANTINE else folder.parent
    if folder.name not in (stage, FOLDERS.get(stage, stage)):
        return None
    data = "" if str(below) == "data" else f" --data {below}"  # the command's default
    return f"`pairloom stage {stage}{data}{' --redo' if redo else ''}`"


def resume(folder: Path, stage: str) -> str:
    """For a table that lacks shards."""
    command = stage_command(folder, stage)
    return f"run {command}: it makes just the missing shards" if command else "make the folder again, as it was made"


def rebuild(file: Path, stage: str) -> str:
    """For a shard that is missing or damaged; of a quarantine, it is written along with the shard of the table."""
    folder = file.parent
    command = stage_command(folder, stage)
    if command is None:
        return "take the shard from a copy, or make the folder again, as it was made"
    if folder.parent.name == QUARANTINE:
        file = folder.parent.parent / FOLDERS.get(stage, stage) / file.name
    return f"delete {file} if it is there and run {command}: it makes just the missing shards"


def redo(folder: Path, stage: str) -> str:
    """For a table that was made otherwise than it says."""
    command = stage_command(folder, stage, redo=True)
    return f"run {command}" if command else "make the folder again, as it was made"
