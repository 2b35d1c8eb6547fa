"""Two hosts, as network namespaces with disks of their own: one has the dataset under its path, one elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from tests.pipeline.clusters import CHECKOUT
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--mount", "bash", "-c")
# This host is 10.77.0.1, the other 10.77.0.2.
HOSTS = """
set -e
mount -t tmpfs none /run
ip link set lo up
ip netns add other
ip link add here type veth peer name there netns other
ip addr add 10.77.0.1/24 dev here
ip link set here up
ip -n other addr add 10.77.0.2/24 dev there
ip -n other link set there up
ip -n other link set lo up
ip netns exec other true
"""
# $1: the dataset's folder, $2: an empty one. The first worker has the folder at $2, and another at $1.
CLUSTER = """
address=tcp://10.77.0.1:8786
worker="$PYTHON -m dask worker $address --nthreads 1 --no-nanny --no-dashboard --host 10.77.0.2"
$PYTHON -m dask scheduler --host 10.77.0.1 --port 8786 --dashboard-address 10.77.0.1:0 > /dev/null 2>&1 &
ip netns exec other sh -c "mount --bind $1 $2 && mount -t tmpfs none $1 && exec $worker" > /dev/null 2>&1 &
ip netns exec other $worker > /dev/null 2>&1 &
$PYTHON -c "from distributed import Client; Client('$address', timeout=60).wait_for_workers(2, 60)"
$PYTHON -m pipeline.cli stage tests.pipeline.words --data $1 --params $1/params.yaml --metrics $1.metrics \
  --cluster $address
"""


def test_the_host_that_has_the_folder_elsewhere_is_not_used(tmp_path: Path) -> None:
    if subprocess.run([*NAMESPACES, HOSTS], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make network namespaces")
    texts, data = [f"text {row}" for row in range(12)], tmp_path / "data"
    for folder in (tmp_path / "expected", data):
        write_texts(texts, folder)
        (folder / "params.yaml").write_text("words: {}\n", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    run_stage(STAGE, Config(), tmp_path / "expected", Options(RunConfig(cluster="inline"), plain=True))
    environment = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        [*NAMESPACES, HOSTS + CLUSTER, "hosts", str(data), str(tmp_path / "elsewhere")],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, said = process.communicate(timeout=120)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert "words: 12 rows in, 12 out" in out, said
    (line,) = [line for line in said.splitlines() if line.startswith("not used: ")]
    assert line.startswith("not used: tcp://10.77.0.2:")
    assert f"it does not see what lies in {data / 'words'}" in line
    assert hashes(data) == hashes(tmp_path / "expected")
