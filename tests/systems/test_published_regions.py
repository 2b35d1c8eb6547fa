"""Files that systems of regions published: hidden states against a literal forward pass over the file's own names.

The literal passes are written from the papers and the authors' code, with nothing of the models here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pairloom.errors import ConfigError
from tests.pairloom.loader.loading import write_folder
from tests.systems.test_systems import opened
from trainer.learner import Learner

Weights = dict[str, Tensor]
HEADS = 4


class File:
    """A file of weights in the making: each layer is drawn when the literal pass first reads it."""

    def __init__(self) -> None:
        self.weights: Weights = {}
        self.drawn = torch.Generator().manual_seed(7)

    def parameter(self, name: str, *shape: int) -> Tensor:
        return self.weights.setdefault(name, torch.randn(shape, generator=self.drawn) * 0.3)

    def linear(self, name: str, given: Tensor, width: int) -> Tensor:
        weight = self.parameter(f"{name}.weight", width, given.shape[-1])
        return given @ weight.t() + self.parameter(f"{name}.bias", width)

    def norm(self, name: str, given: Tensor) -> Tensor:
        width = given.shape[-1]
        centred = given - given.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-12).sqrt()
        return scaled * self.parameter(f"{name}.weight", width) + self.parameter(f"{name}.bias", width)

    def attention(self, names: tuple[str, str, str], asks: Tensor, answers: Tensor, seen: Tensor, width: int) -> Tensor:
        """Softmax of scaled products; seen: bool of the answers."""
        query, key, value = (
            self.linear(name, given, width).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for name, given in zip(names, (asks, answers, answers), strict=True)
        )
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        scores = scores.masked_fill(~seen[:, None, None, :], float("-inf"))
        heard: Tensor = (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)
        return heard

    def layer(self, name: str, given: Tensor, seen: Tensor, feed_forward: int) -> Tensor:
        """One of BERT's."""
        width = given.shape[-1]
        attention = f"{name}.attention.self."
        names = (f"{attention}query", f"{attention}key", f"{attention}value")
        heard = self.linear(f"{name}.attention.output.dense", self.attention(names, given, given, seen, width), width)
        given = self.norm(f"{name}.attention.output.LayerNorm", given + heard)
        return self.feed_forward(f"{name}.intermediate", f"{name}.output", given, feed_forward)

    def feed_forward(self, up: str, down: str, given: Tensor, wide: int) -> Tensor:
        between = F.gelu(self.linear(f"{up}.dense", given, wide))
        return self.norm(f"{down}.LayerNorm", given + self.linear(f"{down}.dense", between, given.shape[-1]))

    def words(self, name: str, batch: Any, size: Mapping[str, int]) -> Tensor:
        """BERT's embeddings. Padding comes last here, so places count from 0."""
        ids = batch.words.input_ids_BT
        width = size["hidden"]
        words = self.parameter(f"{name}.word_embeddings.weight", size["vocabulary"], width)[ids]
        places = self.parameter(f"{name}.position_embeddings.weight", size["places"], width)[: ids.shape[1]]
        kinds = self.parameter(f"{name}.token_type_embeddings.weight", 2, width)[batch.words.segments_BT]
        return self.norm(f"{name}.LayerNorm", words + places + kinds)

    def predicted_words(self, batch: Any, hidden: Tensor, table: str, vocabulary: int) -> Tensor:
        width = hidden.shape[-1]
        head = "cls.predictions"
        between = F.gelu(self.linear(f"{head}.transform.dense", hidden, width))
        between = self.norm(f"{head}.transform.LayerNorm", between)
        return between @ self.weights[table].t() + self.parameter(f"{head}.bias", vocabulary)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("shards"), (9, 8))


def started(name: str, shards: Path) -> tuple[Learner, Any, dict[str, int]]:
    """(learner, a batch, its sizes)."""
    learner, loader = opened(name, shards)
    settings: Any = learner.recipe.model.settings
    words = getattr(settings, "words", settings)
    size = {"hidden": words.hidden, "wide": words.feed_forward, "vocabulary": learner.shapes.vocab_size}
    return learner.eval(), next(iter(loader)), size | {"places": settings.max_tokens, "layers": words.layers}


def check(learner: Learner, file: File, batch: Any, words: Tensor, units: Tensor) -> None:
    """The learner, started from the file, says what the literal pass says, and no tensor is lost on the way."""
    placed = learner.load_published(file.weights)
    assert (placed.missing, placed.left_over) == ((), ())
    found = learner.model(batch)
    seen = batch.words.attention_mask_BT
    torch.testing.assert_close(found.words_BTH[seen], words[seen], rtol=1e-5, atol=1e-5)
    mask = batch.regions.mask_BR
    torch.testing.assert_close(found.units_BUH[mask], units[mask], rtol=1e-5, atol=1e-5)
    name = "heads.mlm.bias_V"
    assert torch.equal(learner.state_dict()[name], file.weights["cls.predictions.bias"])


def shown(batch: Any, hidden: Tensor | float) -> Tensor:
    """Features as the model sees them. None of the recipes here shows another region's."""
    regions = batch.regions
    return torch.where(regions.masked_BR[..., None], torch.as_tensor(hidden), regions.features_BRD.float())


@pytest.mark.parametrize("name", ["uniter", "villa"])
def test_uniters_file_gives_its_hidden_states_and_heads(name: str, shards: Path) -> None:
    learner, batch, size = started(name, shards)
    file, width = File(), size["hidden"]
    words = file.words("uniter.embeddings", batch, size)
    image = "uniter.img_embeddings"
    mask = file.parameter(f"{image}.mask_embedding.weight", 2, batch.regions.features_BRD.shape[-1])
    boxes = batch.regions.boxes_BR7
    feature = file.norm(f"{image}.img_layer_norm", file.linear(f"{image}.img_linear", shown(batch, mask[1]), width))
    place = file.norm(f"{image}.pos_layer_norm", file.linear(f"{image}.pos_linear", boxes, width))
    kind = file.weights["uniter.embeddings.token_type_embeddings.weight"][1]
    regions = file.norm(f"{image}.LayerNorm", feature + place + kind)
    hidden = torch.cat([words, regions], dim=1)
    seen = torch.cat([batch.words.attention_mask_BT, batch.regions.mask_BR], dim=1)
    for number in range(size["layers"]):
        hidden = file.layer(f"uniter.encoder.layer.{number}", hidden, seen, size["wide"])
    pooled = file.linear("uniter.pooler.dense", hidden[:, 0], width).tanh()
    match = file.linear("itm_output", pooled, 2)
    length = words.shape[1]
    file.predicted_words(batch, hidden[:, :length], "uniter.embeddings.word_embeddings.weight", size["vocabulary"])
    units = hidden[:, length:]
    between = file.norm("feat_regress.net.2", F.gelu(file.linear("feat_regress.net.0", units, width)))
    weight = file.weights["feat_regress.weight"] = file.weights[f"{image}.img_linear.weight"]
    features = between @ weight + file.parameter("feat_regress.bias", weight.shape[1])
    between = file.norm("region_classifier.net.2", F.gelu(file.linear("region_classifier.net.0", units, width)))
    classes = file.linear("region_classifier.net.3", between, learner.shapes.num_classes or 0)
    file.weights["cls.predictions.decoder.weight"] = file.weights["uniter.embeddings.word_embeddings.weight"]
    check(learner, file, batch, hidden[:, :length], units)
    found = learner.model(batch)
    torch.testing.assert_close(learner.heads["itm"](found.pooled_BH), match, rtol=1e-4, atol=1e-5)
    mask_BR = batch.regions.mask_BR
    ours = learner.heads["mrfr"](found.units_BUH, learner.model)
    torch.testing.assert_close(ours[mask_BR], features[mask_BR], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(learner.heads["mrc"](found.units_BUH)[mask_BR], classes[mask_BR], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["oscar", "vinvl"])
def test_oscars_file_gives_its_hidden_states(name: str, shards: Path) -> None:
    learner, batch, size = started(name, shards)
    file, width = File(), size["hidden"]
    words = file.words("bert.embeddings", batch, size)
    beside = torch.cat([shown(batch, 0.0), batch.regions.boxes_BR7[..., :6]], dim=-1)
    regions = file.linear("bert.img_embedding", beside, width)
    if learner.recipe.model.settings.regions.norm != "none":
        regions = file.norm("bert.LayerNorm", regions)
    hidden = torch.cat([words, regions], dim=1)
    seen = torch.cat([batch.words.attention_mask_BT, batch.regions.mask_BR], dim=1)
    for number in range(size["layers"]):
        hidden = file.layer(f"bert.encoder.layer.{number}", hidden, seen, size["wide"])
    pooled = file.linear("bert.pooler.dense", hidden[:, 0], width).tanh()
    head: Any = learner.heads["polluted"]
    kinds = file.linear("cls.seq_relationship", pooled, head.out_features)
    length = words.shape[1]
    file.predicted_words(batch, hidden[:, :length], "bert.embeddings.word_embeddings.weight", size["vocabulary"])
    check(learner, file, batch, hidden[:, :length], hidden[:, length:])
    torch.testing.assert_close(learner.heads["polluted"](learner.model(batch).pooled_BH), kinds, rtol=1e-4, atol=1e-5)


def image_and_regions(file: File, batch: Any, width: int) -> tuple[Tensor, Tensor]:
    """ViLBERT's and InterBERT's: the mean of what is shown stands for the whole image, at its box."""
    features, mask = shown(batch, 0.0), batch.regions.mask_BR
    whole = (features * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    boxes = batch.regions.boxes_BR7[..., [0, 1, 2, 3, 6]]
    boxes = torch.cat([torch.tensor([0.0, 0, 1, 1, 1]).expand(len(boxes), 1, 5), boxes], dim=1)
    features = torch.cat([whole[:, None], features], dim=1)
    image = "bert.v_embeddings"
    both = file.linear(f"{image}.image_embeddings", features, width)
    both = both + file.linear(f"{image}.image_location_embeddings", boxes, width)
    return file.norm(f"{image}.LayerNorm", both), torch.cat([mask[:, :1], mask], dim=1)


def end(learner: Learner, file: File, batch: Any, words: Tensor, regions: Tensor, joint: int) -> None:
    """Poolers and heads of both. The file counts a match as 0."""
    size = learner.shapes.vocab_size
    text = file.linear("bert.t_pooler.dense", words[:, 0], joint).relu()
    image = file.linear("bert.v_pooler.dense", regions[:, 0], joint).relu()
    match = file.linear("cls.bi_seq_relationship", text * image, 2)
    file.predicted_words(batch, words, "bert.embeddings.word_embeddings.weight", size)
    units = regions[:, 1:]
    head = "cls.imagePredictions"
    between = F.gelu(file.linear(f"{head}.transform.dense", units, units.shape[-1]))
    classes = file.linear(
        f"{head}.decoder", file.norm(f"{head}.transform.LayerNorm", between), learner.shapes.num_classes or 0
    )
    check(learner, file, batch, words, units)
    found = learner.model(batch)
    torch.testing.assert_close(learner.heads["itm"](found.pooled_BH), match.flip(1), rtol=1e-4, atol=1e-5)
    mask = batch.regions.mask_BR
    torch.testing.assert_close(learner.heads["mrc"](found.units_BUH)[mask], classes[mask], rtol=1e-4, atol=1e-4)


def test_vilberts_file_gives_its_hidden_states_and_heads(shards: Path) -> None:
    learner, batch, size = started("vilbert", shards)
    settings: Any = learner.recipe.model.settings
    file, wide = File(), settings.regions.feed_forward
    words, seen_words = file.words("bert.embeddings", batch, size), batch.words.attention_mask_BT
    regions, seen_regions = image_and_regions(file, batch, settings.regions.hidden)
    alone = size["layers"] - settings.co_layers
    for number in range(alone):
        words = file.layer(f"bert.encoder.layer.{number}", words, seen_words, size["wide"])
    for number in range(settings.co_layers):
        name = f"bert.encoder.c_layer.{number}"
        attention, output = f"{name}.biattention", f"{name}.biOutput"
        asked = tuple(f"{attention}.{part}" for part in ("query1", "key2", "value2"))
        to_regions = file.attention(asked, regions, words, seen_words, settings.joint)  # type: ignore[arg-type]
        asked = tuple(f"{attention}.{part}" for part in ("query2", "key1", "value1"))
        to_words = file.attention(asked, words, regions, seen_regions, settings.joint)  # type: ignore[arg-type]
        regions = file.norm(
            f"{output}.LayerNorm1", regions + file.linear(f"{output}.dense1", to_regions, regions.shape[-1])
        )
        words = file.norm(f"{output}.LayerNorm2", words + file.linear(f"{output}.dense2", to_words, words.shape[-1]))
        for unread in ("q_dense1", "q_dense2"):
            file.linear(f"{output}.{unread}", to_words, words.shape[-1])
        regions = file.feed_forward(f"{name}.v_intermediate", f"{name}.v_output", regions, wide)
        words = file.feed_forward(f"{name}.t_intermediate", f"{name}.t_output", words, size["wide"])
        words = file.layer(f"bert.encoder.layer.{alone + number}", words, seen_words, size["wide"])
        regions = file.layer(f"bert.encoder.v_layer.{number}", regions, seen_regions, wide)
    end(learner, file, batch, words, regions, settings.joint)


def test_interberts_file_gives_its_hidden_states_and_heads(shards: Path) -> None:
    learner, batch, size = started("interbert", shards)
    settings: Any = learner.recipe.model.settings
    file = File()
    words = file.words("bert.embeddings", batch, size)
    regions, seen_regions = image_and_regions(file, batch, size["hidden"])
    seen_words, length = batch.words.attention_mask_BT, words.shape[1]
    both, seen = torch.cat([words, regions], dim=1), torch.cat([seen_words, seen_regions], dim=1)
    for number in range(settings.layers):
        both = file.layer(f"bert.encoder.layer.{number}", both, seen, size["wide"])
    words, regions = both[:, :length], both[:, length:]
    for number in range(settings.words_alone.layers):
        words = file.layer(f"bert.encoder.layer.{settings.layers + number}", words, seen_words, size["wide"])
    for number in range(settings.regions_alone.layers):
        regions = file.layer(f"bert.encoder.v_layer.{number}", regions, seen_regions, size["wide"])
    end(learner, file, batch, words, regions, size["hidden"])


def test_a_file_that_lacks_one_tensor_of_a_part_is_refused_unless_partial(shards: Path) -> None:
    learner, _, _ = started("uniter", shards)
    state = {f"bert.{name}": value for name, value in learner.model.bert.state_dict().items()}
    lost = "bert.encoder.layer.1.output.LayerNorm.weight"
    del state[lost]
    with pytest.raises(ConfigError, match=rf"lack 1 tensors: model\.{lost}"):
        learner.load_published(state)
    assert learner.load_published(state, partial=True).missing == (f"model.{lost}",)


def test_nobodys_names_are_refused_with_those_that_are_known(shards: Path) -> None:
    learner, _, _ = started("uniter", shards)
    with pytest.raises(ConfigError, match="take weights of UNITER, Oscar, UNIMO, parts, RoBERTa, BERT"):
        learner.load_published({"weight": torch.zeros(1)})
