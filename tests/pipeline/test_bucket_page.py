"""The page on buckets: its commands run here one after the other, against moto's S3 on loopback."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pipeline.cli import main
from tests.bucket import below, serving
from tests.pairloom.loader.loading import write_folder
from tests.pipeline.clusters import CHECKOUT

PAGE = (CHECKOUT / "docs/how-to/bucket.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]


def test_the_commands_of_the_page_do_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pairloom.loader.remote.CACHE", tmp_path / "cache")
    write_folder(Path("data/shards"), (20, 12), splits=("train", "val"))
    with serving("pairs"):
        for program, *words in commands():
            assert program == "pairloom"
            assert main(words) == 0, words
    assert below(Path("copy/shards")) == below(Path("data/shards"))
