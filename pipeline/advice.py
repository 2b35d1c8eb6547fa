"""Which stage makes a column of the shards, and which setting asks for it: the cure when a recipe lacks one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pairloom.errors import ConfigError, MissingColumnsError
from pairloom.store.cures import stage_command
from pairloom.store.folder import open_folder
from pipeline.stage import asking, load, on_request, optional, order


def made_by(column: str) -> str:
    """The stage that makes a column of the shards. Download, where none of those that are joined does."""
    shards = load("shards")
    for name in (*shards.always, *optional()):
        own = load(name).output.columns[1:]  # all begin with what they are joined by
        if name != "curate" and column in {each.name for each in own}:
            return name
    return "download"


def settings_for(columns: Iterable[str]) -> list[str]:
    """What must be set in params.yaml for the stages to make these columns and for `shards` to join them."""
    wanted: set[str] = set()
    joined: set[str] = set()
    for column in columns:
        stage = load(made_by(column))
        own = {setting for prefix, setting in stage.asked_by.items() if column.startswith(prefix)}
        wanted |= own
        if not own or stage.name in on_request():
            joined |= {setting for setting in asking(stage.name) if setting == f"shards.{stage.name}"}
    return [*sorted(wanted), *(f"{setting}: true" for setting in sorted(joined))]


def commands_for(columns: Iterable[str], shards: Path | str) -> list[str]:
    """The commands that make these columns and then the shards again, each after what it reads.

    --redo: the settings have changed, or a table is of an earlier version. Shards that would come out the same stay.
    Where the folder does not lie in its dataset, as after a merge or at an address, DATASET stands for that.
    """
    makers = {made_by(column) for column in columns}
    stages = [name for name in (*order(), *optional()) if name in makers]
    in_place = isinstance(shards, Path) and shards.name == "shards" and open_folder(shards).maker == "shards"
    data = Path(shards).parent if in_place else Path("DATASET")
    commands = [stage_command(data / stage, stage, redo=True) for stage in (*stages, "shards")] if stages else []
    return [command.strip("`") for command in commands if command]


@contextmanager
def advised() -> Iterator[None]:
    """What is raised for missing columns says which stages make them, and with which settings. Raises ConfigError."""
    try:
        yield
    except MissingColumnsError as error:
        makers = {made_by(column) for column in error.columns}
        stages = [name for name in (*order(), *optional()) if name in makers]
        settings = settings_for(error.columns)
        first = f"set {', '.join(settings)} in params.yaml, " if settings else ""
        fix = f"{first}run the stages {', '.join(stages)} and then shards; or take another recipe"
        raise ConfigError(error.args[0], error.args[1], fix) from error
