"""A small stage for the executor's tests: counts a caption's letters. Some captions make it raise, die or wait."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import ConfigError
from pairloom.table import Column, Table
from stages import rows_done
from stages.contract import A_PATH
from stages.rejects import Reject, quarantine

INPUTS = ("urls",)
OUTPUT = Table("words", 1, "one url", (Column("url", pa.string(), "as listed"), Column("letters", pa.int64(), "count")))
VERSION = 1
flaky = False  # whether "flaky" raises
COLUMNS = {"urls": ("url", "captions")}


@dataclass(frozen=True)
class Config:
    times: int = 1
    wait_s: float = 0.0
    cure: bool = False
    dies_at_setup: bool = False
    file: str | None = field(default=None, metadata=A_PATH)  # as a detector's: it must be the same on every worker


def resources(config: Config) -> Sequence[Path]:
    return (Path(config.file),) if config.file else ()


def setup(config: Config, folder: Path) -> Config:
    if config.dies_at_setup:
        os.kill(os.getpid(), signal.SIGKILL)
    return config


def process(urls: pa.Table, tools: Config) -> Any:
    kept, rejects = [], []
    for row in urls.to_pylist():
        time.sleep(tools.wait_s)
        rows_done.add()
        text = row["captions"][0]["text"]
        if text == "raise" or (text == "flaky" and flaky):
            raise ValueError(f"cannot take {text}")
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/words")
        if text == "memory":
            raise MemoryError("Unable to allocate 8.00 GiB")
        if text == "cure":
            raise ConfigError("a setting is wrong", "here", "mend it")
        if text == "reject":
            rejects.append(Reject(row["url"], "no-caption", "as asked", row))
        elif text != "lose":
            kept.append((row["url"], len(text) * tools.times))
    table = OUTPUT.table(url=[url for url, _ in kept], letters=[n for _, n in kept], metadata={"unit": "letters"})
    return table, quarantine("words", rejects)
