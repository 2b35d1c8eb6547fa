"""A stage on a dataset in a bucket, over HTTP to moto's S3: the bytes of a disk, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pairloom.store import scratch
from pairloom.store.address import Address
from pairloom.store.folder import open_folder, read_shard
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from tests.bucket import Server, content
from tests.pipeline.far import BUCKET, STAGE, TEXTS, emptied, in_bucket, listed, on_disk, puts, words
from tests.pipeline.words import Config


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[Server, Any]]:
    with emptied(tmp_path) as found:
        listed()
        yield found


def test_a_stage_writes_what_it_writes_on_a_disk_and_then_nothing_is_due(there: tuple[Server, Any]) -> None:
    server, client = there
    wanted = on_disk()
    assert main(words(BUCKET)) == 0
    assert in_bucket(client) == wanted
    server.asked.clear()
    assert main(words(BUCKET)) == 0
    assert [path for method, path in server.asked if method == "PUT" and "/.locks/" not in path] == []
    assert not [path for _, path in server.asked if path.endswith(".parquet")]
    assert in_bucket(client) == wanted
    assert not list(Path("tmp").glob("pairloom-*/*"))  # what was on its way is gone


def test_a_list_that_grows_costs_its_new_shards_alone(there: tuple[Server, Any]) -> None:
    server, client = there
    assert main(words(BUCKET)) == 0
    listed([*TEXTS, "one", "two"])
    server.asked.clear()
    assert main(words(BUCKET)) == 0
    assert puts(server) == ["00012.parquet"]
    assert in_bucket(client) == on_disk()


def test_other_settings_are_refused_and_with_redo_replace_all_shards(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    client = there[1]
    assert main(words(BUCKET)) == 0
    before = in_bucket(client)
    assert main(words(BUCKET, times=2)) == 1
    said = capsys.readouterr().err
    assert "words.times: 1 → 2" in said
    assert f"where: {BUCKET}/words" in said
    assert in_bucket(client) == before
    assert main(words(BUCKET, "--redo", times=2)) == 0
    assert in_bucket(client) == on_disk(times=2)


def test_a_server_that_ignores_conditions_is_refused_before_anything_is_written(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    server, client = there

    def heedless(environ: Any, answer: Any) -> Any:
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return answer()

    before = content(client, "pairs")
    server.rule = lambda method, path: heedless
    assert main(words(BUCKET)) == 1
    said = capsys.readouterr().err
    assert "ignores `If-None-Match: *`" in said
    assert "`pairloom push`" in said
    assert content(client, "pairs") == before


def test_shards_that_were_made_first_make_room_and_are_fetched_when_they_are_read(
    there: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = there[1]
    monkeypatch.setattr("pairloom.store.folder.KEPT_BYTES", 4000)  # some two shards
    place = Address("s3", "pairs", "d")
    with scratch.opened(place) as root:
        run_stage(STAGE, Config(), root, Options(RunConfig(cluster="inline"), plain=True))
        left = sorted(file.stem for file in (root / "words").glob("*.parquet"))
        assert 1 <= len(left) <= 4
        assert left[-1] == "00011"
        assert open_folder(root / "words").read("00000")["url"][0].as_py() == "http://host/1"
        read_shard(root / "words" / "00000.parquet")
        assert (root / "words" / "00000.parquet").is_file()
    assert in_bucket(client) == on_disk()
