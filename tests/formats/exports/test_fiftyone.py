"""FiftyOne's layout, held to what FiftyOne itself exports of the same picture (fiftyone.json beside this file)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.shards import SHARDS
from tests.building import training_shard, write_table
from tests.pipeline.features.lists import run
from tests.pipeline.features.pairs import METADATA, row

OWN = json.loads(Path(__file__).with_name("fiftyone.json").read_text(encoding="utf-8"))
RANDOM = ("_id", "_rand")  # FiftyOne draws them
LATER = ("_dataset_id", "created_at", "last_modified_at")  # FiftyOne sets them when it reads


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of two pictures. The second is the one that fiftyone.json has."""
    folder = tmp_path_factory.mktemp("fiftyone")
    rows = [row(0), row(1)]
    for each in rows:
        tag = {"text": "old cat", "region": 0, "class_id": 1, "attribute_id": 1, "score": 0.9, "count": 1}
        tag |= {"start": 0}
        each |= {"attribute_ids": np.array([1, 0]), "attribute_scores": np.array([0.75, 0.25]), "tags": [tag]}
    shard = training_shard(rows, "train", METADATA | {"attributes": json.dumps(["red", "old"])})
    write_table(folder / "shards", SHARDS, {"train-00000": shard}, indexed=True)
    run("export", folder / "shards", "--as", "fiftyone", "--out", folder / "out")
    return folder / "out/train"


def samples(out: Path) -> list[Any]:
    found: list[Any] = json.loads((out / "samples.json").read_text(encoding="utf-8"))["samples"]
    return found


def without(value: Any, names: tuple[str, ...]) -> Any:
    """The value less these keys of every object in it, and less keys of None. Numbers to three places."""
    if isinstance(value, dict):
        return {key: without(each, names) for key, each in value.items() if key not in names and each is not None}
    if isinstance(value, list):
        return [without(each, names) for each in value]
    return round(value, 3) if isinstance(value, float) else value


def test_a_sample_is_what_fiftyone_writes_of_the_same_picture(out: Path) -> None:
    assert without(samples(out)[1], RANDOM) == without(OWN["sample"], RANDOM + LATER)


def test_the_schema_is_what_fiftyone_writes_of_it(out: Path) -> None:
    document = json.loads((out / "metadata.json").read_text(encoding="utf-8"))
    assert (document["media_type"], document["classes"]) == (OWN["media_type"], OWN["classes"])
    ours, own = (
        {field["name"]: by_name(without(field, ("description",))) for field in fields}
        for fields in (document["sample_fields"], OWN["sample_fields"])
    )
    assert ours == {name: field for name, field in own.items() if name != "_dataset_id"}  # 1.0 does not know that one


def by_name(field: Any) -> Any:
    """A field with its fields in no order."""
    return field | {"fields": {each["name"]: by_name(each) for each in field["fields"]}}


def test_pictures_lie_where_samples_say_and_no_id_is_given_twice(out: Path) -> None:
    found = samples(out)
    assert [(out / each["filepath"]).read_bytes() for each in found] == [row(0)["image"], row(1)["image"]]
    ids = [each["_id"]["$oid"] for each in found]
    assert ids == sorted(ids)  # FiftyOne shows them in this order
    ids += [one["_id"]["$oid"] for each in found for one in each["captions"]["classifications"]]
    ids += [one["_id"]["$oid"] for each in found for one in each["regions"]["detections"]]
    ids += [one["_id"]["$oid"] for each in found for one in each["object_tags"]["classifications"]]
    assert len(set(ids)) == len(ids) == 2 + 3 + 4 + 2
    assert all(len(bytes.fromhex(one)) == 12 for one in ids)  # as an ObjectId has it
