"""Pixel systems: what is shown of a picture, their losses against other people's, and that all of it can be trained."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import permutations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import chisquare
from torch import Tensor

from pairloom.loader.batch import HIDDEN, IGNORE, ITSELF, Batch, Example, Pixels, WordBatch
from pairloom.loader.collate import collate_pixels, pixel_mask
from systems import backbone, dictionary, recipes
from systems.objectives import colours, detection, itm, mvm, prefix_lm, reconstruction
from systems.objectives.translation import word_batch
from systems.units import pixels as units
from trainer.contract import Embedded, Shapes
from trainer.learner import Learner

HALF = (0.5, 0.5, 0.5)
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def encoded(picture: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


def drawn(image: bytes, setting: units.Settings, seed: int) -> np.ndarray[Any, Any]:
    return np.asarray(units.decode(image, setting, np.random.default_rng(seed)).values_3SS)


@settings(deadline=None, max_examples=60)
@given(width=st.integers(20, 3000), height=st.integers(20, 3000))
def test_vilts_sizes_are_those_of_transformers(width: int, height: int) -> None:
    from transformers.models.vilt.image_processing_pil_vilt import get_resize_output_image_size

    shorter = units.shorter(width, height, units.Settings(size=384, longest=639, fit="shorter", mean=HALF, std=HALF))
    theirs = get_resize_output_image_size(
        np.zeros((3, height, width), np.uint8), shorter=384, longer=int(1333 / 800 * 384), size_divisor=32
    )
    expected = tuple(max(int(side), 32) for side in theirs)
    assert (shorter[1], shorter[0]) == expected


def test_aligns_crop_is_the_centre_of_the_squashed_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    setting = units.Settings(size=30, squash=60, fit="squash", flip=True, mean=ZERO, std=ONE)
    found = np.asarray(units.decode(encoded(picture), setting, None).values_3SS)
    whole = Image.fromarray(picture).resize((60, 60), Image.Resampling.BICUBIC)
    wanted = np.asarray(whole.crop((15, 15, 45, 45))).transpose(2, 0, 1) / 255
    assert np.abs(found - wanted)[:, 2:-2, 2:-2].max() < 0.02


def test_augmentation_is_the_seeds_and_leaves_torchs_state_alone() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    setting = units.Settings(size=32, randaugment=(2, 9), flip=True, mean=ZERO, std=ONE)
    before = torch.random.get_rng_state()
    one, two = (drawn(encoded(picture), setting, 7) for _ in range(2))
    assert (one == two).all()
    assert (torch.random.get_rng_state() == before).all()
    others = [drawn(encoded(picture), setting, seed) for seed in range(5)]
    assert len({other.tobytes() for other in others}) > 1


def test_pictures_of_other_sizes_are_filled_up_and_masked() -> None:
    values = [np.ones((3, 2, 4), np.float32), np.ones((3, 4, 2), np.float32)]
    together, mask = collate_pixels(values, np.empty), pixel_mask(values)
    assert mask is not None
    assert together.shape == (2, 3, 4, 4)
    assert (together == mask[:, None].float()).all()
    assert mask.sum(dim=(1, 2)).tolist() == [8, 8]
    assert pixel_mask(values[:1]) is None


def test_a_patchs_colour_by_hand() -> None:
    values = np.zeros((3, 4, 8), np.float32)
    values[0, :, 4:], values[1, :, 4:], values[2, :, 4:] = 1.0, 0.5, 0.13
    setting = colours.Settings(patch=4)
    assert colours.mean_colours(values, setting, ZERO, ONE).tolist() == [0, 7 * 64 + 4 * 8 + 1]
    normal = (values - 0.5) / 0.5
    assert colours.mean_colours(normal, setting, HALF, HALF).tolist() == [0, 7 * 64 + 4 * 8 + 1]


def test_patches_are_hidden_replaced_and_kept_at_the_published_rates() -> None:
    make: Any = SimpleNamespace(units=SimpleNamespace(settings=SimpleNamespace(mean=ZERO, std=ONE)))
    no_words: Any = None
    example = Example(bytes(16), 0, no_words, Pixels(np.zeros((3, 600, 600), np.float32)))
    row: Any = None
    targets = colours.prepare(example, row, make, colours.Settings(patch=1), np.random.default_rng(0)).targets
    drawn = targets["colours_U"] != IGNORE
    shown = targets["shown_U"][drawn]
    counts = [(shown == HIDDEN).sum(), (shown >= 0).sum(), (shown == ITSELF).sum()]
    assert chisquare([drawn.sum(), (~drawn).sum()]).pvalue > 1e-3
    assert chisquare(counts, np.array([0.8, 0.1, 0.1]) * drawn.sum()).pvalue > 1e-3
    assert (targets["shown_U"][~drawn] == ITSELF).all()


def test_no_pixel_has_a_part_in_two_cells_of_mlim() -> None:
    network = backbone.cells((4, 4, 4))
    pixels = torch.rand(1, 3, 32, 32, requires_grad=True)
    network(pixels)[0, :, 1, 2].sum().backward()
    assert pixels.grad is not None
    touched = (pixels.grad[0] != 0).any(dim=0)
    assert touched[8:16, 16:24].all()
    assert touched.sum() == 64


def test_reconstruction_is_torchs_mse_times_three_over_what_counts() -> None:
    painted, pixels, counted = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 4, 4) < 0.5
    wanted = 3 * F.mse_loss(painted.movedim(1, -1)[counted], pixels.movedim(1, -1)[counted])
    torch.testing.assert_close(reconstruction.pixel_error(painted, pixels, counted), wanted)
    assert reconstruction.pixel_error(painted, pixels, torch.zeros_like(counted)) == 0


def test_the_dictionary_is_the_moving_mean_of_who_asks_and_the_dead_come_back() -> None:
    torch.manual_seed(0)
    book = dictionary.VisualDictionary(dictionary.Dictionary(entries=3, decay=0.5, start=1.0), 2)
    book.entries_NH.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0], [99.0, 99.0]]))
    book.sums_NH.copy_(book.entries_NH)
    cells = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    codes = dictionary.nearest(cells, book.entries_NH)
    assert codes.tolist() == [[0, 0, 1]]
    book.follow(cells[0], codes[0])
    # by hand: sizes (1 + 2)/2, (1 + 1)/2, 1/2. Sums (0 + 1)/2, (10 + 9)/2
    torch.testing.assert_close(book.sizes_N, torch.tensor([1.5, 1.0, 0.5]))
    torch.testing.assert_close(book.entries_NH[:2], torch.tensor([[1 / 3, 1 / 3], [9.5, 9.5]]), rtol=1e-3, atol=1e-3)
    book.settings = dictionary.Dictionary(entries=3, decay=0.5, floor=0.4)
    book.follow(cells[0], codes[0])
    assert (book.entries_NH[2] == cells[0]).all(dim=1).any()  # 0.25 < 0.4: it became one of the cells


def test_from_zero_an_entry_that_nothing_asks_for_falls_to_the_origin_and_is_chosen_from_there() -> None:
    """As in SOHO's code, where its sums and counts start at 0."""
    torch.manual_seed(0)
    book = dictionary.VisualDictionary(dictionary.Dictionary(entries=3, decay=0.5), 2)
    book.entries_NH.copy_(torch.tensor([[4.0, 4.0], [9.0, 9.0], [99.0, 99.0]]))
    cells = torch.tensor([[3.0, 3.0], [8.0, 9.0]])
    codes = dictionary.nearest(cells[None], book.entries_NH)[0]
    assert codes.tolist() == [0, 1]
    book.follow(cells, codes)
    # by hand: counts 1/2, 1/2, 0 and sums half of the cells, so that the first two are the cells themselves
    wanted = torch.tensor([[3.0, 3.0], [8.0, 9.0], [0.0, 0.0]])
    torch.testing.assert_close(book.entries_NH, wanted, rtol=1e-3, atol=1e-3)
    assert dictionary.nearest(torch.tensor([[[0.5, 0.1]]]), book.entries_NH).item() == 2


def test_sohos_heads_are_the_word_table_alone_and_a_layer_without_a_bias_on_the_first_token() -> None:
    learner: Any = tiny("soho")
    assert learner.heads["itm"].bias is not None
    objectives = {"itm": {"reads": "first"}, "mlm": {"head": "table"}}
    recipe = recipes.load("soho", "tiny", {"objectives": objectives})
    learner = Learner(recipe, Shapes(50, num_classes=7, num_attributes=5, image_size=64)).eval()
    assert learner.heads["itm"].bias is None
    assert not list(learner.heads["mlm"].parameters())
    encoded = learner.model(batch_of(torch.tensor([[2, 7, 8, 3]])))
    hidden = encoded.words_BTH[0]
    scores = learner.heads["mlm"](hidden, learner.model.word_weight)
    torch.testing.assert_close(scores, hidden @ learner.model.word_weight.t())
    found = itm.matched(encoded, learner.heads["itm"], recipe.objectives["itm"].settings)
    torch.testing.assert_close(found[0], learner.heads["itm"].weight @ hidden[0])
    published = recipes.load("soho", "base").objectives
    assert (published["itm"].settings.reads, published["mlm"].settings.head) == ("first", "table")


def test_cells_that_share_the_drawn_cells_code_are_hidden_and_no_others() -> None:
    book = dictionary.VisualDictionary(dictionary.Dictionary(entries=2, decay=0.5), 2).eval()
    book.entries_NH.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
    cells = torch.tensor([[[0.0, 1], [9, 9], [1, 0], [8, 8]]] * 2)
    seen = torch.tensor([[True, True, True, False], [True] * 4])
    _, codes, hidden = book(cells, seen, {"hidden_place": torch.tensor([0.5, -1.0])})
    assert codes[0].tolist() == [0, 1, 0, 1]
    assert hidden.tolist() == [[False, True, False, False], [False] * 4]
    logits = mvm.cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([[4.0, 3.0], [-3.0, -4.0]]))
    torch.testing.assert_close(logits, torch.tensor([[24 / 25, -1.0]]))


def test_only_the_rest_of_a_text_is_told() -> None:
    ids, seen = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), torch.tensor([[True] * 4, [True] * 3 + [False]])
    assert prefix_lm.rest(ids, seen, torch.tensor([2, 0])).tolist() == [[IGNORE, 6, 3], [7, 3, IGNORE]]


def tiny(name: str, **model: Any) -> Learner:
    """The recipe's learner at size tiny, these settings of its model replaced."""
    torch.manual_seed(0)
    recipe = recipes.load(name, "tiny", {"model": model})
    return Learner(recipe, Shapes(50, num_classes=7, num_attributes=5, image_size=64)).eval()


def batch_of(ids_BT: Tensor, **targets: Tensor) -> Any:
    words = SimpleNamespace(input_ids_BT=ids_BT, attention_mask_BT=ids_BT != 0, segments_BT=torch.zeros_like(ids_BT))
    return _Batch(words=words, pixels_B3SS=pictures(len(ids_BT)), pixel_mask_BSS=None, targets=targets)


class _Batch(SimpleNamespace):
    cells = None

    def __len__(self) -> int:
        return len(self.pixels_B3SS)


def test_no_word_sees_what_follows_it_and_the_picture_is_always_seen() -> None:
    model: Any = tiny("simvlm").model
    ids, prefix = torch.tensor([[2, 5, 6, 7, 8, 3]]), torch.tensor([2])
    batch = batch_of(ids, prefix=prefix, pictured=torch.tensor([True]))
    first = model.spoken(model(batch), ids[:, :-1], prefix - 1)
    other = ids.clone()
    other[0, 4] = 9
    batch.words.input_ids_BT = other
    second = model.spoken(model(batch), other[:, :-1], prefix - 1)
    torch.testing.assert_close(first[:, 1:4], second[:, 1:4])
    assert not torch.allclose(first[:, 4], second[:, 4])
    batch.pixels_B3SS = batch.pixels_B3SS + 1
    assert not torch.allclose(model.spoken(model(batch), other[:, :-1], prefix - 1)[:, 1], second[:, 1])
    batch.targets["pictured"] = torch.tensor([False])
    blind = model.spoken(model(batch), other[:, :-1], prefix - 1)
    batch.pixels_B3SS = batch.pixels_B3SS + 1
    torch.testing.assert_close(model.spoken(model(batch), other[:, :-1], prefix - 1), blind)


@pytest.mark.parametrize("name", ["pixelbert", "soho", "e2e_vlp"])
def test_retrieval_looks_at_each_picture_once_and_scores_as_pair_by_pair(name: str) -> None:
    learner: Any = tiny(name)
    seen: list[int] = []
    learner.model.backbone.register_forward_hook(lambda module, given, grid: seen.append(len(grid)))
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0], [2, 8, 9, 3], [2, 9, 3, 0]])
    words = WordBatch(ids, ids != 0, torch.zeros_like(ids), torch.full_like(ids, IGNORE), torch.zeros_like(ids))
    numbers = torch.arange(4)
    texts = Batch(tuple("abcd"), numbers, numbers, torch.zeros(4, dtype=torch.int64), words, pixels_B3SS=pictures(4))  # type: ignore[arg-type]
    images = texts.take(torch.tensor([0, 2, 3]))
    with torch.no_grad():
        scores = learner.similarity(images, texts)
        assert seen == [3]
        one_by_one = []
        for image, text in product(range(3), range(4)):
            pair = replace(images.take(torch.tensor([image])), words=texts.take(torch.tensor([text])).words)
            logits = learner.heads["itm"](learner.model(pair).pooled_BH)[0]
            one_by_one.append(logits[1] - logits[0])
    torch.testing.assert_close(scores.flatten(), torch.stack(one_by_one), rtol=1e-4, atol=1e-5)


def pictures(count: int) -> Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def a_set(queries: int, regions: int, seed: int) -> tuple[detection.Detection, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(1, queries + regions, 4, generator=generator) * 0.4 + 0.2
    logits = torch.randn(1, queries, 5, generator=generator)
    found = detection.Detection(logits, torch.randn(1, queries, 3, generator=generator), boxes[:, :queries])
    classes = torch.randint(0, 4, (1, regions), generator=generator)
    return found, classes, torch.randint(0, 3, (1, regions), generator=generator), boxes[:, queries:]


@settings(deadline=None, max_examples=25)
@given(queries=st.integers(1, 5), regions=st.integers(1, 5), seed=st.integers(0, 99))
def test_no_other_matching_is_cheaper(queries: int, regions: int, seed: int) -> None:
    setting = detection.Settings(queries=queries, min_score=0.0, max_regions=9)
    found, classes, _, boxes = a_set(queries, regions, seed)
    cost = detection.costs(found.logits_BQC[0], found.boxes_BQ4[0], classes[0], boxes[0], setting).numpy()
    _, query, region = detection.match(found, classes, boxes, torch.ones_like(classes, dtype=torch.bool), setting)
    if queries <= regions:
        every = (sum(cost[q, r] for q, r in enumerate(order)) for order in permutations(range(regions), queries))
    else:
        every = (sum(cost[q, r] for r, q in enumerate(order)) for order in permutations(range(queries), regions))
    assert len(query) == min(queries, regions)
    assert cost[query.numpy(), region.numpy()].sum() == pytest.approx(min(every), abs=1e-5)


def test_the_set_loss_is_transformers_detr() -> None:
    from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

    setting = detection.Settings(queries=6, min_score=0.0, max_regions=9, attribute=0.0)
    found, classes, attributes, boxes = a_set(6, 3, 1)
    pairs = detection.match(found, classes, boxes, torch.ones_like(classes, dtype=torch.bool), setting)
    ours = detection.set_loss(found, classes, attributes, boxes, pairs, setting)
    theirs = ImageLoss(
        matcher=HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2), num_classes=4, eos_coef=0.1,
        losses=["labels", "boxes"],
    )  # fmt: skip
    outputs = {"logits": found.logits_BQC, "pred_boxes": found.boxes_BQ4}
    parts = theirs(outputs, [{"class_labels": classes[0], "boxes": boxes[0]}])
    torch.testing.assert_close(ours, parts["loss_ce"] + 5 * parts["loss_bbox"] + 2 * parts["loss_giou"])


def test_a_picture_without_regions_has_only_nothing_to_find() -> None:
    setting = detection.Settings(queries=4, min_score=0.0, max_regions=9)
    found, classes, attributes, boxes = a_set(4, 2, 0)
    pairs = detection.match(found, classes, boxes, torch.zeros_like(classes, dtype=torch.bool), setting)
    wanted = F.cross_entropy(found.logits_BQC[0], torch.full((4,), 4))
    torch.testing.assert_close(detection.set_loss(found, classes, attributes, boxes, pairs, setting), wanted)


PUBLISHED = {  # millions of parameters of the model, without heads; where the paper gives none, of its parts
    "vit": 86.4,  # paper: 86; with the pooler's 0.6, less the class layer
    "vilt": 111.6,  # paper: 87.4 without the word embeddings' 23.4; with the pooler's 0.6
    "clip": 151.3,  # open_clip's ViT-B-32: 151,277,313, with the scale that is the head's here
    "pixelbert": 134.6,  # BERT-base 109.5, ResNet-50 without classes 23.5, a layer between 1.6
    "mlim": 336.0,  # BERT-large 335.1, cells 0.2
    "soho": 154.2,  # BERT-base 109.5, ResNet-101 without classes 42.5, a layer between 1.6, the gate and its layer 0.6
    "align": 467.7,  # EfficientNet-B7 62.1 (66.3 less classes and last convolution), BERT-large 302.3, words 102.4
    "simvlm": 251.6,  # encoder 12 × 7.09, decoder 12 × 9.45, words 24.6, ResNet-101 to layer3 27.5, a layer 0.8
    "e2e_vlp": 47.7,  # encoder 12 × 0.79, decoder 6 × 1.05, words 7.8, ResNet-50 23.5, a layer 0.5
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_base_has_the_published_number_of_parameters(name: str) -> None:
    recipe = recipes.load(name)
    with torch.device("meta"):
        model = recipe.model.module.build(
            recipe.model.settings,
            Shapes(recipe.text.vocab_size, image_size=getattr(recipe.units.settings, "size")),  # noqa: B009
        )
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(PUBLISHED[name], rel=0.01)


def test_positions_are_interpolated_to_another_size() -> None:
    model: Any = tiny("vit").model
    batch = _Batch(pixels_B3SS=torch.rand(2, 3, 96, 64), targets={})
    assert model(batch).units_BUH.shape[1] == 12 * 8
    batch.pixels_B3SS = torch.rand(2, 3, 64, 64)
    theirs = model.vit(batch.pixels_B3SS).last_hidden_state
    torch.testing.assert_close(model(batch).units_BUH, theirs[:, 1:])


def test_a_row_without_a_translation_takes_no_part() -> None:
    learner: Any = tiny("mural")
    translation: Any = learner.recipe.objectives["translation"]
    ids = torch.tensor([[2, 5, 3], [2, 6, 3], [2, 7, 3]])
    head, model = learner.heads["translation"], learner.model

    def loss(translated: list[bool], rows: list[int]) -> Any:
        batch = Batch(
            image_ids=tuple(bytes([number] * 8 + [0] * 8) for number in rows),
            caption_index_B=torch.tensor(rows), image_number_B=torch.tensor(rows), mismatch_B=torch.tensor(rows) * 0,
            words=word_batch(ids[rows]), targets={
                "translation_ids": ids[rows].flip(0), "translated": torch.tensor(translated),
            },
        )  # fmt: skip
        encoded = Embedded(model.texts(batch), model.texts(batch))
        return translation.module.loss(model, encoded, head, batch, translation.settings)

    ids_two = loss([True, False, True], [0, 1, 2])
    assert int(ids_two.count) == 2
    nothing = loss([False] * 3, [0, 1, 2])
    assert float(nothing.loss.detach()) == 0
    assert int(nothing.count) == 0
    assert float(loss([True], [1]).loss.detach()) == pytest.approx(0, abs=1e-6)  # a batch of one


@pytest.mark.parametrize("name", ["e2e_vlp", "mlim", "pixelbert", "soho", "vilt"])
def test_padding_of_the_text_changes_nothing(name: str) -> None:
    model: Any = tiny(name).model
    short, long = (batch_of(torch.tensor([ids])) for ids in ([2, 7, 8, 9, 3], [2, 7, 8, 9, 3, 0, 0, 0]))
    with torch.no_grad():
        torch.manual_seed(0)  # transformers' ViLT shuffles its patches
        alone = model(short)
        torch.manual_seed(0)
        padded = model(long)
    torch.testing.assert_close(padded.words_BTH[:, :5], alone.words_BTH, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(padded.units_BUH, alone.units_BUH, atol=2e-5, rtol=1e-4)
