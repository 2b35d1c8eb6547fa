"""Pictures by their locators: the bytes that tarfile, pyarrow and the file system give, and nothing from outside."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis.strategies import binary, dictionaries, floats, lists, sampled_from, text

from formats.locators import Locator
from formats.pictures import SourceError, Sources
from tests.bucket import bucket

BODIES = [bytes([number]) * (700 * number + 1) for number in range(9)]


def read(sources: Sources, paths: Sequence[str]) -> list[bytes | str]:
    """What each place of source `s` gave, or the reason why it gave nothing, in the order asked."""
    found: dict[int, bytes | str] = {}
    for number, body in sources.read([Locator("s", path) for path in paths]):
        if isinstance(body, bytes):
            found[number] = body
        else:
            assert isinstance(body, SourceError), body
            found[number] = body.reason
    sources.close()
    return [found[number] for number in range(len(paths))]


def source(folder: Path, kept: Path | None = None) -> Sources:
    return Sources({"s": str(folder)}, kept)


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], kind: int = tarfile.GNU_FORMAT) -> None:
    with tarfile.open(path, "w", format=kind) as tar:
        for name, body in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(body)
            tar.addfile(facts, io.BytesIO(body))


def containers(folder: Path) -> list[str]:
    """The bodies in each kind of place. Their paths, place by place."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a").mkdir()
    for number, body in enumerate(BODIES):
        (folder / f"a/{number}.jpg").write_bytes(body)
    write_tar(folder / "b.tar", [(f"{number}.jpg", body) for number, body in enumerate(BODIES)])
    plain = pa.table({"image": [{"bytes": body, "path": None} for body in BODIES], "jpg": BODIES, "n": range(9)})
    pq.write_table(plain, folder / "c.parquet", row_group_size=4)
    with pa.OSFile(str(folder / "d.arrow"), "wb") as sink, pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_table(plain, max_chunksize=4)
    with pa.OSFile(str(folder / "e.arrow"), "wb") as sink, pa.ipc.new_file(sink, plain.schema) as writer:
        writer.write_table(plain, max_chunksize=5)
    places = [
        "a/{}.jpg",
        "b.tar/{}.jpg",
        "c.parquet/{}/image",
        "c.parquet/{}/jpg",
        "d.arrow/{}/image",
        "e.arrow/{}/jpg",
    ]
    return [place.format(number) for place in places for number in range(len(BODIES))]


def test_every_kind_of_place_gives_its_bytes_in_any_order(tmp_path: Path) -> None:
    paths = containers(tmp_path / "s")
    assert read(source(tmp_path / "s"), paths) == BODIES * 6
    assert read(source(tmp_path / "s", tmp_path / "kept"), paths[::-1]) == BODIES[::-1] * 6


def test_a_file_is_read_forward_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    containers(tmp_path)
    asked = [Locator("s", f"b.tar/{number}.jpg") for number in (5, 2, 8, 0)]
    assert [number for number, _ in source(tmp_path).read(asked)] == [3, 1, 0, 2]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("../secret.jpg", "path-refused"),
        ("a/../../secret.jpg", "path-refused"),
        ("/etc/hostname", "path-refused"),
        ("a//0.jpg", "path-refused"),
        ("./a/0.jpg", "path-refused"),
        ("", "path-refused"),
        ("a\0b", "path-refused"),
        ("link.jpg", "path-refused"),
        ("links/secret.jpg", "path-refused"),
        ("b.tar//etc/hostname", "path-refused"),
        ("b.tar/../secret.jpg", "path-refused"),
        ("b.tar/x/../../secret.jpg", "path-refused"),
        ("a", "not-found"),
        ("a/none.jpg", "not-found"),
        ("a/0.jpg/x", "not-found"),
        ("pipe", "not-found"),
        ("none.tar/0.jpg", "not-found"),
        ("b.tar/none.jpg", "not-found"),
        ("c.parquet/9/image", "not-found"),
        ("c.parquet/-1/image", "not-found"),
        ("c.parquet/x/image", "not-found"),
        ("c.parquet/0/none", "not-found"),
        ("c.parquet/0/n", "not-found"),
        ("d.arrow/0/none", "not-found"),
        ("fake.tar/0.jpg", "unreadable"),
        ("packed.tar/0.jpg", "unreadable"),
        ("fake.parquet/0/image", "unreadable"),
        ("fake.arrow/0/image", "unreadable"),
    ],
)
def test_what_is_not_in_the_source_is_refused_by_name(tmp_path: Path, path: str, reason: str) -> None:
    folder = tmp_path / "s"
    containers(folder)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "links").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    for name in ("fake.tar", "fake.parquet", "fake.arrow"):
        (folder / name).write_bytes(b"nothing of the kind" * 99)
    with tarfile.open(folder / "packed.tar", "w:gz"):
        pass
    assert read(source(folder, tmp_path / "kept"), [path]) == [reason]


def test_a_link_within_the_source_is_followed(tmp_path: Path) -> None:
    containers(tmp_path)
    (tmp_path / "link.jpg").symlink_to("a/3.jpg")
    (tmp_path / "links").symlink_to("a")
    assert read(source(tmp_path), ["link.jpg", "links/4.jpg"]) == BODIES[3:5]


@contextmanager
def without_rights() -> Iterator[None]:
    """As another user, where this one may read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_permission_is_unreadable() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        containers(folder / "s")
        (folder / "s/a/0.jpg").chmod(0)
        with without_rights():
            assert read(source(folder / "s"), ["a/0.jpg", "a/1.jpg"]) == ["unreadable", BODIES[1]]


def test_a_body_over_the_limit_is_not_read(tmp_path: Path) -> None:
    paths = containers(tmp_path)
    found = read(Sources({"s": str(tmp_path)}, None, max_bytes=1000), paths)
    assert found == [body if len(body) <= 1000 else "body-limit" for body in BODIES] * 6


def test_members_that_lead_out_or_are_links_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, kind in (
            ("/abs.jpg", tarfile.REGTYPE),
            ("../up.jpg", tarfile.REGTYPE),
            ("ok.jpg", tarfile.REGTYPE),
            ("sym.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("dev.jpg", tarfile.CHRTYPE),
        ):
            facts = tarfile.TarInfo(name)
            facts.type, facts.linkname, facts.size = kind, "ok.jpg", 2 if kind == tarfile.REGTYPE else 0
            tar.addfile(facts, io.BytesIO(b"xx"))
    names = ["/abs.jpg", "../up.jpg", "ok.jpg", "sym.jpg", "hard.jpg", "dev.jpg"]
    found = read(source(tmp_path), [f"x.tar/{name}" for name in names])
    assert found == ["path-refused", "path-refused", b"xx", "not-found", "not-found", "not-found"]


@pytest.mark.parametrize("cut", [700, 512 * 5 + 100, 512 * 9])
def test_of_a_tar_that_ends_early_the_members_before_that_come(tmp_path: Path, cut: int) -> None:
    members = [(f"{number}.jpg", bytes([number]) * 600) for number in range(6)]
    write_tar(tmp_path / "x.tar", members)
    whole = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:cut])
    there = sum(512 + (number * 1536) + 600 <= cut for number in range(6))
    found = read(source(tmp_path), [f"x.tar/{number}.jpg" for number in range(6)])
    assert found == [body for _, body in members[:there]] + ["unreadable"] * (6 - there)


def test_the_index_of_a_tar_is_made_once_and_again_when_the_tar_changes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    write_tar(tmp_path / "x.tar", [("1.jpg", b"one")])
    assert read(source(tmp_path, kept), ["x.tar/1.jpg"]) == [b"one"]
    (index,) = kept.iterdir()
    before = index.stat().st_mtime_ns
    assert read(source(tmp_path, kept), ["x.tar/1.jpg"]) == [b"one"]
    assert index.stat().st_mtime_ns == before
    write_tar(tmp_path / "x.tar", [("0.jpg", b"zero" * 200), ("1.jpg", b"changed")])
    assert read(source(tmp_path, kept), ["x.tar/1.jpg", "x.tar/0.jpg"]) == [b"changed", b"zero" * 200]


ODD = text(min_size=1, max_size=60).filter(lambda name: not {"/", "\0"} & set(name) and name not in (".", ".."))
USUAL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(files=dictionaries(ODD, binary(max_size=40), min_size=1, max_size=6))
@example(
    files={"Case.jpg": b"1", "case.jpg": b"2", " lead": b"3", "new\nline": b"4", "100%25.jpg": b"5", "a\\nb": b"6"}
)
@example(files={"é" * 127: b"nfc", "e\u0301.jpg": b"nfd", "x" * 255: b"255 bytes", "a#b?c": b"7", "\u202egpj.x": b"8"})
@USUAL
def test_any_name_is_found_in_a_folder_and_in_a_tar_of_either_format(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("s")
    files = {name: body for name, body in files.items() if len(os.fsencode(name)) <= 255}
    for name, body in files.items():
        (folder / name).write_bytes(body)
    expected = list(files.values())
    write_tar(folder / "gnu.tar", list(files.items()))
    write_tar(folder / "pax.tar", list(files.items()), tarfile.PAX_FORMAT)
    for place in ("", "gnu.tar/", "pax.tar/"):
        # Through the locator's text, as rows have it.
        asked = [Locator("s", place + name) for name in files if not name.lower().endswith((".tar", ".arrow"))]
        found = dict(source(folder).read(asked))
        assert [found[number] for number in range(len(asked))] == expected[: len(asked)] or not asked


@given(values=lists(binary(max_size=50), min_size=1, max_size=70), group=lists(binary(), max_size=0))
@USUAL
def test_rows_of_arrow_are_found_whatever_the_batches(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes], group: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("s")
    table = pa.table({"text": [f"{len(value)}" for value in values], "image": values})
    for size in (1, 7, 100):
        with pa.OSFile(str(folder / "x.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)
        assert read(source(folder), [f"x.arrow/{row}/image" for row in range(len(values))]) == values


def test_a_bucket_gives_the_same_bytes_and_refusals(tmp_path: Path) -> None:
    paths = containers(tmp_path / "s")
    with bucket("pairs") as client:
        _same_in_a_bucket(client, tmp_path, paths)


def _same_in_a_bucket(client: Any, tmp_path: Path, paths: list[str]) -> None:
    for file in (tmp_path / "s").rglob("*.*"):
        client.upload_file(str(file), "pairs", f"deep/s/{file.relative_to(tmp_path / 's')}")
    client.put_object(Bucket="pairs", Key="deep/secret.jpg", Body=b"secret")
    sources = Sources({"s": "s3://pairs/deep/s"}, tmp_path / "kept")
    assert list(sources.root("s").files()) == ["a/" + f"{n}.jpg" for n in range(9)] + [
        "b.tar",
        "c.parquet",
        "d.arrow",
        "e.arrow",
    ]
    asked = [*paths, "../secret.jpg", "none.jpg", "b.tar/none.jpg", "c.parquet/99/image"]
    assert read(sources, asked) == [*BODIES * 6, "path-refused", "not-found", "not-found", "not-found"]


@given(kind=sampled_from(["b.tar", "c.parquet", "d.arrow", "e.arrow"]), where=floats(0, 1), piece=binary(max_size=9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_of_a_container_costs_its_rows_and_nothing_else(
    shared: Path, kind: str, where: float, piece: bytes
) -> None:
    """Bytes are overwritten anywhere, or the rest is cut: each row is bytes or a refusal."""
    content = bytearray((shared / kind).read_bytes())
    start = int(where * len(content))
    content[start : start + len(piece) if piece else len(content)] = piece
    (shared / f"broken-{kind}").write_bytes(content)
    inner = "{}.jpg" if kind == "b.tar" else "{}/image"
    read(source(shared), [f"broken-{kind}/{inner.format(row)}" for row in range(len(BODIES))])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bodies in each kind of container."""
    containers(folder := tmp_path_factory.mktemp("shared") / "s")
    return folder
