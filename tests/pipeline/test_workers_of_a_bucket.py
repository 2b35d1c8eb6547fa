"""Workers that share no folder with the coordinator: what they read and write lies in a bucket."""

from __future__ import annotations

import subprocess
from functools import wraps
from pathlib import Path

import pytest
from distributed import Client

from pipeline.cli import main
from stages.negatives import building
from tests.bucket import Server, below, content, said
from tests.pipeline.clusters import Cluster
from tests.pipeline.far import BUCKET, emptied, in_bucket, listed, on_disk, puts, tables, words
from tests.serving import pictures, write_list
from tests.stages.negatives.corpus import curated

ALONE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
OWN_DISK = 'mount -t tmpfs none "$1" && shift && exec "$@"'  # $1: where the other processes have their files


def test_workers_with_disks_of_their_own_make_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if subprocess.run([*ALONE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make mount namespaces")
    with emptied(tmp_path) as (server, client):
        listed()
        (tmp_path / "cluster").mkdir()
        with Cluster(tmp_path / "cluster") as cluster:
            for _ in range(2):
                cluster.worker(prefix=[*ALONE, OWN_DISK, "worker", str(tmp_path / "tmp")])
            assert main(words(BUCKET, "--cluster", cluster.address)) == 0
        assert "not used" not in capsys.readouterr().err
        assert len(puts(server)) == 12
        assert in_bucket(client) == on_disk()


def test_a_worker_that_cannot_read_the_bucket_is_not_used_and_the_line_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with emptied(tmp_path) as (_, client):
        listed()
        (tmp_path / "cluster").mkdir()
        elsewhere = Server()
        elsewhere.rule = lambda method, path: said("403 Forbidden", "InvalidAccessKeyId")
        try:
            with Cluster(tmp_path / "cluster") as cluster:
                cluster.worker()
                cluster.worker(prefix=["env", f"AWS_ENDPOINT_URL={elsewhere.url}"])
                with Client(cluster.address) as dask:
                    dask.wait_for_workers(2, 60)
                assert main(words(BUCKET, "--cluster", cluster.address)) == 0
        finally:
            elsewhere.stop()
        err = capsys.readouterr().err
        assert "not used: tcp://127.0.0.1:" in err
        assert f"it cannot read {BUCKET}: the access key is not known there" in err
        assert in_bucket(client) == on_disk()


def test_a_corpus_is_read_and_a_retry_made_by_workers_with_disks_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if subprocess.run([*ALONE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make mount namespaces")
    asked: list[str] = []
    with emptied(tmp_path) as (_, client), pictures(Path("www"), 5, asked) as host:
        write_list(Path("list.csv"), host, range(5))
        Path("www/3.jpg").rename("3.jpg")
        settings = ("--set", "download.min_success_rate=0", "--rows-per-shard", "2", "--allow-host", host)
        for place in ("here", BUCKET):
            assert main(["download", "list.csv", "--out", place, *settings, "--cluster", "inline", "--quiet"]) == 0
        (tmp_path / "cluster").mkdir()
        with Cluster(tmp_path / "cluster") as cluster:
            for _ in range(2):
                cluster.worker(prefix=[*ALONE, OWN_DISK, "worker", str(tmp_path / "tmp")])
            ways = {"here": "inline", BUCKET: cluster.address}
            for place, way in ways.items():
                assert main(["curate", place, "--out", place, "--cluster", way, "--quiet"]) == 0
            assert in_bucket(client) == tables(below(Path("here")))
            kept = [key for key in content(client, "pairs") if "/.index/kept/gathered-curate/" in key]
            assert len(kept) == 3  # of each shard what a worker found
            Path("3.jpg").rename("www/3.jpg")
            for place, way in ways.items():
                asked.clear()
                again = ["retry", place, "--reason", "not-found", "--set", f"download.allow_hosts=['{host}']"]
                assert main([*again, "--cluster", way, "--quiet"]) == 0
                # the worker has the other row of that shard by the bucket
                assert [path for path in asked if path != "/robots.txt"] == ["/3.jpg"]
        assert in_bucket(client) == tables(below(Path("here")))
        assert not [key for key in content(client, "pairs") if "/partial/" in key]


def test_parts_of_an_index_are_made_by_workers_with_disks_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run([*ALONE, "mount -t tmpfs none /mnt"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make mount namespaces")

    @wraps(building.build)
    def elsewhere(job: building.Job, folder: Path) -> None:
        raise AssertionError("the coordinator makes no part")

    with emptied(tmp_path) as (_, client):
        curated(Path("here"), range(3))
        assert main(["push", "here/curate", f"{BUCKET}/curate"]) == 0
        Path("params.yaml").write_text("negatives: {top_k: 5}\n")
        line = ["stage", "negatives", "--params", "params.yaml", "--quiet"]
        assert main([*line, "--data", "here", "--cluster", "inline"]) == 0
        monkeypatch.setattr(building.write, "__defaults__", (60,))  # captions of a part
        monkeypatch.setattr(building, "build", elsewhere)
        (tmp_path / "cluster").mkdir()
        with Cluster(tmp_path / "cluster") as cluster:
            for _ in range(2):
                cluster.worker(prefix=[*ALONE, OWN_DISK, "worker", str(tmp_path / "tmp")])
            assert main([*line, "--data", BUCKET, "--cluster", cluster.address]) == 0
        assert in_bucket(client) == tables(below(Path("here")))
        kept = [key.split("/")[4:] for key in content(client, "pairs") if "/.index/negatives/" in key]
        assert [each for each in kept if each[1:] == ["3", "captions.arrow"]] == [["1", "3", "captions.arrow"]]
        assert not [key for key in content(client, "pairs") if ".tmp/" in key]
