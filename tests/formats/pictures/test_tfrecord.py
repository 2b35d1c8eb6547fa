"""TFRecord files are read as protobuf wrote them, and what is damaged is named."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formats.pictures.tfrecord import MASK, features, masked_crc
from tests.formats.pictures.records import example, record
from tests.formats.pictures.test_sources import read, source

NAMES = st.text(alphabet="abé/", max_size=4)
VALUES = st.one_of(st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1), st.floats(width=32, allow_nan=False))


@pytest.mark.parametrize(  # RFC 3720, B.4, and the check value of the catalogue of CRCs
    ("content", "crc"),
    [
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
)
def test_the_checksum_is_the_published_one(content: bytes, crc: int) -> None:
    rotated = (masked_crc(content) - MASK) & 0xFFFFFFFF
    assert ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF == crc


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_the_bytes_of_an_example_are_what_protobuf_wrote(values: dict[str, bytes | int | float]) -> None:
    wanted = {name.encode(): [value] for name, value in values.items() if isinstance(value, bytes)}
    assert features(example(values)) == wanted


@given(st.binary(max_size=60))
def test_what_is_no_example_raises_nothing_but_a_value_error(content: bytes) -> None:
    with suppress(ValueError):
        assert isinstance(features(content), dict)


RECORDS = [
    record(example({"key": f"k/{number}".encode(), "jpg": bytes([number]) * 500, "width": 7})) for number in range(3)
]


def test_a_picture_is_found_by_its_key_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "0.tfrecord").write_bytes(b"".join(RECORDS))
    asked = ["0.tfrecord/k/2/jpg", "0.tfrecord/k/0/jpg", "0.tfrecord/k/9/jpg", "0.tfrecord/k/1/png"]
    assert read(source(tmp_path), asked) == [b"\x02" * 500, bytes(500), "not-found", "not-found"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 2 * len(RECORDS[0]) - 1), cut=st.booleans())
def test_a_damaged_or_short_file_gives_the_records_before(tmp_path: Path, place: int, cut: bool) -> None:
    content = bytearray(b"".join(RECORDS))
    if cut:
        del content[place:]
    else:
        content[place] ^= 0x10
    (tmp_path / "1.tfrecord").write_bytes(content)
    whole = place // len(RECORDS[0])
    found = read(source(tmp_path), [f"1.tfrecord/k/{number}/jpg" for number in range(3)])
    at_end = cut and place % len(RECORDS[0]) == 0
    lost = "not-found" if at_end else "unreadable"
    assert found == [bytes([number]) * 500 if number < whole else lost for number in range(3)]
