"""VinVL's lines, whose features are cut out of their JSON, say what the package json reads in them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from formats.features import vinvl_tsv
from formats.features.record import Bad, Record

NAMES = st.one_of(st.text(max_size=8), st.sampled_from(["feature", 'a "feature": "b"', "\\", '"feature":']))
OBJECTS = st.lists(st.tuples(NAMES, st.lists(st.integers(0, 9), min_size=3, max_size=3)), min_size=1, max_size=5)
SEPARATORS = st.sampled_from([(", ", ": "), (",", ":"), (" ,", " : ")])


@settings(max_examples=200)
@given(found=OBJECTS, separators=SEPARATORS, ascii_only=st.booleans(), first=st.booleans(), slashes=st.booleans())
def test_any_names_and_any_way_to_write_json(
    found: Any, separators: tuple[str, str], ascii_only: bool, first: bool, slashes: bool, tmp_path_factory: Any
) -> None:
    rows = [np.array(numbers, "<f4") for _, numbers in found]
    texts = [{"feature": base64.b64encode(row.tobytes()).decode()} for row in rows]
    others = [{"class": name, "rect": [1, 2, 3, 4], "conf": 0.5} for name, _ in found]
    objects = [text | other if first else other | text for text, other in zip(texts, others, strict=True)]
    line = json.dumps({"objects": objects}, separators=separators, ensure_ascii=ascii_only)
    file = Path(tmp_path_factory.getbasetemp()) / "predictions.tsv"
    line = line.replace("/", "\\/") if slashes else line
    file.write_text(f"key\t{line}\n", encoding="utf-8")
    (one,) = vinvl_tsv.read(file)
    assert isinstance(one, Record)
    assert np.array_equal(one.features, np.stack(rows))
    assert list(one.class_names or ()) == [name for name, _ in found]


def test_features_of_several_lengths_are_named(tmp_path: Path) -> None:
    objects = [
        {"class": "a", "rect": [1, 2, 3, 4], "conf": 1, "feature": text} for text in ("AAAAAA==", "AAAAAAAAAAA=")
    ]
    (tmp_path / "a.tsv").write_text(f"key\t{json.dumps(objects)}\n")
    (bad,) = vinvl_tsv.read(tmp_path / "a.tsv")
    assert isinstance(bad, Bad)
    assert (bad.reason, bad.detail) == ("other-width", "its features have several widths")
    plain = [each | {"feature": 5} for each in objects]
    (tmp_path / "a.tsv").write_text(f"key\t{json.dumps(plain)}\n")
    (bad,) = vinvl_tsv.read(tmp_path / "a.tsv")
    assert isinstance(bad, Bad)
    assert bad.reason == "bad-features"
