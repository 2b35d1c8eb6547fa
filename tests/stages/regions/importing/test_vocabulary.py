"""Names of classes and attributes from every published form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pairloom.errors import InputError
from stages.regions import catalogue
from stages.regions.importing import adding, vocabulary
from stages.regions.published.settings import FasterRCNN
from tests.stages.regions.published import checkpoints
from tests.stages.regions.published.families import HUGGING_FACE, small


def test_the_first_of_alternative_names_is_taken(tmp_path: Path) -> None:
    (tmp_path / "objects_vocab.txt").write_text("yolk\ngoal\nbathroom,restroom\nbumper\n")
    assert vocabulary.read(tmp_path / "objects_vocab.txt", "objects", 4) == ("yolk", "goal", "bathroom", "bumper")


def test_background_on_the_first_line_is_no_class(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("__background__\nyolk\ngoal\n")
    assert vocabulary.read(tmp_path / "names.txt", "objects", 2) == ("yolk", "goal")


def test_vinvls_json_has_both_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    content = {
        "label_to_idx": {"__background__": 0, "zebra": 2, "ape": 1},
        "attribute_to_idx": {"__no_attribute__": 0, "wet": 1, "red": 2},
    }
    (tmp_path / "dicts.json").write_text(json.dumps(content))
    assert vocabulary.read(tmp_path / "dicts.json", "objects", 2) == ("ape", "zebra")
    assert vocabulary.read(tmp_path / "dicts.json", "attributes", 2) == ("wet", "red")


def test_a_coco_json_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    content = {"categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}], "images": []}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert vocabulary.read(tmp_path / "coco.json", "objects", 2) == ("person", "toothbrush")


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("few.txt", "yolk\ngoal\n", "2 names of objects, the detector has 3"),
        ("gap.txt", "yolk\n\ngoal\n", "name 2 of objects is empty"),
        ("broken.json", '{"label_to_idx": ', "cannot be read"),
        ("other.json", '{"words": []}', "cannot be read"),
        ("gap.json", '{"label_to_idx": {"a": 1, "b": 3, "c": 4}}', "cannot be read"),
        ("bytes.txt", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, name: str, body: str | bytes, message: str) -> None:
    (tmp_path / name).write_bytes(body.encode() if isinstance(body, str) else body)
    with pytest.raises(InputError, match=message):
        vocabulary.read(tmp_path / name, "objects", 3)


def test_names_come_from_beside_the_checkpoint_or_are_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAIRLOOM_DETECTORS", str(tmp_path / "store"))
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(small(HUGGING_FACE).overrides(HUGGING_FACE)))
    settings = catalogue.load(str(file))
    assert isinstance(settings, FasterRCNN)
    weights = checkpoints.tensors(HUGGING_FACE, small(HUGGING_FACE))
    path = checkpoints.write(tmp_path / "model.bin", HUGGING_FACE, weights)
    without = adding.add(settings, path)
    assert not without.named
    assert without.classes[3] == "object 3"
    (tmp_path / "objects_vocab.txt").write_text("\n".join(f"thing {i}" for i in range(12)))
    (tmp_path / "attributes_vocab.txt").write_text("\n".join(["red", "wet", "old", "big", "tin"]))
    named = adding.add(settings, path)
    assert named.named
    assert named.classes[3] == "thing 3"
    assert named.attributes == ("red", "wet", "old", "big", "tin")
    (tmp_path / "short.txt").write_text("a\nb")
    with pytest.raises(InputError, match="2 names of objects, the detector has 12"):
        adding.add(settings, path, objects=tmp_path / "short.txt")
