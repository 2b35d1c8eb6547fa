"""The note of finished rows: what was written is found again, and damage costs only what is damaged."""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import binary, dictionaries, integers, randoms, text

from pairloom.errors import StoreError
from stages.download.spool import BODIES, FILE, Spool, key_of

ROWS = dictionaries(binary(min_size=16, max_size=16), binary(max_size=50), min_size=1, max_size=8)


def write(folder: Path, rows: dict[bytes, bytes]) -> None:
    (folder / FILE).unlink(missing_ok=True)
    with Spool(folder) as spool:
        for key, picture in rows.items():
            spool.add(key, {"detail": key.hex(), "attempts": 1}, picture)


@given(rows=ROWS, cut=integers(0, 400))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_crash_at_any_byte_keeps_every_whole_record_and_goes_on(
    tmp_path: Path, rows: dict[bytes, bytes], cut: int
) -> None:
    write(tmp_path, rows)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[:cut])
    with Spool(tmp_path) as spool:
        found = [key for key in rows if key in spool]
        assert found == list(rows)[: len(found)]
        for key, picture in rows.items():
            if key not in spool:
                spool.add(key, {"detail": key.hex(), "attempts": 1}, picture)
    assert (tmp_path / FILE).read_bytes() == whole


@given(rows=ROWS, place=integers(0, 1000), bit=integers(0, 7))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_never_taken_for_an_outcome(
    tmp_path: Path, rows: dict[bytes, bytes], place: int, bit: int
) -> None:
    write(tmp_path, rows)
    damaged = bytearray((tmp_path / FILE).read_bytes())
    damaged[place % len(damaged)] ^= 1 << bit
    (tmp_path / FILE).write_bytes(damaged)
    with Spool(tmp_path) as spool:
        for key, picture in rows.items():
            if key in spool:
                assert spool.get(key) == ({"detail": key.hex(), "attempts": 1}, picture)


@given(rows=ROWS, bodies=ROWS, order=randoms(use_true_random=False), cut=integers(0, 900))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_body_is_there_until_its_outcome_is(
    tmp_path: Path, rows: dict[bytes, bytes], bodies: dict[bytes, bytes], order: Random, cut: int
) -> None:
    with TemporaryDirectory(dir=tmp_path) as name:
        folder = Path(name)
        done = [key for key in rows if key in bodies]
        with Spool(folder) as spool:
            for key, body in bodies.items():
                spool.add_body(key, {"kind": key.hex()}, body)
            for key in order.sample(done, len(done)):
                spool.add(key, {"detail": ""}, rows[key])
        left = bodies.keys() - rows.keys()
        files = list(folder.glob(BODIES))
        assert bool(files) == bool(left)
        for file in files:
            file.write_bytes(file.read_bytes()[:cut])
        with Spool(folder) as spool:
            there = {key for key in bodies if spool.has_body(key)}
            assert there <= left
            assert cut < 900 or there == left
            for key in there:
                assert spool.body(key) == ({"kind": key.hex()}, bodies[key])
                spool.add(key, {"detail": ""})
        assert not list(folder.glob(BODIES)) or there != left


def test_bodies_take_little_more_of_the_disk_than_what_waits(tmp_path: Path) -> None:
    body = bytes(1 << 20)
    with Spool(tmp_path) as spool:
        for number in range(60):  # at most ten wait
            spool.add_body(number.to_bytes(16), {}, body)
            if number >= 10:
                spool.add((number - 10).to_bytes(16), {"reason": "x"})
            assert sum(file.stat().st_size for file in tmp_path.glob(BODIES)) < 20 << 20
        for number in range(50, 60):
            spool.add(number.to_bytes(16), {"reason": "x"})
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


@given(url=text(max_size=20), other=text(max_size=20))
def test_rows_are_the_same_only_if_url_and_checksum_are(url: str, other: str) -> None:
    assert (key_of(url, None) == key_of(other, None)) == (url == other)
    assert key_of(url, None) != key_of(url, other)


def test_a_full_disk_ends_the_run_with_a_cure() -> None:
    with Spool(None) as spool:
        full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115  # closed with the spool
        spool._records._file.close()
        spool._records._file = full
        with pytest.raises(StoreError, match="No space left"):
            spool.add(bytes(16), {"detail": "x"}, b"picture")
