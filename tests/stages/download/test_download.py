"""The stage as the executor sees it: a table in, pairs and rejects out, every row in exactly one of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import lists, sampled_from

from pairloom.errors import ConfigError, InputError, RunError
from pairloom.extra import as_dict, as_extra
from pairloom.typed import build
from schemas.pairs import PAIRS
from schemas.quarantine import QUARANTINE
from schemas.urls import URLS
from stages import download
from stages.contract import Counts
from stages.download.decoders import Decoders
from stages.download.engine import Engine
from stages.download.spool import key_of
from tests.stages.download.hostile import jpeg
from tests.stages.rows import said_of

ONE, TWO = jpeg(seed=1), jpeg(640, 480, seed=2)
BASE = "http://sample.invalid/pictures/"
RULES = {
    "/pictures/broken.jpg": {"status": 500},
    "/pictures/inside.jpg": {"redirect": "http://127.0.0.1:9/secret.jpg"},
    "/pictures/mine.jpg": {"headers": {"X-Robots-Tag": "noai"}, "file": "pictures/one.jpg"},
}
# url, checksum -> what becomes of it
CASES: dict[tuple[str, str | None], str] = {
    (BASE + "one.jpg", None): "stored",
    (BASE + "two.jpg", None): "stored",
    (BASE + "two.jpg", "sha256:" + hashlib.sha256(TWO).hexdigest()): "stored",
    (BASE + "two.jpg", "md5:" + "0" * 32): "checksum",
    (BASE + "gone.jpg", None): "not-found",
    (BASE + "broken.jpg", None): "http-5xx",
    (BASE + "page.jpg", None): "not-an-image",
    (BASE + "cut.jpg", None): "damaged-image",
    (BASE + "inside.jpg", None): "address-refused",
    (BASE + "mine.jpg", None): "opt-out",
    ("http://user:pass@sample.invalid/pictures/one.jpg", None): "scheme-refused",
    ("file:///etc/passwd", None): "scheme-refused",
    ("", None): "scheme-refused",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = tmp_path_factory.mktemp("sample") / "pictures"
    pictures.mkdir()
    files = {"one.jpg": ONE, "two.jpg": TWO, "page.jpg": b"<html>no picture</html>", "cut.jpg": TWO[: len(TWO) // 2]}
    for name, content in files.items():
        (pictures / name).write_bytes(content)
    (pictures.parent / "server.json").write_text(json.dumps(RULES))
    return pictures.parent


@pytest.fixture(scope="module")
def tools(folder: Path) -> Iterator[download.Tools]:
    made = download.setup(download.Config(serve=str(folder), backoff_s=0.001, max_side=256), None)
    assert made.server is not None
    yield made
    made.engine.close()
    made.server.close()


def listed(cases: list[tuple[str, str | None]]) -> pa.Table:
    rows = range(len(cases))
    return URLS.table(
        url=[url for url, _ in cases],
        captions=[[{"text": f"caption {row}", "lang": "en"}] * (row % 3) for row in rows],
        licence=[f"licence {row}" if row % 2 else None for row in rows],
        source=[None for _ in rows],
        checksum=[checksum for _, checksum in cases],
        extra=[as_extra({"row": str(row)}) for row in rows],
    )


def numbers(table: pa.Table) -> list[int]:
    return [int(as_dict(extra)["row"]) for extra in table["extra"].to_pylist()]


def test_each_kind_of_row_ends_where_it_should(tools: download.Tools) -> None:
    table, rejects = download.process(listed(list(CASES)), tools)
    PAIRS.check(table, where="test")
    QUARANTINE.check(rejects, where="test")
    outcomes = list(CASES.values())
    assert numbers(table) == [row for row, outcome in enumerate(outcomes) if outcome == "stored"]
    assert rejects["reason"].to_pylist() == [outcome for outcome in outcomes if outcome != "stored"]
    attempts = dict(zip(rejects["reason"].to_pylist(), rejects["attempts"].to_pylist(), strict=True))
    assert attempts["http-5xx"] == 3
    assert attempts["not-found"] == 1


def test_it_says_of_each_row_that_it_has_an_outcome(tools: download.Tools) -> None:
    rows = listed(list(CASES) * 2)  # each is fetched once
    said = said_of(rows.num_rows, lambda: download.process(rows, tools))
    assert len(said) == 1 + sum(url.startswith(BASE) for url, _ in CASES)  # first those that nobody need ask for
    assert said == sorted(said)
    assert said[-1] == rows.num_rows


def test_a_stored_row_carries_everything_of_the_list_and_of_the_picture(tools: download.Tools) -> None:
    table, _ = download.process(listed([(BASE + "one.jpg", None), (BASE + "two.jpg", None)]), tools)
    one, two = table.to_pylist()
    assert one["image"] == ONE
    assert one["captions"] == []
    assert one["image_id"] == hashlib.sha256(ONE).digest()[:16]
    assert two["captions"] == [{"text": "caption 1", "original": "caption 1", "lang": "en", "kind": None}]
    assert (two["width"], two["height"], two["original_width"], two["original_height"]) == (256, 192, 640, 480)
    assert two["sha256"] == hashlib.sha256(TWO).digest()
    assert two["image_id"] == hashlib.sha256(two["image"]).digest()[:16]
    assert (two["licence"], two["source"], two["extra"]) == ("licence 1", None, as_extra({"row": "1"}))


def test_credentials_reach_no_table(tools: download.Tools) -> None:
    _, rejects = download.process(listed([("http://user:pass@a.example/x.jpg", None)]), tools)
    assert rejects["key"].to_pylist() == ["http://***@a.example/x.jpg"]
    assert "pass" not in json.dumps(rejects.to_pylist())


@given(cases=lists(sampled_from(sorted(CASES, key=str)), max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_row_is_stored_or_rejected_exactly_once_and_in_order(
    tools: download.Tools, cases: list[tuple[str, str | None]]
) -> None:
    table, rejects = download.process(listed(cases), tools)
    kept = numbers(table)
    left = [int(as_dict(json.loads(row)["extra"])["row"]) for row in rejects["row"].to_pylist()]
    assert kept == sorted(kept)
    assert left == sorted(left)
    assert sorted(kept + left) == list(range(len(cases)))
    assert [CASES[cases[row]] == "stored" for row in kept] == [True] * len(kept)


@pytest.mark.parametrize("connections", [1, 7])
def test_bytes_do_not_depend_on_connections_or_on_how_the_shard_is_cut(tools: download.Tools, connections: int) -> None:
    rows = listed(list(CASES) * 2)
    whole = download.process(rows, tools)
    engine = tools.engine
    assert isinstance(engine, Engine)
    few = Engine(replace(engine.manners, connections=connections), engine.courtesy, engine.persistence, engine.decoding)
    other = replace(tools, engine=few)
    parts = [download.process(rows.slice(start, 5), other) for start in range(0, rows.num_rows, 5)]
    few.close()
    for found, together in zip(zip(*parts, strict=True), whole, strict=True):
        assert pa.concat_tables(found).combine_chunks().equals(together.combine_chunks())


def test_an_unexpected_error_in_decoding_ends_the_row_and_neither_shard_nor_engine(
    tools: download.Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BugError(RuntimeError):
        pass

    async def broken(*_: Any) -> Any:
        raise BugError("in decoding")

    row = (BASE + "one.jpg", None)
    with monkeypatch.context() as patched:
        patched.setattr(Decoders, "outcome", broken)
        with tools.engine.run([row], None) as spool:
            outcome, _ = spool.get(key_of(*row))
    assert outcome["reason"] == "stage-error"
    assert outcome["detail"].endswith("BugError: in decoding")
    with tools.engine.run([row], None) as spool:
        assert spool.stored(key_of(*row))


INTERRUPTED = """
import sys
from stages import download

tools = download.setup(download.Config(timeout_s=30.0, allow_hosts=("127.0.0.1",), robots=False), None)
print("ready", flush=True)
tools.engine.run([(f"http://127.0.0.1:{sys.argv[1]}/x", str(row)) for row in range(50)], None)
"""


def test_ctrl_c_ends_the_process_although_servers_hang(hostile: Any) -> None:
    hostile.answers["/x"] = lambda connection, path: hostile.closing.wait(30)
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(hostile.port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    while not hostile.requests:
        time.sleep(0.02)
    process.send_signal(2)
    start = time.monotonic()
    try:
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    assert time.monotonic() - start < 10
    assert process.returncode != 0
    assert "KeyboardInterrupt" in said


def test_no_rows_are_no_work(tools: download.Tools) -> None:
    before = threading.active_count()
    table, rejects = download.process(URLS.empty(), tools)
    assert (table.num_rows, rejects.num_rows) == (0, 0)
    assert threading.active_count() <= before


def test_too_few_downloads_end_the_run_with_the_reasons() -> None:
    config = download.Config(min_success_rate=0.5)
    download.check(Counts(10, 5, {"dns": 5}), config)
    download.check(Counts(0, 0, {}), config)
    with pytest.raises(RunError, match=r"only 4 of 10 rows were downloaded \(4 dns, 1 not-found, 1 timeout\)"):
        download.check(Counts(10, 4, {"timeout": 1, "dns": 4, "not-found": 1}), config)


@pytest.mark.parametrize(
    "wrong",
    [{"timeout_s": 0.0}, {"retries": -1}, {"max_pixels": 10**9}, {"max_side": 0}, {"quality": 101}, {"connections": 0},
     {"per_host_rate": 0.0}, {"decoders": 0}, {"outage_after": 0}, {"contact": "a\nb"}, {"resize": "crop"},
     {"user_agent": "a\r\nX-Injected: b"}, {"min_success_rate": 1.5}],
)  # fmt: skip
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(wrong))}"):
        build(download.Config, wrong, "params.yaml, section download")


def test_a_missing_folder_to_serve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="serve"):
        download.setup(download.Config(serve=str(tmp_path / "nowhere")), tmp_path)
