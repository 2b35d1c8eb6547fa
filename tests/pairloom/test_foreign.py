"""Text of others is rewritten only where a table could not hold it or two runs would differ."""

from __future__ import annotations

import io
import json
import os

import pyarrow as pa
from hypothesis import given
from hypothesis.strategies import binary, characters, text

from pairloom.foreign import shown, storable
from pairloom.table import Column, Table
from stages.rejects import Reject, quarantine

ANY = text(characters(codec=None, exclude_categories=()))
NOTES = Table(
    name="notes",
    version=1,
    row="one note",
    columns=(
        Column("plain", pa.string(), "text", nullable=True),
        Column("listed", pa.list_(pa.string()), "texts"),
        Column("named", pa.map_(pa.string(), pa.string()), "texts by name"),
        Column("parts", pa.list_(pa.struct([("text", pa.string())])), "texts in structures"),
    ),
)


def test_what_utf8_can_hold_stays_and_the_rest_is_escaped() -> None:
    assert storable("naïve 日本 \n\t\0") == "naïve 日本 \n\t\0"
    assert storable("t\udce9xt \ud800") == r"t\xe9xt \ud800"


@given(ANY)
def test_any_text_becomes_storable_and_does_so_once(given: str) -> None:
    for rewrite in (storable, shown):
        once = rewrite(given)
        assert once.encode().decode() == once == rewrite(once)
    assert len(shown(given).splitlines()) <= 1


@given(binary(min_size=1, max_size=20))
def test_any_file_name_becomes_storable(name: bytes) -> None:
    assert storable(os.fsdecode(name)).encode()


def test_a_detail_holds_no_memory_address() -> None:
    with io.BytesIO() as one, io.BytesIO() as two:
        assert shown(f"cannot identify {one}") == shown(f"cannot identify {two}")
    assert shown("invalid marker at 0x1f <b>") == "invalid marker at 0x1f <b>"


@given(ANY)
def test_a_table_holds_any_text_in_every_column(given: str) -> None:
    table = NOTES.table(
        plain=[given, None], listed=[[given], []], named=[[(given, given)], []], parts=[[{"text": given}], []]
    )
    clean = storable(given)
    assert table.to_pylist()[0] == {
        "plain": clean, "listed": [clean], "named": [(clean, clean)], "parts": [{"text": clean}]
    }  # fmt: skip


@given(ANY)
def test_a_reject_holds_any_text_and_its_row_is_json(given: str) -> None:
    row = quarantine("sample", [Reject(given, "bad-value", given, {"url": given, "extra": [(given, given)]})])
    assert row["detail"].to_pylist() == [shown(given)]
    assert json.loads(row["row"][0].as_py()) == {"url": storable(given), "extra": [[storable(given)] * 2]}
