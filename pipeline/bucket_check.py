"""What `pairloom doctor s3://bucket/folder` looks at: whether a run can read and write there, each thing by itself."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator

from pairloom.errors import PairloomError, StoreError
from pairloom.store.address import Address
from pairloom.store.bucket import PART, Bucket, unique
from pipeline.doctor import Check

PATIENCE_S = 10.0
MOST_SKEW_S = 300.0  # S3 refuses requests of a clock that is wrong by 900 s
OTHER_SERVER = "use a server that keeps to it, such as AWS S3 or MinIO, or run on a disk and `pairloom push`"


def report(address: Address) -> list[Check]:
    """Everything, in the order in which it is printed. It puts two small objects there and removes them."""
    bucket, name = Bucket(address, PATIENCE_S), f".pairloom-doctor-{uuid.uuid4().hex}"
    steps: dict[str, Callable[[], tuple[str, str]]] = {
        "credentials, and the right to list": lambda: _listed(bucket, name),
        "the right to write": lambda: _written(bucket, name),
        "the right to read": lambda: _read(bucket, name),
        "put where nothing is (If-None-Match)": lambda: _created_once(bucket, name),
        "put in the place of a known version (If-Match)": lambda: _exchanged(bucket, name),
        "upload in parts": lambda: _in_parts(bucket, f"{name}-parts"),
        "clock": lambda: _clock(bucket, name),
        "the right to delete": lambda: _removed(bucket, name),
    }
    try:
        return list(_checks(steps))
    finally:
        with contextlib.suppress(PairloomError):
            bucket.remove([name, f"{name}-parts"])


def _checks(steps: dict[str, Callable[[], tuple[str, str]]]) -> Iterator[Check]:
    """A check a step, which says (what was found, the cure if it is not well). After no writing nothing is tried."""
    stopped = False
    for number, (name, step) in enumerate(steps.items()):
        if stopped:
            yield Check(topic="bucket", name=name, found="not tried", ok=False)
            continue
        try:
            found, cure = step()
        except ModuleNotFoundError as error:
            found, cure = f"{error.name} is not installed", "install pairloom[bucket]"
        except FileNotFoundError:
            found, cure = "what was put there is gone", "let no lifecycle rule remove objects of the first day"
        except PairloomError as error:
            found, cure = error.args[0], error.args[2]
        stopped = bool(cure) and number < 2
        yield Check(topic="bucket", name=name, found=found, ok=not cure, cure=cure)


def _listed(bucket: Bucket, name: str) -> tuple[str, str]:
    bucket.folders(name)
    return f"{bucket.address} answers", ""


def _written(bucket: Bucket, name: str) -> tuple[str, str]:
    began = time.monotonic()
    bucket.put(name, name.encode())
    return f"a small object took {time.monotonic() - began:.2f} s", ""


def _read(bucket: Bucket, name: str) -> tuple[str, str]:
    if bucket.read(name) != name.encode() or bucket.part(name, 1, 9) != name.encode()[1:9]:
        return "other bytes came back than were put", "use another server"
    return "whole objects and ranges of their bytes", ""


def _created_once(bucket: Bucket, name: str) -> tuple[str, str]:
    if bucket.create(name, unique()):
        return "the server puts an object over another though it was told not to", OTHER_SERVER
    return "one writer sees that another was faster", ""


def _exchanged(bucket: Bucket, name: str) -> tuple[str, str]:
    version = bucket.version(name)
    try:
        first, second = (bucket.exchange(name, unique(), version) for _ in range(2))
    except StoreError as error:  # a server that has it not may answer 501
        return error.args[0], OTHER_SERVER
    if not first or second:
        return "the server exchanges an object whatever version it was told", OTHER_SERVER
    return "a shard that is made again is never missing", ""


def _in_parts(bucket: Bucket, name: str) -> tuple[str, str]:
    content = bytes(PART + 1)
    bucket.put(name, content)
    if bucket.size(name) != len(content):
        return f"{bucket.size(name):,} of {len(content):,} bytes are there", "use another server"
    return f"{len(content):,} bytes in two", ""


def _clock(bucket: Bucket, name: str) -> tuple[str, str]:
    began = time.time()
    bucket.put(name, name.encode())
    there, ended = bucket.changed(name), time.time()
    skew = max(0.0, began - 1 - there, there - ended)  # the server may cut off parts of a second
    if skew > MOST_SKEW_S:
        return f"it differs from the server's by {skew:.0f} s", "set this machine's clock, such as by NTP"
    return f"it differs from the server's by less than {max(skew, 1):.0f} s", ""


def _removed(bucket: Bucket, name: str) -> tuple[str, str]:
    bucket.remove([name])
    if bucket.read(name) is not None:
        return "an object stays after it was removed", "give these credentials the right to delete there"
    return "removed objects are gone", ""
