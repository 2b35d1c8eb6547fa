"""A comment of a YAML file is told of the setting that a reader would say it is about."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.yaml_comments import COMMENT, comments_of, head_of
from stages.regions.catalogue import FOLDER as DETECTORS
from systems.recipes import FOLDER as RECIPES

FILES = sorted([*RECIPES.glob("*.yaml"), *DETECTORS.glob("*.yaml")])
TEXT = """\
# About the file,
# in two lines.
a: 1   # beside a
b:     # of a section
  c: {d: 2}  # beside c
             # and on
  # above e
  e: "x#y"
  # above f
  f: 3  # beside f
g: 4
# at the end
"""


def test_comments_go_to_the_setting_beside_or_below_them() -> None:
    assert head_of(TEXT) == ["About the file,", "in two lines."]
    assert [(said.path, said.value, said.comment) for said in comments_of(TEXT)] == [
        ("a", "1", "beside a"),
        ("b", "", "of a section"),
        ("b.c", "{d: 2}", "beside c and on"),
        ("b.e", '"x#y"', "above e"),
        ("b.f", "3", "above f – beside f"),
        ("", "", "at the end"),
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_comment_is_lost_and_each_is_of_a_setting_that_yaml_finds_there(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    said = comments_of(text)
    told = " ".join([*head_of(text), *(each.comment for each in said)]).replace(" – ", " ")
    words = [COMMENT.search(line) for line in text.splitlines()]
    assert told.split() == [word for found in words if found for word in found.group(1).split()]
    without = "\n".join(COMMENT.sub("", line) for line in text.splitlines())
    assert yaml.safe_load(without) == yaml.safe_load(text)  # no `#` inside a value was taken for a comment
    for each in said:
        value = yaml.safe_load(text)
        for key in filter(None, each.path.split(".")):
            value = value[key]
        assert not each.value or yaml.safe_load(each.value) == value
