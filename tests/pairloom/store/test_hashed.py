"""A file that is hashed while it is written: the hash is hashlib's of what lies on disk, and errors are not lost."""

import hashlib
import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.store import hashed
from pairloom.store.hashed import HashedFile


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.binary(max_size=50)), step=st.integers(1, 40), most=st.integers(1, 3))
def test_the_hash_is_the_files(
    pieces: list[bytes], step: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashed, "STEP", step)
    monkeypatch.setattr(hashed, "MOST", most)
    path = tmp_path / "file"
    with HashedFile(path) as file:
        for number, content in enumerate(pieces):
            passing = bytearray(content)
            assert file.write(memoryview(passing) if number % 2 else content) == len(content)
            passing[:] = bytes(len(passing))  # its owner uses it for something else
    assert path.read_bytes() == b"".join(pieces)
    assert (file.bytes, file.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_file_that_may_not_grow_is_an_error_of_the_writer(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        with pytest.raises(OSError, match="too large"), HashedFile(tmp_path / "file") as file:
            file.write(bytes(1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_error_of_a_thread_comes_out_with_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match="No space left"), HashedFile(tmp_path / "file") as file:
        file.write(b"a")


def test_an_error_of_the_block_is_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), HashedFile(tmp_path / "file") as file:
        file.write(bytes(1 // 0))
