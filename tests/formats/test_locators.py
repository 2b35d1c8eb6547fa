"""Locators: text of one line, and the path back, whatever the file is called."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis.strategies import binary, sampled_from, text

from formats import locators
from formats.locators import Locator

NAMES = text(min_size=1, max_size=80).filter(lambda name: "/" not in name and "\0" not in name)


@given(name=sampled_from(["coco", "a", "my-set_2"]), raw=binary(min_size=1, max_size=255))
def test_any_path_comes_back(name: str, raw: bytes) -> None:
    path = os.fsdecode(raw)
    written = str(Locator(name, path))
    assert "\n" not in written
    written.encode("utf-8")  # fits a table
    assert locators.parse(written, {name}) == Locator(name, path)


def test_a_url_is_no_locator_and_a_scheme_no_name() -> None:
    assert locators.parse("http://a.example/x.jpg", {"coco"}) is None
    assert locators.parse("cocoa:x.jpg", {"coco"}) is None
    assert locators.parse("coco", {"coco"}) is None
    assert not any(map(locators.is_name, ("http", "https", "file", "", "A", "1a", "a b", "a:b")))
    assert all(map(locators.is_name, ("coco", "coco-2017", "my_set")))
