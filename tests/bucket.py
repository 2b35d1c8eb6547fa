"""A bucket on a server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def bucket(name: str) -> Iterator[Any]:
    """boto3's client of an empty bucket; the variables by which every S3 client finds it are set meanwhile."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    given = {"ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()), "DEFAULT_REGION": "us-east-1"}
    given |= {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    try:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in given.items():
                patch.setenv(f"AWS_{key}", value)
            client = boto3.client("s3")
            client.create_bucket(Bucket=name)
            yield client
    finally:
        server.stop()
