"""The note of finished rows: what was written is found again, and damage costs only what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import binary, dictionaries, integers, text

from pairloom.errors import StoreError
from stages.download.spool import FILE, Spool, key_of

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


@given(url=text(max_size=20), other=text(max_size=20))
def test_rows_are_the_same_only_if_url_and_checksum_are(url: str, other: str) -> None:
    assert (key_of(url, None) == key_of(other, None)) == (url == other)
    assert key_of(url, None) != key_of(url, other)


def test_a_full_disk_ends_the_run_with_a_cure() -> None:
    with Spool(None) as spool:
        full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115  # closed with the spool
        spool._file.close()
        spool._file = full
        with pytest.raises(StoreError, match="No space left"):
            spool.add(bytes(16), {"detail": "x"}, b"picture")
