"""What a recipe needs of a folder of shards: which columns are missing or empty, and what makes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from schemas.errors import ConfigError, StoreError
from schemas.folder import Entry
from schemas.shards import SHARDS
from schemas.table import Blob
from trainer.data.reading import ShardReader
from trainer.data.source import Source, open_source

# Which stage makes a column that a recipe may miss.
MADE_BY = {"tags": "tags", "negatives": "negatives", "short": "negatives"}
# Columns that are always there, but null unless this key of the file's metadata has a number above 0.
COUNTED = {"patch_": "patch_count", "pyramid_": "pyramid_count", "qa": "answer_count", "similar": "similar_top_k"}
# The stage that gives that number, which the stage shards must be told to join, and its setting where it needs one.
ASKED_BY = {
    "patch_count": ("patches", "patches.grid: 8"),
    "pyramid_count": ("patches", "patches.pyramid: true"),
    "answer_count": ("qa", "qa.sources: [{file: QUESTIONS.json}]"),
    "similar_top_k": ("similar", ""),
}
DETECTED = ("num_regions", "boxes", "class_", "attribute_", "features", "prob_")
# The setting behind a width that is 0, and its cure.
SETTINGS = {"prob_width": ("regions.class_probs: none", "set regions.class_probs to a number, such as 64, or to full")}


def entries_of(source: Source, split: str, shards: Path | str) -> tuple[Entry, ...]:
    entries = tuple(e for e in source.folder().shards if e.name.startswith(f"{split}-") and e.rows)
    if not entries:
        raise StoreError(f"there is no shard of split {split}", str(shards), "run the stage shards with more images")
    return entries


def lacking(shards: Path | str, columns: tuple[str, ...]) -> dict[str, str]:
    """Those of the columns that a folder of shards lacks, each with the stage that makes it."""
    source = open_source(shards)
    return _lacking(source, entries_of(source, "train", shards)[0], columns)


def _lacking(source: Source, entry: Entry, columns: tuple[str, ...]) -> dict[str, str]:
    there = set(source.index(entry).facts["columns"])
    if any(_counted(column) for column in columns):  # else the file need not be opened
        notes = ShardReader(source, entry).metadata
        there -= {column for column in columns if (key := _counted(column)) and notes.get(key, "0") == "0"}
    return {column: made_by(column) for column in columns if column not in there}


def _counted(column: str) -> str | None:
    return next((key for prefix, key in COUNTED.items() if column.startswith(prefix)), None)


def check_columns(source: Source, entry: Entry, columns: tuple[str, ...]) -> None:
    missing = _lacking(source, entry, columns)
    if missing:
        stages = sorted(set(missing.values()))
        raise ConfigError(
            f"the recipe needs the columns {', '.join(sorted(missing))}, which the shards lack",
            where=source.where(entry.name),
            fix=f"{_settings(missing)}run the stages {', '.join(stages)} and then shards; or take another recipe",
        )


def _settings(missing: Iterable[str]) -> str:
    wanted = settings_for(missing)
    return f"set {', '.join(wanted)} in params.yaml, " if wanted else ""


def check_widths(columns: Iterable[str], metadata: Mapping[str, str], where: str) -> None:
    """A column can be there and hold nothing, because a setting of the stage that made it left its values out."""
    for column in columns:
        kind = SHARDS.column(column).type
        widths = kind.shape if isinstance(kind, Blob) else ()
        for width in widths:
            if width in SETTINGS and metadata.get(str(width)) == "0":
                setting, cure = SETTINGS[str(width)]
                raise ConfigError(
                    f"the recipe needs column {column}, which is empty: it was made with {setting}",
                    where=where,
                    fix=f"{cure} in params.yaml and run the stages regions and shards; or take another recipe",
                )


def made_by(column: str) -> str:
    """The stage that makes a column of the shards."""
    if key := _counted(column):
        return ASKED_BY[key][0]
    return "regions" if column.startswith(DETECTED) else MADE_BY.get(column, "download")


def settings_for(columns: Iterable[str]) -> list[str]:
    """What must be set in params.yaml for the stages to make these columns, beyond what is set there by default."""
    keys = {key for column in columns if (key := _counted(column))}
    asked = [ASKED_BY[key] for key in COUNTED.values() if key in keys]
    return [setting for _, setting in asked if setting] + sorted({f"shards.{stage}: true" for stage, _ in asked})
