"""Addresses: what is a path and what is not, and that nothing which works on folders takes an address for one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis.strategies import from_regex, sampled_from

from pairloom.errors import InputError
from pairloom.loader.source import LocalSource, open_source
from pairloom.store.address import Address, local, parse
from pairloom.store.folder import open_folder

PARTS = from_regex(r"[a-z0-9._=-]{1,8}(/[A-Za-z0-9._=-]{1,8}){0,3}", fullmatch=True).filter(
    lambda path: "." not in path.split("/")  # pathlib leaves such parts out
)


@given(sampled_from(["s3", "gs", "az"]), from_regex(r"[a-z0-9][a-z0-9-]{2,20}", fullmatch=True), PARTS)
def test_an_address_is_split_as_a_url_is(scheme: str, bucket: str, path: str) -> None:
    text = f"{scheme}://{bucket}/{path}"
    found, url = parse(text), urlsplit(text)
    assert found == Address(url.scheme, url.netloc, url.path.strip("/"))
    assert str(found) == text
    assert parse(Path(text)) == found  # pathlib has made one slash of two


@pytest.mark.parametrize("text", ["data", "/data/x", "./s3:/b", "../a:b/c", "s3", "C:/x", "data/s3://b"])
def test_a_path_stays_a_path(text: str) -> None:
    assert parse(text) == Path(text)


def test_file_addresses_are_paths() -> None:
    assert parse("file:///data/a%20b") == parse("file://localhost/data/a b") == Path("/data/a b")


def test_an_address_without_a_bucket_is_refused() -> None:
    with pytest.raises(InputError, match="names no bucket"):
        parse("s3:///")


def test_what_works_on_folders_names_the_address_it_was_given() -> None:
    for ask in (local, open_folder):
        with pytest.raises(InputError) as error:
            ask("s3://pairs/data")
        assert error.value.args[1] == "s3://pairs/data"
        assert "pairloom pull s3://pairs/data DIR" in error.value.args[2]


def test_the_loader_opens_file_addresses_as_folders(tmp_path: Path) -> None:
    source = open_source(f"file://{tmp_path}")
    assert isinstance(source, LocalSource)
    assert source.path == tmp_path
