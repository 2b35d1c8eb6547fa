"""Stage `regions` on a folder of pictures: reads the files that table `files` lists, else as stages/regions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa

from formats.names import as_path
from stages import regions
from stages.contract import A_PATH
from stages.regions import OUTPUT, VERSION, wants_gpu

__all__ = ["INPUTS", "OUTPUT", "VERSION", "Config", "process", "resources", "setup", "wants_gpu"]

INPUTS = ("files",)


@dataclass(frozen=True, kw_only=True)
class Config(regions.Config):
    """What `pairloom extract` was asked for."""

    # the files' hashes are in table `files`
    folder: str = field(default=".", metadata={"affects_output": False} | A_PATH)


@dataclass(frozen=True)
class Tools:
    """The detector, and where the pictures lie."""

    regions: regions.Tools
    folder: Path


def resources(config: Config) -> Sequence[Path]:
    """As of the stage `regions`."""
    return regions.resources(config)


def setup(config: Config, folder: Path) -> Tools:
    """Load the detector. Raises InputError when its checkpoint is missing or does not fit."""
    return Tools(regions.setup(config, folder), Path(config.folder))


def process(files: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """The regions of each file. One that cannot be read, or is not what was listed, is left out by name."""
    rows = files.select(["image_id", "source"]).to_pylist()
    bodies = [partial(read, tools.folder / as_path(row["source"]), row["image_id"]) for row in rows]
    return regions.look(rows, bodies, tools.regions)


def read(path: Path, image_id: bytes) -> bytes:
    """The file's bytes. Raises OSError if it cannot be read or has changed since it was listed."""
    body = path.read_bytes()
    if hashlib.sha256(body).digest()[:16] != image_id:
        raise OSError("the file has changed since it was listed; run the same command again")
    return body
