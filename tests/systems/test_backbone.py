"""Backbones by name: where they are cut, what is frozen, and the packaged network against another implementation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pairloom.errors import ConfigError
from stages.regions.starter import backbone as regions_backbone
from systems import backbone
from systems.backbone import Backbone


def test_a_layer_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="no layer layer9"):
        backbone.build(Backbone(network="resnet18", layer="layer9"))


def test_the_packaged_network_sees_what_another_implementation_of_it_sees() -> None:
    """Its cells by timm, against those of stages/regions/starter/backbone.py, with the package's own names."""
    map_of, middle, tail = regions_backbone.imagenet_network().parts()
    pixels_B3SS = torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        for layer, theirs in (("stage4", map_of), ("head", nn.Sequential(map_of, middle, tail[:-2]))):
            network, width = backbone.build(Backbone(network="efficientnet_lite0", layer=layer))
            expected_BCSS = theirs(pixels_B3SS)
            assert width == expected_BCSS.shape[1]
            torch.testing.assert_close(network.eval()(pixels_B3SS), expected_BCSS, rtol=1e-4, atol=1e-4)


def test_what_is_frozen_stays_as_it_was_with_its_running_means() -> None:
    network, _ = backbone.build(Backbone(network="resnet18", layer="layer2", frozen=("conv1", "bn1", "layer1")))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.SGD([each for each in network.parameters() if each.requires_grad], lr=0.1)
    network.train()(torch.rand(4, 3, 64, 64)).square().sum().backward()
    optimiser.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("0.layer2.")}


def test_a_layer_to_freeze_that_the_backbone_lacks_is_named() -> None:
    with pytest.raises(ConfigError, match="layer9 to freeze"):
        backbone.build(Backbone(network="resnet18", frozen=("layer9",)))
