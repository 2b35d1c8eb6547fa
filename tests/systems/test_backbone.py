"""Backbones by name: where they are cut, what is frozen, and the packaged network against another implementation."""

from __future__ import annotations

from dataclasses import replace

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


def test_kept_cells_are_those_of_the_network_and_of_its_weights_as_they_are_now() -> None:
    frozen = ("conv1", "bn1", "relu", "maxpool", "layer1")
    settings = Backbone(network="resnet18", layer="layer1", frozen=frozen, cached=2)
    network, _ = backbone.build(settings)
    plain, _ = backbone.build(replace(settings, cached=0))
    plain.load_state_dict(network.state_dict())
    pixels_B3SS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected_BCSS = plain(pixels_B3SS)
    for rows in ([0, 1, 2], [2, 1, 0, 0], [1]):  # of three pictures two are kept
        torch.testing.assert_close(network(pixels_B3SS[rows]), expected_BCSS[rows], rtol=1e-4, atol=1e-4)
    assert torch.equal(network(pixels_B3SS)[0], network(pixels_B3SS[:1])[0])  # whatever else is in the batch
    plain.load_state_dict(backbone.build(settings)[0].state_dict())  # other random weights
    network.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(pixels_B3SS), expected_BCSS, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(network(pixels_B3SS), plain(pixels_B3SS), rtol=1e-4, atol=1e-4)


def test_kept_cells_are_not_those_of_a_network_that_was_cut_or_pooled_elsewhere() -> None:
    settings = Backbone(network="resnet18", layer="relu", frozen=("conv1", "bn1", "relu"), cached=9)
    pixels_B3SS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first, _ = backbone.build(settings)
    first(pixels_B3SS)  # it keeps 16 by 16 cells
    cut = replace(settings, layer="maxpool", frozen=(*settings.frozen, "maxpool"))  # a layer without a weight
    for other, side in ((replace(settings, pool=4), 4), (cut, 8)):
        network, plain = (backbone.build(replace(other, cached=most))[0] for most in (9, 0))
        for one in (network, plain):
            one.load_state_dict(first.state_dict())
        found_BCSS = network(pixels_B3SS)
        assert found_BCSS.shape[2:] == (side, side)
        torch.testing.assert_close(found_BCSS, plain(pixels_B3SS), rtol=1e-4, atol=1e-4)


def test_cells_of_a_network_that_changes_are_not_kept() -> None:
    frozen = ("conv1", "bn1", "relu", "maxpool")
    with pytest.raises(ConfigError, match="keeps cells of 9 pictures, and layer1 change"):
        backbone.build(Backbone(network="resnet18", layer="layer1", frozen=frozen, cached=9))
