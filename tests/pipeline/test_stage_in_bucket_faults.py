"""A stage on a dataset in a bucket is killed, torn, throttled or doubled: what comes out has the bytes of a disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairloom.store.folder import JOURNAL, MANIFEST
from pipeline.cli import main
from tests import bucket as faults
from tests.bucket import Server, content
from tests.pipeline.far import BUCKET, emptied, held, in_bucket, listed, on_disk, puts, started, wait_until, words


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Server, Any]]:
    with emptied(tmp_path) as found:
        listed()
        yield found


@pytest.mark.crash
def test_after_kill_9_of_all_processes_the_rest_is_made_on_any_machine(there: tuple[Server, Any]) -> None:
    server, client = there
    with held(server, "words/00006.parquet"):
        process = started(words(BUCKET, "--cluster", "local", "--workers", "2"))
        wait_until(lambda: len(puts(server, "/.made/")) >= 3, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    left = content(client, "pairs")
    assert f"d/words/{MANIFEST}" not in left
    assert f"d/words/{JOURNAL}" in left
    finished = {name for name in left if name.startswith("d/words/_pairloom/.made/")}
    assert 3 <= len(finished) < 12
    server.asked.clear()
    assert main(words(BUCKET)) == 0
    assert len(puts(server, "/.made/")) == 12 - len(finished)
    assert in_bucket(client) == on_disk()
    assert not list(Path("tmp").glob("pairloom-*/*"))  # nor what the killed processes left


def test_a_busy_server_gives_the_same_bytes(there: tuple[Server, Any]) -> None:
    server, client = there
    server.rule = faults.first_time(faults.SLOW_DOWN, "GET", "PUT", "POST", "DELETE")
    assert main(words(BUCKET)) == 0
    server.rule = lambda method, path: None
    assert in_bucket(client) == on_disk()


def test_torn_uploads_and_answers_give_the_same_bytes(there: tuple[Server, Any]) -> None:
    server, client = there
    uploads, answers = faults.first_time(faults.dropped, "PUT", "POST"), faults.first_time(faults.torn, "GET")
    server.rule = lambda method, path: uploads(method, path) or answers(method, path)
    assert main(words(BUCKET)) == 0
    server.rule = lambda method, path: None
    assert in_bucket(client) == on_disk()


def test_expired_credentials_stop_the_run_and_the_next_one_resumes(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there
    server.rule = lambda method, path: faults.EXPIRED if path.endswith("words/00005.parquet") else None
    assert main(words(BUCKET)) == 1
    said = capsys.readouterr().err
    assert "the credentials have expired" in said
    assert "fix: renew them" in said
    server.rule = lambda method, path: None
    server.asked.clear()
    assert main(words(BUCKET)) == 0
    assert puts(server)[0] == "00005.parquet"
    assert in_bucket(client) == on_disk()


def test_a_second_run_at_the_same_time_is_refused_by_name(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there
    with held(server, "words/00006.parquet"):
        process = started(words(BUCKET))
        wait_until(lambda: bool(puts(server)), process)
        assert main(words(BUCKET)) == 1
    assert f"another run writes stage words of this dataset: process {process.pid} on " in capsys.readouterr().err
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0, out.decode()
    assert in_bucket(client) == on_disk()


def test_what_a_stopped_run_with_other_settings_wrote_meanwhile_is_replaced(there: tuple[Server, Any]) -> None:
    server, client = there

    def rule(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("words/00003.parquet") and "d/words/00003.parquet" not in late:
            late.add("d/words/00003.parquet")
            client.put_object(Bucket="pairs", Key="d/words/00003.parquet", Body=b"of another run")

    late: set[str] = set()
    server.rule = rule
    assert main(words(BUCKET)) == 0
    server.rule = lambda method, path: None
    assert late
    assert in_bucket(client) == on_disk()


@pytest.mark.parametrize("left", [None, b"cut off"], ids=["gone", "short"])
def test_a_shard_that_the_bucket_has_not_as_it_was_written_ends_the_run_and_the_next_one_makes_it(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str], left: bytes | None
) -> None:
    """A lifecycle rule, or somebody else, changed it before the table was finished."""
    server, client = there
    key = "d/words/00003.parquet"

    def rule(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("words/00007.parquet") and not meddled:
            meddled.append(path)
            client.delete_object(Bucket="pairs", Key=key)
            if left is not None:
                client.put_object(Bucket="pairs", Key=key, Body=left)

    meddled: list[str] = []
    server.rule = rule
    assert main(words(BUCKET)) == 1
    said = capsys.readouterr().err
    assert f"and in the bucket it has {len(left or b'')}\n" in said
    assert f"where: {BUCKET}/words/00003.parquet" in said
    assert "it makes that shard" in said
    server.rule = lambda method, path: None
    assert f"d/words/{MANIFEST}" not in content(client, "pairs")
    server.asked.clear()
    assert main(words(BUCKET)) == 0
    assert puts(server)[0] == "00003.parquet"
    assert in_bucket(client) == on_disk()
