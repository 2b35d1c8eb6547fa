"""A shard is built with its pictures in memory about once, however large they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[3]
ROWS, PICTURE = 48, 4 << 20
BUILD = f"""
import os, re, sys
from pathlib import Path
import pyarrow as pa
from pairloom.store.writing import write_shard
from schemas.urls import URLS
from stages.contract import PARTIAL
from stages.download import Config, process, setup
from stages.download.spool import Spool, key_of
folder = Path(sys.argv[1])
urls = [f"http://h/{{row}}.jpg" for row in range({ROWS})]
with Spool(folder / PARTIAL / "00000") as spool:
    for row, url in enumerate(urls):
        outcome = dict(image_id=os.urandom(16).hex(), format="jpeg", width=9, height=9, original_width=9,
                       original_height=9, phash=row, sha256=bytes(32).hex())
        spool.add(key_of(url, None), outcome, os.urandom({PICTURE}))
table = URLS.table(url=urls, captions=[[]] * {ROWS}, extra=[[]] * {ROWS}).replace_schema_metadata({{"shard": "00000"}})
tools = setup(Config(), folder)
def most():  # ru_maxrss would begin with that of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
before = most()
pairs, rejects = process(table, tools)
write_shard(folder / "out", "00000", pairs)
print(pairs.num_rows, rejects.num_rows, most() - before)
sys.stdout.flush(); os._exit(0)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of Linux processes")
def test_a_shard_of_large_pictures_takes_their_size_and_little_more(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)], cwd=HERE, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0 or ran.stdout, ran.stderr
    rows, left_out, grown = map(int, ran.stdout.split())
    assert (rows, left_out) == (ROWS, 0)
    assert grown * 1024 < 2 * ROWS * PICTURE  # it was 3.3
