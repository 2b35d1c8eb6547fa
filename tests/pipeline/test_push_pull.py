"""`pairloom push` and `pull` over HTTP to moto's S3: the same bytes, whatever is killed, torn or busy on the way."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pairloom.loader import Loader, Options
from pairloom.store import manifest
from pairloom.store.address import Address
from pairloom.store.folder import MANIFEST, open_folder
from pairloom.store.lease import leased
from pairloom.store.scratch import bucket_at
from pipeline.cli import main
from schemas.quarantine import QUARANTINE
from schemas.urls import URLS
from tests import bucket as faults
from tests.bucket import Server, below, serving
from tests.building import numbered, write_table
from tests.pairloom.loader.loading import recipe, tokenizer, write_folder

BUCKET = "s3://pairs"


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Any]]:
    monkeypatch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
    with serving("pairs") as found:
        yield found


def content(client: Any, name: str) -> dict[str, bytes]:
    """Every object but leases."""
    found = faults.content(client, name)
    return {key: body for key, body in found.items() if ".locks" not in Path(key).parts}


def texts(count: int, salt: str = "") -> pa.Table:
    rows = [f"http://h/{salt}{number}" for number in range(count)]
    return URLS.table(url=rows, captions=[[{"text": "a", "lang": None}]] * count, extra=[[]] * count)


def urls_table(folder: Path, shards: int, salt: str = "") -> Path:
    return write_table(folder, URLS, numbered([texts(3, f"{salt}{number}-") for number in range(shards)]), "sample")


def dataset(folder: Path) -> Path:
    """Training shards with indices, a list, an empty quarantine, and what belongs to no table."""
    write_folder(folder / "shards", (9, 8, 6))
    urls_table(folder / "urls", 3)
    write_table(folder / "quarantine" / "sample", QUARANTINE, {}, "sample")
    (folder / ".index" / "x").mkdir(parents=True)
    (folder / ".index" / "x" / "big").write_bytes(b"not a table")
    (folder / "metrics.json").write_text("{}")
    return folder


def tables_of(files: dict[str, bytes]) -> dict[str, bytes]:
    own = {name: body for name, body in files.items() if not name.startswith((".index", "metrics"))}
    return {name: body for name, body in own.items() if ".locks" not in Path(name).parts}


def test_a_dataset_comes_back_with_the_same_bytes(there: tuple[Server, Any], tmp_path: Path) -> None:
    server, client = there
    data = dataset(tmp_path / "data")
    assert main(["push", str(data), f"{BUCKET}/d"]) == 0
    assert {f"d/{name}": body for name, body in tables_of(below(data)).items()} == content(client, "pairs")
    assert main(["pull", f"{BUCKET}/d", str(tmp_path / "back")]) == 0
    assert tables_of(below(tmp_path / "back")) == tables_of(below(data))
    server.asked.clear()
    assert main(["push", str(data), f"{BUCKET}/d"]) == main(["pull", f"{BUCKET}/d", str(tmp_path / "back")]) == 0
    assert not [path for method, path in server.asked if method == "PUT" or path.endswith(".parquet")]
    first = next(
        iter(
            Loader(f"{BUCKET}/d/shards", recipe(), tokenizer(), batch_size=4, options=Options(cache=tmp_path / "cache"))
        )
    )
    assert len(first)


def test_a_manifest_of_many_shards_travels_with_its_list(
    there: tuple[Server, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "INLINE", 2)
    table = urls_table(tmp_path / "urls", 4)
    assert main(["push", str(table), f"{BUCKET}/urls"]) == main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")]) == 0
    assert below(tmp_path / "back") == below(table)
    assert len(open_folder(tmp_path / "back").shards) == 4


def test_a_grown_table_sends_only_what_is_new_and_removes_what_is_old(
    there: tuple[Server, Any], tmp_path: Path
) -> None:
    server, client = there
    main(["push", str(urls_table(tmp_path / "old", 5, "x")), f"{BUCKET}/urls"])
    main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")])
    changed = write_table(
        tmp_path / "changed",
        URLS,
        {**numbered([texts(3, f"x{n}-") for n in range(4)]), "00001": texts(7, "y")},
        "sample",
    )
    server.asked.clear()
    assert main(["push", str(changed), f"{BUCKET}/urls"]) == 0
    sent = [path for method, path in server.asked if method == "PUT" and path.endswith(".parquet")]
    assert sent == ["/pairs/urls/00001.parquet"]
    assert {f"urls/{name}": body for name, body in below(changed).items()} == content(client, "pairs")
    server.asked.clear()
    assert main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")]) == 0
    assert {path for method, path in server.asked if path.endswith(".parquet")} == {"/pairs/urls/00001.parquet"}
    assert below(tmp_path / "back") == below(changed)


def started(*words: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-m", "pipeline.cli", *words, "--jobs", "2", "--quiet"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def kill_after(server: Server, requests: int, wanted: Sequence[str], words: Sequence[str]) -> None:
    """Kill the command with -9 after so many of these requests."""
    server.asked.clear()
    process = started(*words)
    deadline = time.monotonic() + 60
    while sum(method == wanted[0] and path.endswith(wanted[1]) for method, path in list(server.asked)) < requests:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0].decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.crash
def test_a_killed_push_shows_no_table_and_goes_on_where_it_was(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there
    table = urls_table(tmp_path / "urls", 30)
    server.rule = lambda method, path: faults.slowly(0.2) if method == "PUT" and path.endswith("parquet") else None
    noted = ["push", str(table), f"{BUCKET}/urls"]
    kill_after(server, 12, ("PUT", ".parquet"), noted)
    server.rule = lambda method, path: None
    assert f"urls/{MANIFEST}" not in content(client, "pairs")
    assert main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")]) == 1
    assert "a push that has not ended leaves no table" in capsys.readouterr().err
    assert main(noted) == 0
    assert {f"urls/{name}": body for name, body in below(table).items()} == content(client, "pairs")


def test_a_push_that_was_interrupted_sends_nothing_twice(there: tuple[Server, Any], tmp_path: Path) -> None:
    server, client = there
    table = urls_table(tmp_path / "urls", 8)
    refused = lambda method, path: faults.EXPIRED if method == "PUT" and path.endswith("00005.parquet") else None  # noqa: E731
    server.rule = refused
    assert main(["push", str(table), f"{BUCKET}/urls", "--jobs", "1"]) == 1
    server.rule = lambda method, path: None
    server.asked.clear()
    assert main(["push", str(table), f"{BUCKET}/urls", "--jobs", "1"]) == 0
    sent = sorted(path[-13:-8] for method, path in server.asked if method == "PUT" and path.endswith(".parquet"))
    assert sent[0] == "00005"
    assert {f"urls/{name}": body for name, body in below(table).items()} == content(client, "pairs")


@pytest.mark.crash
def test_a_killed_pull_is_unfinished_and_goes_on_where_it_was(there: tuple[Server, Any], tmp_path: Path) -> None:
    server, _ = there
    table, back = urls_table(tmp_path / "urls", 30), tmp_path / "back"
    main(["push", str(table), f"{BUCKET}/urls"])
    server.rule = lambda method, path: faults.slowly(0.1) if method == "GET" and path.endswith("parquet") else None
    kill_after(server, 12, ("GET", ".parquet"), ["pull", f"{BUCKET}/urls", str(back)])
    server.rule = lambda method, path: None
    found = open_folder(back)
    assert not found.complete
    assert 8 <= len(found.shards) < 30
    server.asked.clear()
    assert main(["pull", f"{BUCKET}/urls", str(back)]) == 0
    fetched = {path for method, path in server.asked if method == "GET" and path.endswith(".parquet")}
    assert len(fetched) == 30 - len(found.shards)
    assert below(back) == below(table)


def test_a_busy_server_that_tears_bodies_gives_the_same_bytes(there: tuple[Server, Any], tmp_path: Path) -> None:
    server, _ = there
    data = dataset(tmp_path / "data")
    server.rule = faults.first_time(faults.SLOW_DOWN, "GET", "PUT", "POST", "HEAD", "DELETE")
    assert main(["push", str(data), f"{BUCKET}/d"]) == 0
    server.rule = faults.first_time(faults.torn, "GET")
    assert main(["pull", f"{BUCKET}/d", str(tmp_path / "back")]) == 0
    assert tables_of(below(tmp_path / "back")) == tables_of(below(data))


def test_what_is_damaged_here_is_not_sent(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = urls_table(tmp_path / "urls", 2)
    body = bytearray((table / "00001.parquet").read_bytes())
    body[40] ^= 1
    (table / "00001.parquet").write_bytes(body)
    assert main(["push", str(table), f"{BUCKET}/urls"]) == 1
    assert f"where: {table / '00001.parquet'}" in capsys.readouterr().err
    assert f"urls/{MANIFEST}" not in content(there[1], "pairs")


def test_what_is_damaged_there_is_not_taken(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = there[1]
    main(["push", str(urls_table(tmp_path / "urls", 2)), f"{BUCKET}/urls"])
    body = bytearray(content(client, "pairs")["urls/00001.parquet"])
    body[40] ^= 1
    client.put_object(Bucket="pairs", Key="urls/00001.parquet", Body=bytes(body))
    assert main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")]) == 1
    assert f"where: {BUCKET}/urls/00001.parquet" in capsys.readouterr().err
    assert not open_folder(tmp_path / "back").complete
    client.delete_object(Bucket="pairs", Key="urls/00001.parquet")
    assert main(["pull", f"{BUCKET}/urls", str(tmp_path / "back")]) == 1
    assert "there is no such object" in capsys.readouterr().err


def test_two_who_push_different_tables_to_one_address_are_told(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there
    table = urls_table(tmp_path / "urls", 3)

    def rule(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("00002.parquet"):
            client.put_object(Bucket="pairs", Key="urls/00000.parquet", Body=b"another's")

    server.rule = rule
    assert main(["push", str(table), f"{BUCKET}/urls", "--jobs", "1"]) == 1
    assert "somebody else writes to this address" in capsys.readouterr().err
    assert f"urls/{MANIFEST}" not in content(client, "pairs")
    server.rule = lambda method, path: None
    assert main(["push", str(table), f"{BUCKET}/urls"]) == 0
    assert {f"urls/{name}": body for name, body in below(table).items()} == content(client, "pairs")


def test_a_push_holds_the_lease_by_which_runs_write(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = urls_table(tmp_path / "urls", 2)
    with leased(bucket_at(Address("s3", "pairs", "d")), "sample"):
        for address in ("d/urls", "d/quarantine/sample"):
            assert main(["push", str(table), f"{BUCKET}/{address}"]) == 1
            assert "another run writes stage sample of this dataset" in capsys.readouterr().err
    assert content(there[1], "pairs") == {}

    def heedless(environ: Any, answer: Any) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return answer()

    there[0].rule = lambda method, path: heedless
    assert main(["push", str(table), f"{BUCKET}/d/urls"]) == 0
    assert "no lease is taken, so let nobody else write there" in capsys.readouterr().err
    assert {f"d/urls/{name}": body for name, body in below(table).items()} == content(there[1], "pairs")


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_expired_credentials_and_missing_buckets_are_errors_of_ours(
    verb: str, there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, back = urls_table(tmp_path / "urls", 2), tmp_path / "back"
    words = {"push": (str(table), "{}/urls"), "pull": ("{}/urls", str(back))}[verb]
    assert main([verb, *(word.format("s3://elsewhere") for word in words), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["error"], said["what"]) == ("InputError", "there is no such bucket")
    there[0].rule = lambda method, path: faults.EXPIRED
    assert main([verb, *(word.format(BUCKET) for word in words), "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert (said["what"], said["where"]) == ("the credentials have expired", f"{BUCKET}/urls")


def test_unfinished_tables_and_foreign_folders_are_refused(
    there: tuple[Server, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = urls_table(tmp_path / "urls", 2)
    main(["push", str(table), f"{BUCKET}/urls"])
    other = write_folder(tmp_path / "shards", (3,))
    assert main(["pull", f"{BUCKET}/urls", str(other)]) == 1
    assert "the folder holds the table shards" in capsys.readouterr().err
    (table / MANIFEST).rename(table / "_pairloom" / "manifest.jsonl")
    (table / "_pairloom" / "manifest.jsonl").write_text(
        json.dumps(vars(open_folder(other).header) | {"table": "urls", "stage": "sample"}) + "\n"
    )
    assert main(["push", str(table), f"{BUCKET}/urls"]) == 1
    assert "the table is unfinished" in capsys.readouterr().err


def test_without_obstore_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    assert main(["push", str(urls_table(tmp_path / "urls", 1)), f"{BUCKET}/urls"]) == 1
    assert "install pairloom[bucket]" in capsys.readouterr().err
