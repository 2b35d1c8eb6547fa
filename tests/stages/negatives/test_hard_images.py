"""Hard images against brute force over scikit-learn's vectors of tag sets."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from schemas.tags import TAGS
from stages.negatives.hard_images import CLOSEST, hard_images

NAMES = ("red ball", "dog", "fire truck", "red", "ball", "dog house", "x")


def tags_of(sets: list[list[str]]) -> pa.Table:
    rows = [
        [{"text": name, "region": 0, "class_id": 0, "attribute_id": None, "score": 1.0} for name in own] for own in sets
    ]
    return TAGS.table(image_id=[bytes([255 - number]) * 16 for number in range(len(sets))], tags=rows)


@settings(max_examples=60, deadline=None)
@given(sets=st.lists(st.lists(st.sampled_from(NAMES), max_size=4), min_size=1, max_size=12))
def test_hard_images_are_those_of_brute_force(sets: list[list[str]]) -> None:
    found = hard_images(tags_of(sets)).to_pylist()
    if not any(sets):
        assert all(row["images"] == [] for row in found)
        return
    vectors = TfidfVectorizer(analyzer=lambda names: sorted(set(names)), dtype=np.float64).fit_transform(sets)
    cosines = (vectors @ vectors.T).toarray()
    for row, (own, got) in enumerate(zip(sets, found, strict=True)):
        others = [other for other in range(len(sets)) if set(sets[other]) != set(own) and cosines[row, other] > 0]
        assert {255 - one["image_id"][0] for one in got["images"]} == set(others)
        values = [one["similarity"] for one in got["images"]]
        assert values == pytest.approx(sorted((cosines[row, other] for other in others), reverse=True), abs=1e-6)
        assert got["short"] == CLOSEST.top_k - len(others)
