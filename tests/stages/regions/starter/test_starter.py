"""What the shipped weights can do, with modest floors, and that training moves only what it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from demo.scenes import ATTRIBUTES
from demo.things import CLASSES
from stages.regions import Tools, catalogue
from stages.regions.d2 import EventStorage
from stages.regions.pictures import decode
from stages.regions.starter.evaluate import detect, evaluate, photographs, scene, words_for
from stages.regions.starter.model import C4Detector
from stages.regions.starter.train import BATCH, TrainingScenes, as_input


def test_it_finds_and_names_most_things_of_held_out_scenes(tools: Tools) -> None:
    figures = evaluate(tools, 10)
    assert figures["mAP@.5"] > 0.6
    assert figures["score ≥ 0.2"]["recall"] > 0.6
    assert figures["score ≥ 0.2"]["attribute_accuracy"] > 0.7


def test_it_sees_colours_as_they_are(tools: Tools) -> None:
    """With red and blue exchanged, a red thing is blue to it: the order of channels is right."""
    said = {}
    for order in ("RGB", "BGR"):
        picture = Image.fromarray(np.ascontiguousarray(scene(1).image[..., :: 1 if order == "RGB" else -1]))
        regions = detect(picture, tools)
        said[order] = [tools.engine.network.attributes[i] for i in regions.attribute_ids[:3]]
    assert said["RGB"] != said["BGR"]


@pytest.mark.parametrize(("name", "word"), [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso")])
def test_it_names_some_photographs(tools: Tools, name: str, word: str) -> None:
    (path,) = (path for path in photographs() if path.name == name)
    assert any(word in said for said in words_for(detect(decode(path.read_bytes()), tools), tools))


def test_training_moves_the_trained_tensors_alone() -> None:
    torch.manual_seed(0)
    model = C4Detector(catalogue.starter(), len(CLASSES), len(ATTRIBUTES)).train()
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.01)
    with EventStorage():
        losses = model([as_input(scene(0)), as_input(scene(4))])
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved <= set(model.trained())
    assert {"roi_heads.predictor.cls_score.weight", "proposal_generator.rpn_head.anchor_deltas.weight"} <= moved
    assert any(".tail." in name for name in moved)


def test_training_scenes_are_a_function_of_seed_and_number() -> None:
    one, other = (TrainingScenes(1, BATCH, ())[3] for _ in range(2))
    assert torch.equal(one["image"], other["image"])
    assert not torch.equal(one["image"], TrainingScenes(2, BATCH, ())[3]["image"])
