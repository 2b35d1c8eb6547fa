"""A bucket's objects, over HTTP from moto's server: put if absent, patience, and refusals that are ours."""

from __future__ import annotations

import itertools
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairloom.errors import InputError, PairloomError, StoreError
from pairloom.store.address import Address
from pairloom.store.bucket import Bucket, unique
from pairloom.store.ranges import Ranges
from tests import bucket as faults
from tests.bucket import Server, content, serving

HERE = Address("s3", "pairs", "some/folder")


@pytest.fixture
def there() -> Iterator[tuple[Server, Any]]:
    with serving("pairs") as found:
        yield found


def test_objects_are_what_another_client_sees(there: tuple[Server, Any]) -> None:
    mine, client = pickle.loads(pickle.dumps(Bucket(HERE))), there[1]
    names = ["a", "deep/er/b c", "ü#?%41", ".hidden"]
    tags = {name: mine.put(name, name.encode() * 5) for name in names}
    assert content(client, "pairs") == {f"some/folder/{name}": name.encode() * 5 for name in names}
    client.put_object(Bucket="pairs", Key="some/folder2", Body=b"a neighbour")
    found = mine.objects()
    assert {one.name: (one.size, one.tag) for one in found} == {n: (5 * len(n.encode()), tags[n]) for n in names}
    assert mine.folders() == ["deep"]
    assert mine.read("deep/er/b c") == b"deep/er/b c" * 5
    assert (mine.read("nothing"), mine.stored("nothing")) == (None, None)
    mine.remove([*names, "nothing"])
    assert mine.objects() == []


def test_of_many_who_create_an_object_one_does(there: tuple[Server, Any]) -> None:
    mine = Bucket(HERE)
    for name in ("first", "second", "third"):
        contents = [unique() for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(partial(mine.create, name), contents))
        assert sum(won) == 1
        assert mine.read(name) == contents[won.index(True)]


def test_who_created_an_object_knows_it_though_the_answer_was_lost(
    there: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
    server, _ = there
    puts = itertools.count()

    def lost(environ: Any, answer: Any) -> Any:
        list(answer())
        environ["werkzeug.socket"].shutdown(2)
        raise ConnectionError

    server.rule = lambda method, path: lost if method == "PUT" and next(puts) == 0 else None
    assert Bucket(HERE).create("lock", unique())
    assert not Bucket(HERE).create("lock", unique())


def test_of_many_who_exchange_an_object_that_they_saw_one_does(there: tuple[Server, Any]) -> None:
    mine = Bucket(HERE)
    mine.put("a", b"old")
    version, contents = mine.version("a"), [unique() for _ in range(4)]
    won = [mine.exchange("a", each, version) for each in contents]
    assert won == [True, False, False, False]
    assert mine.read("a") == contents[0]
    mine.remove(["a"])
    assert not mine.exchange("a", b"new", version)
    assert mine.read("a") is None


def test_what_is_too_large_for_one_request_is_refused_by_name_and_pushed_in_parts(
    there: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.store.bucket.AT_ONCE", {"s3": 8})
    monkeypatch.setattr("pairloom.store.bucket.MOST_PARTS", 2)
    mine = Bucket(HERE)
    assert mine.create("a", b"12345678")
    with pytest.raises(StoreError, match=r"it has 9 bytes, and a server takes 8 in one request") as told:
        mine.create("b", b"123456789")
    assert told.value.args[1] == "s3://pairs/some/folder/b"
    there[0].asked.clear()
    mine.put("b", bytes(11 << 20))
    assert mine.size("b") == 11 << 20
    assert sum(method == "PUT" for method, _ in there[0].asked) == 2


def test_a_busy_server_is_asked_again(there: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
    server, client = there
    turns = itertools.cycle([faults.SLOW_DOWN, faults.SLOW_DOWN, None])
    server.rule = lambda method, path: next(turns)
    mine = Bucket(HERE)
    mine.put("a", b"x" * 1000)
    assert mine.read("a") == b"x" * 1000
    server.rule = lambda method, path: None
    assert content(client, "pairs")["some/folder/a"] == b"x" * 1000


def test_torn_answers_and_uploads_are_asked_for_again(
    there: tuple[Server, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pairloom.store.bucket.PAUSE_S", 0.01)
    server, client = there
    server.rule = faults.first_time(faults.dropped, "PUT", "POST")
    mine, large = Bucket(HERE), bytes(range(256)) * 50_000  # beyond one part
    mine.put("large", large)
    server.rule = faults.first_time(faults.torn, "GET")
    assert mine.read("large") == large
    server.rule = lambda method, path: None
    assert content(client, "pairs")["some/folder/large"] == large


def test_a_server_that_stays_busy_ends_it_with_a_cure(
    there: tuple[Server, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    there[0].rule = lambda method, path: faults.SLOW_DOWN
    with pytest.raises(StoreError) as error:
        Bucket(HERE, patience_s=2.0).put("a", b"")
    what, where, fix = error.value.args
    assert "the server answered 503 SlowDown" in what
    assert where == "s3://pairs/some/folder/a"
    assert "resumes" in fix
    assert "trying again for 2 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "code", "what", "fix"),
    [
        ("400 Bad Request", "ExpiredToken", "credentials have expired", "renew them"),
        ("403 Forbidden", "InvalidAccessKeyId", "access key is not known", "AWS_ACCESS_KEY_ID"),
        ("403 Forbidden", "SignatureDoesNotMatch", "secret key", "AWS_SECRET_ACCESS_KEY"),
        ("403 Forbidden", "RequestTimeTooSkewed", "clock is wrong", "set it"),
        ("403 Forbidden", "AccessDenied", "access is denied", "the right to list, read, write"),
        ("301 Moved Permanently", "PermanentRedirect", "another region", "AWS_REGION"),
    ],
)
def test_what_the_server_refuses_for_good_is_told_at_once(
    there: tuple[Server, Any], status: str, code: str, what: str, fix: str
) -> None:
    there[0].rule = lambda method, path: faults.said(status, code)
    mine = Bucket(HERE)
    for ask in (
        lambda: mine.put("a", b"1"),
        lambda: mine.read("a"),
        lambda: mine.objects(),
        lambda: mine.remove(["a"]),
    ):
        with pytest.raises(InputError) as error:
            ask()
        assert what in error.value.args[0]
        assert fix in error.value.args[2]


def test_a_missing_bucket_is_an_error_of_ours(there: tuple[Server, Any]) -> None:
    mine = Bucket(Address("s3", "elsewhere"))
    for ask in (
        lambda: mine.put("a", b"1"),
        lambda: mine.read("a"),
        lambda: mine.objects(),
        lambda: mine.create("a", b"1"),
    ):
        with pytest.raises(InputError, match="no such bucket"):
            ask()


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(PairloomError, match="hf://"):
        Bucket(Address("hf", "x")).read("a")


def test_parquet_is_read_by_ranges(there: tuple[Server, Any]) -> None:
    table = pa.table({"a": range(1000), "blob": [bytes(2000)] * 1000})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="NONE", use_dictionary=False)
    mine, whole = Bucket(HERE), sink.getvalue().to_pybytes()
    mine.put("t.parquet", whole)
    there[0].asked.clear()
    far = Ranges(partial(mine.part, "t.parquet"), len(whole))
    assert pq.ParquetFile(far).read(["a"])["a"].to_pylist() == list(range(1000))
    assert 0 < len(there[0].asked) < 6


def test_a_store_that_lists_tags_without_quotes_gives_the_same_tags(there: tuple[Server, Any]) -> None:
    def unquoted(environ: Any, answer: Any) -> list[bytes]:  # as Azure does
        whole = b"".join(answer())
        bare = re.sub(rb'<ETag>(?:"|&quot;|&#34;)(\w+)(?:"|&quot;|&#34;)</ETag>', rb"<ETag>\1</ETag>", whole)
        assert bare != whole
        return [bare.ljust(len(whole))]

    mine = Bucket(HERE)
    tag = mine.put("a", b"content")
    there[0].rule = lambda method, path: unquoted if "list-type" in path else None
    assert [one.tag for one in mine.objects()] == [tag]
