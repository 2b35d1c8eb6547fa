"""Lines of detections in JSON: cut apart from their features, they say what the package json reads in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from formats.features import objects
from formats.features.lines import lines
from tests.formats.features import made

VALUES = st.one_of(st.text(max_size=8), st.integers(), st.sampled_from(["feature", 'a "feature": "b"', "/+==", "\\"]))
OBJECTS = st.lists(st.dictionaries(st.sampled_from(["feature", "class", 'x"feature"', "\\"]), VALUES), max_size=5)


@settings(max_examples=200)
@given(found=OBJECTS, separators=st.sampled_from([(", ", ": "), (",", ":"), (" ,", " : ")]), plain=st.booleans())
def test_with_the_features_put_back_it_is_what_json_reads(
    found: Any, separators: tuple[str, str], plain: bool, tmp_path_factory: Any
) -> None:
    file = Path(tmp_path_factory.getbasetemp()) / "line.tsv"
    text = json.dumps({"objects": found}, separators=separators, ensure_ascii=plain)
    file.write_text(f"key\t{text}\n", encoding="utf-8")
    (line,) = lines(file)
    content, texts = objects.without_features(line)
    back = json.loads(content)["objects"]
    for was, one in zip(found, back, strict=True):
        if isinstance(was.get("feature"), str) and isinstance(one["feature"], int):
            one["feature"] = bytes(texts[one["feature"]]).decode()
    assert back == found


def test_slashes_with_a_backslash_are_read_as_others(tmp_path: Path) -> None:
    records = [made.record(f"picture {number}", 3, number) for number in range(3)]
    made.write("vinvl-tsv", tmp_path, records)
    file = tmp_path / "predictions.tsv"
    file.write_text(file.read_text().replace("/", "\\/"))
    assert "\\/" in file.read_text()
    found = made.good("vinvl-tsv", tmp_path)
    for one in records:
        made.assert_same("vinvl-tsv", found[one.key], one)
