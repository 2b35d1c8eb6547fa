"""A bucket on a server of this machine: moto's S3, which can be made to fail as the web does."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from pairloom.store.scratch import bucket_at

Fault = Callable[[Any, Callable[[], Iterable[bytes]]], Iterable[bytes]]  # (environ, answer) -> what is sent
Rule = Callable[[str, str], "Fault | None"]  # (method, path with query) -> what goes wrong with this request
TEST_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    def log(self, type: str, message: str, *args: Any) -> None:
        return None


class Server:
    """moto's S3 over HTTP. What was asked for is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.rule: Rule = lambda method, path: None
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=Quiet)
        threading.Thread(target=partial(self._server.serve_forever, 0.05), daemon=True).start()

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._server.server_address[:2])

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}".rstrip("?")
        self.asked.append((method, path))
        fault = self.rule(method, path)
        environ["start"] = start
        if fault is None:
            found: Iterable[bytes] = self._app(environ, start)
            return found
        return fault(environ, lambda: self._app(environ, start))


def said(status: str, code: str) -> Fault:
    """The server's own refusal."""

    def fault(environ: Any, answer: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as tested</Message></Error>".encode()
        environ["start"](status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
        return [body]

    return fault


SLOW_DOWN = said("503 Slow Down", "SlowDown")
EXPIRED = said("400 Bad Request", "ExpiredToken")


def torn(environ: Any, answer: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
    """The first half of the answer, and then nothing."""
    whole = b"".join(answer())
    return [whole[: len(whole) // 2]]


def dropped(environ: Any, answer: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
    """The body never arrives, and the connection is cut."""
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionError


def first_time(fault: Fault, *methods: str) -> Rule:
    """A rule by which each request of these methods goes wrong once, whatever upload it belongs to."""
    seen: set[str] = set()

    def rule(method: str, path: str) -> Fault | None:
        request = f"{method} {path.partition('uploadId')[0]}"
        if method not in methods or request in seen:
            return None
        seen.add(request)
        return fault

    return rule


def slowly(seconds: float) -> Fault:
    """The same answer, later."""

    def fault(environ: Any, answer: Callable[[], Iterable[bytes]]) -> Iterable[bytes]:
        time.sleep(seconds)
        return answer()

    return fault


@contextmanager
def serving(name: str) -> Iterator[tuple[Server, Any]]:
    """(the server, boto3's client of it) with an empty bucket. The variables by which clients find it are set."""
    server = Server()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for key, value in {**TEST_KEYS, "AWS_ENDPOINT_URL": server.url}.items():
                patch.setenv(key, value)
            patch.setenv("no_proxy", "*")
            bucket_at.cache_clear()  # clients of an earlier server
            client = boto3.client("s3")
            for old in client.list_buckets()["Buckets"]:  # moto's buckets outlive a server of this process
                remove_bucket(client, old["Name"])
            client.create_bucket(Bucket=name)
            yield server, client
    finally:
        server.stop()


def remove_bucket(client: Any, name: str) -> None:
    for key in content(client, name):
        client.delete_object(Bucket=name, Key=key)
    client.delete_bucket(Bucket=name)


@contextmanager
def bucket(name: str) -> Iterator[Any]:
    """boto3's client of an empty bucket."""
    with serving(name) as (_, client):
        yield client


def content(client: Any, name: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=name)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key: client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}


def below(folder: Any) -> dict[str, bytes]:
    """Every file below a folder, as `content` has those of a bucket."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def environment() -> dict[str, str]:
    """That of a process which finds the bucket."""
    return dict(os.environ)
