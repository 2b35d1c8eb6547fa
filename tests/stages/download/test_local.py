"""Pictures of sources through the stage: what the web would have given, without a socket, and resumed row by row."""

from __future__ import annotations

import shutil
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pairloom.errors import ConfigError, RunError
from pairloom.extra import as_extra
from schemas.quarantine import QUARANTINE
from schemas.urls import URLS
from stages import download
from stages.contract import Counts
from stages.download.spool import key_of
from tests.stages.download.hostile import jpeg


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    sink = BytesIO()
    Image.open(BytesIO(jpeg(seed=3))).save(sink, "JPEG", exif=exif)
    return sink.getvalue()


def png() -> bytes:
    sink = BytesIO()
    Image.new("RGBA", (40, 30), (200, 10, 10, 128)).save(sink, "PNG")
    return sink.getvalue()


# name -> body. Among them what is turned, resized, encoded once more, damaged, and none
BODIES = {
    "plain.jpg": jpeg(seed=1), "large.jpg": jpeg(640, 480, seed=2), "turned.jpg": rotated(), "alpha.png": png(),
    "cut.jpg": jpeg(seed=4)[:900], "page.jpg": b"<html>no picture</html>", "empty.jpg": b"",
}  # fmt: skip


def listed(urls: list[str]) -> pa.Table:
    return URLS.table(url=urls, captions=[[{"text": f"caption {n}", "lang": "en"}] for n in range(len(urls))],
                      extra=[[] for _ in urls])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bodies in a folder, a tar, a Parquet file and an Arrow file."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "pictures").mkdir()
    for name, body in BODIES.items():
        (folder / "pictures" / name).write_bytes(body)
    with tarfile.open(folder / "all.tar", "w") as tar:
        for name in BODIES:
            tar.add(folder / "pictures" / name, name)
    table = pa.table({"name": list(BODIES), "image": [{"bytes": body, "path": None} for body in BODIES.values()]})
    pq.write_table(table, folder / "all.parquet", row_group_size=2)
    with pa.OSFile(str(folder / "all.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return folder


PLACES = {
    "folder": [f"own:pictures/{name}" for name in BODIES],
    "tar": [f"own:all.tar/{name}" for name in BODIES],
    "parquet": [f"own:all.parquet/{row}/image" for row in range(len(BODIES))],
    "arrow": [f"own:all.arrow/{row}/image" for row in range(len(BODIES))],
}


@pytest.fixture(scope="module")
def tools(folder: Path) -> Iterator[download.Tools]:
    config = download.Config(serve=str(folder), sources=(("own", str(folder)),), max_side=256)
    made = download.setup(config, None)
    assert made.server is not None
    yield made
    made.engine.close()
    made.server.close()


def without_url(table: pa.Table) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.drop_columns("url").to_pylist()
    return rows


def test_a_source_gives_what_the_web_would(tools: download.Tools) -> None:
    web, web_rejects = download.process(listed([f"http://sample.invalid/pictures/{name}" for name in BODIES]), tools)
    assert web.num_rows == 4
    for urls in PLACES.values():
        table, rejects = download.process(listed(urls), tools)
        assert without_url(table) == without_url(web)
        assert table["url"].to_pylist() == urls[:4]
        assert rejects["reason"].to_pylist() == web_rejects["reason"].to_pylist()
        assert rejects["key"].to_pylist() == urls[4:]


def test_sources_and_the_web_may_stand_in_one_list(tools: download.Tools) -> None:
    urls = ["own:pictures/plain.jpg", "http://sample.invalid/pictures/large.jpg", "own:none.jpg", "other:x.jpg"]
    table, rejects = download.process(listed(urls), tools)
    assert table["url"].to_pylist() == urls[:2]
    QUARANTINE.check(rejects, where="test")
    assert list(zip(rejects["key"].to_pylist(), rejects["reason"].to_pylist(), strict=True)) == [
        ("own:none.jpg", "not-found"),
        ("other:x.jpg", "scheme-refused"),
    ]


WATCHED: list[str] = []  # events of sockets while a test watches


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook, which stays as long as the process: it notes only what goes to a network."""
    if event == "socket.getaddrinfo" or (event in ("socket.connect", "socket.bind", "socket.sendto")):
        WATCHED.append(event)
    elif event == "socket.__new__" and arguments[1] != 1:  # AF_UNIX: pipes to decoding processes
        WATCHED.append(f"{event} {arguments[1]}")


def test_no_socket_is_opened_for_local_sources(folder: Path, tmp_path: Path) -> None:
    sys.addaudithook(watch)
    tools = download.setup(download.Config(sources=(("own", str(folder)),)), tmp_path / ".index/download/x")
    WATCHED.clear()
    table, _ = download.process(listed([url for urls in PLACES.values() for url in urls]), tools)
    events = list(WATCHED)
    tools.engine.close()
    assert table.num_rows == 4 * len(PLACES)
    assert events == []


def test_a_proxy_matters_to_rows_of_the_web_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    tools = download.setup(download.Config(sources=(("own", str(folder)),)), None)
    table, _ = download.process(listed(PLACES["folder"][:1]), tools)
    assert table.num_rows == 1
    with pytest.raises(ConfigError, match="proxy"):
        download.process(listed(["http://a.example/x.jpg"]), tools)
    tools.engine.close()


def test_what_is_finished_of_a_shard_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(folder / "pictures", own)
    tools = download.setup(download.Config(sources=(("own", str(own)),)), None)
    rows = [(f"own:{name}", None) for name in BODIES]
    with tools.engine.run(rows[:3], tmp_path / "partial"):
        pass
    for name in list(BODIES)[:2]:
        (own / name).unlink()  # finished: nobody asks for it
    with tools.engine.run(rows, tmp_path / "partial") as spool:
        found = [spool.get(key_of(*row)) for row in rows]
    tools.engine.close()
    assert [outcome.get("reason") for outcome, _ in found] == [None] * 4 + ["damaged-image"] + ["not-an-image"] * 2
    assert found[0][1] == BODIES["plain.jpg"]


def test_failures_of_another_program_are_kept_or_fetched(tools: download.Tools, folder: Path) -> None:
    names = ["plain.jpg", "large.jpg"]
    urls = URLS.table(
        url=[f"http://sample.invalid/pictures/{name}" for name in names],
        captions=[[], []],
        extra=[
            as_extra({"earlier_reason": "dns", "earlier_detail": "img2dataset: it said so"}),
            as_extra({"earlier_reason": "?"}),
        ],
    )
    table, rejects = download.process(urls, tools)
    assert table["url"].to_pylist() == urls["url"].to_pylist()[1:]
    (row,) = rejects.to_pylist()
    assert (row["reason"], row["detail"]) == ("dns", "img2dataset: it said so")
    config = download.Config(min_success_rate=0.9)
    download.check(Counts(2, 1, {"dns": 1}), config, [rejects])  # it says nothing of this run
    with pytest.raises(RunError, match="only 1 of 3"):
        download.check(Counts(3, 1, {"dns": 1, "timeout": 1}), config, [rejects])
