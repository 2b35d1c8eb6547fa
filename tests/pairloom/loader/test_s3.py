"""Shards in a bucket: the batches of those on disk, from moto's S3 server over HTTP."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer

from pairloom.errors import InputError
from pairloom.loader import Loader, Options
from pairloom.loader.reading import DamagedError
from tests.pairloom.loader.loading import recipe, rows_of, tokenizer, write_folder

SHARD = "shards/train-00000.parquet"


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket with a folder of shards, and the variables by which every S3 client finds it."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    given = {
        "ENDPOINT_URL": address,
        "ACCESS_KEY_ID": "test",
        "SECRET_ACCESS_KEY": "test",
        "DEFAULT_REGION": "us-east-1",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    write_folder(tmp_path / "shards", (9, 8, 6))
    client = boto3.client("s3")
    client.create_bucket(Bucket="pairs")
    for file in (tmp_path / "shards").rglob("*"):
        if file.is_file():
            client.upload_file(str(file), "pairs", str(file.relative_to(tmp_path)))
    yield client
    server.stop()


def batches(shards: Any, **options: Any) -> list[list[dict[str, Any]]]:
    mine = Loader(shards, recipe(), tokenizer(), seed=2, batch_size=8, options=Options(window=2, **options))
    return [rows_of(batch) for batch in itertools.islice(mine, 8)]


def test_batches_from_a_bucket_are_those_of_the_same_shards_on_disk(bucket: Any, tmp_path: Path) -> None:
    assert batches("s3://pairs/shards", cache=tmp_path / "cache") == batches(tmp_path / "shards")


def test_an_object_that_was_damaged_in_the_bucket_is_refused(bucket: Any, tmp_path: Path) -> None:
    content = bytearray(bucket.get_object(Bucket="pairs", Key=SHARD)["Body"].read())
    content[4:-2000] = bytes(len(content) - 2004)
    bucket.put_object(Bucket="pairs", Key=SHARD, Body=bytes(content))
    with pytest.raises(DamagedError, match="not what was written"):
        batches("s3://pairs/shards", cache=tmp_path / "cache")


def test_a_bucket_without_shards_is_told_at_once(bucket: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        batches("s3://pairs/nothing", cache=tmp_path / "cache")
