"""Checkpoints for other programs: transformers reads them with equal outputs, and what is written starts us again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairloom.errors import ConfigError
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.tokenizer import Tokenizer
from pipeline.cli import main
from systems import checkpoints, exporting, recipes
from systems.layouts.grids import soho
from systems.layouts.regions import unimo
from systems.layouts.reverse import Backwards, give
from tests.pairloom.loader.loading import WORDS
from tests.systems.test_pixels import batch_of
from tests.systems.test_published_pixels import clip_learner, drawn
from trainer import checkpoint
from trainer.contract import Shapes
from trainer.learner import Learner
from trainer.published import Rule
from trainer.weight_files import read

SHAPES: dict[str, Any] = {
    "feature_width": 16, "num_classes": 7, "num_attributes": 5, "image_size": 64, "answers": ("yes", "no"),
}  # fmt: skip
CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def words() -> Tokenizer:
    return tokenizers.train([" ".join(WORDS)], recipes.load("uniter", "tiny", {"text": {"vocab_size": 60}}).text)


TOKENIZER = words()
IDS = torch.tensor([[TOKENIZER.start, 7, 8, 9, TOKENIZER.end]])


def learner_of(name: str, **sections: Any) -> Any:
    torch.manual_seed(0)
    recipe = recipes.load(name, "tiny", sections)
    learner = drawn(Learner(recipe, Shapes(TOKENIZER.vocab_size, **SHAPES)))
    if hasattr(learner.model, "regions") and not learner.model.regions.hidden_D.requires_grad:
        nn.init.zeros_(learner.model.regions.hidden_D)  # what stands for a hidden feature, and is no weight there
    return learner


def fresh(learner: Any) -> Any:
    torch.manual_seed(1)
    return Learner(learner.recipe, learner.shapes).eval()


TWINS = ("kaleidobert", "lexical", "mlim", "mural", "villa", "vinvl")  # of models that are there already


@pytest.mark.parametrize("name", sorted({*recipes.names()} - {*TWINS}))
def test_what_is_written_starts_the_same_model_again(name: str, tmp_path: Path) -> None:
    """Bit by bit, whatever the layout. What has no place is named, and nothing else is missing."""
    learner = learner_of(name)
    written = exporting.convert(learner, TOKENIZER, tmp_path)
    assert not exporting.lost(learner, written.given)
    again = fresh(learner)
    state = read(tmp_path)
    placed = again.load_published(state, partial=True)
    assert placed.left_over == ()
    own, found = learner.state_dict(), again.state_dict()
    behind = {*written.given.left_over}
    for key, value in own.items():
        if key in placed.tensors:
            if name in ("oscar", "vinvl") and key.endswith(("place.bias", "feature.bias")):
                continue  # one layer reads both there, with one bias: see the next test
            assert torch.equal(found[key], value), key
        else:
            assert key in behind or not value.is_floating_point(), key
    assert "tokenizer.json" in {file.name for file in tmp_path.iterdir()}
    assert all(name in " ".join(exporting.told(written)) for name in behind if "num_batches" not in name)


def test_oscars_one_bias_is_the_sum_of_ours(tmp_path: Path) -> None:
    learner = learner_of("oscar")
    exporting.convert(learner, TOKENIZER, tmp_path)
    regions = learner.model.regions
    torch.testing.assert_close(
        read(tmp_path)["bert.img_embedding.bias"], regions.place.bias.detach() + regions.feature.bias.detach()
    )


def from_pretrained(out: Path, name: str) -> Any:
    """The class that config.json names. All that it expects is in the file."""
    import transformers

    assert json.loads((out / "config.json").read_text())["architectures"] == [name]
    model, notes = getattr(transformers, name).from_pretrained(out, output_loading_info=True)
    missing = [key for key in notes["missing_keys"] if "text_model.pooler" not in key]  # of ALIGN, which nobody reads
    assert not missing
    assert not notes["mismatched_keys"]
    return model.eval()


def test_transformers_reads_a_clip(tmp_path: Path) -> None:
    learner = clip_learner()
    drawn(learner)
    tokenizer = words()
    written = exporting.convert(learner, tokenizer, tmp_path)
    assert written.given.left_over == ()
    theirs = from_pretrained(tmp_path, "CLIPModel")
    batch = batch_of(IDS)
    wanted = theirs.get_image_features(batch.pixels_B3SS).pooler_output
    torch.testing.assert_close(learner.model.images(batch), F.normalize(wanted, dim=-1), **CLOSE)
    padded = F.pad(IDS, (0, 4))
    wanted = theirs.get_text_features(padded).pooler_output
    torch.testing.assert_close(learner.model.texts(batch), F.normalize(wanted, dim=-1), **CLOSE)


def test_transformers_reads_a_vilt_and_an_authors_file_has_its_matching_too(tmp_path: Path) -> None:
    learner = learner_of("vilt")
    exporting.convert(learner, TOKENIZER, tmp_path / "transformers")
    theirs = from_pretrained(tmp_path / "transformers", "ViltForMaskedLM")
    batch = batch_of(IDS)
    found = learner.heads["mlm"](learner.model(batch).words_BTH, learner.model.word_weight)
    torch.testing.assert_close(found, theirs(input_ids=IDS, pixel_values=batch.pixels_B3SS).logits, **CLOSE)
    written = exporting.convert(learner, TOKENIZER, tmp_path / "authors", "ViLT (authors)")
    assert written.given.left_over == ()
    assert "itm_score.fc.weight" in written.given.tensors


def test_transformers_reads_a_vit(tmp_path: Path) -> None:
    learner = learner_of("vit")
    exporting.convert(learner, TOKENIZER, tmp_path)
    batch = batch_of(IDS)
    theirs = from_pretrained(tmp_path, "ViTModel")
    torch.testing.assert_close(learner.model(batch).pooled_BH, theirs(batch.pixels_B3SS).pooler_output, **CLOSE)


def test_transformers_reads_an_align(tmp_path: Path) -> None:
    learner = learner_of("align")
    learner.model.image_projection = nn.Identity()  # as in sizes base and coyo
    learner.model.projection = nn.Linear(64, 80)
    written = exporting.convert(learner, TOKENIZER, tmp_path)
    assert not exporting.lost(learner, written.given)
    theirs = from_pretrained(tmp_path, "AlignModel")
    batch = batch_of(IDS)
    wanted = theirs.get_text_features(IDS).pooler_output
    torch.testing.assert_close(learner.model.texts(batch), F.normalize(wanted, dim=-1), **CLOSE)
    wanted = theirs.vision_model(batch.pixels_B3SS).pooler_output
    torch.testing.assert_close(learner.model.images(batch), F.normalize(wanted, dim=-1), **CLOSE)


@pytest.mark.parametrize("name", ["align", "clip"])
def test_what_no_class_of_transformers_is_has_all_its_parts_and_is_cut_only_when_asked(
    name: str, tmp_path: Path
) -> None:
    """At size tiny align has a layer over pictures, and clip a network in the place of its ViT."""
    learner = learner_of(name)
    assert exporting.convert(learner, TOKENIZER, tmp_path / "whole").layout == "parts"
    cut = exporting.convert(learner, TOKENIZER, tmp_path / "cut", exporting.layouts_of(learner)[0].title)
    assert exporting.lost(learner, cut.given)


def test_where_every_layout_would_cut_the_model_one_must_be_named(tmp_path: Path) -> None:
    learner = learner_of("vilbert")
    learner.model.extra = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="would lose some of its weights"):
        exporting.convert(learner, TOKENIZER, tmp_path)


def shared_heads(learner: Any) -> Any:
    """The three heads of objects with one layer between them, as LXMERT's file has it."""
    first = learner.heads["mrc"][0].state_dict()
    learner.heads["attributes"][0].load_state_dict(first)
    learner.heads["mrfr"].transform.load_state_dict(first)
    return learner


def test_transformers_reads_an_lxmert_whose_heads_share_their_layer(tmp_path: Path) -> None:
    learner = shared_heads(learner_of("lxmert"))
    written = exporting.convert(learner, TOKENIZER, tmp_path)
    assert written.given.left_over == ()
    theirs = from_pretrained(tmp_path, "LxmertForPreTraining")
    random = torch.Generator().manual_seed(0)
    features, boxes = torch.randn(1, 3, 16, generator=random), torch.rand(1, 3, 4, generator=random)
    wanted = theirs(input_ids=IDS, visual_feats=features, visual_pos=boxes)
    found = learner.model.lxmert(input_ids=IDS, visual_feats=features, visual_pos=boxes)
    logits = learner.heads["mlm"](found.language_output, learner.model.word_weight)
    torch.testing.assert_close(logits, wanted.prediction_logits, **CLOSE)
    torch.testing.assert_close(learner.heads["itm"](found.pooled_output), wanted.cross_relationship_score, **CLOSE)
    torch.testing.assert_close(learner.heads["qa"](found.pooled_output), wanted.question_answering_score, **CLOSE)


def test_heads_that_have_gone_apart_are_named(tmp_path: Path) -> None:
    written = exporting.convert(learner_of("lxmert"), TOKENIZER, tmp_path)
    assert set(written.given.unequal) == {
        f"heads.{name}.{layer}.{part}"
        for name in ("mrc.0", "attributes.0", "mrfr.transform")
        for layer, part in ((0, "weight"), (0, "bias"), (2, "weight"), (2, "bias"))
    }
    assert any(line.startswith("differing heads.mrc.0.0.weight") for line in exporting.told(written))


@pytest.mark.parametrize("name", ["uniter", "pixelbert", "fashionbert"])
def test_transformers_reads_the_bert_inside(name: str, tmp_path: Path) -> None:
    learner = learner_of(name)
    written = exporting.convert(learner, TOKENIZER, tmp_path, "bert")
    assert exporting.lost(learner, written.given)  # and it is told, since it was asked for
    import transformers

    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    wanted = theirs(IDS, output_hidden_states=True)
    found = learner.model.bert(IDS).last_hidden_state
    torch.testing.assert_close(found, wanted.hidden_states[-1], **CLOSE)
    logits = learner.heads["mlm"](found, learner.model.word_weight)
    torch.testing.assert_close(logits, wanted.logits, **CLOSE)


def test_sohos_own_file_is_its_forward_pass_written_out(tmp_path: Path) -> None:
    """Its neck by hand: convolution, nearest entry, a layer, the gate, sine places, norm."""
    sections = {
        "model": {"grid_stream": {"backbone": {"network": "resnet18", "layer": "layer4", "pool": 2, "frozen": []}}},
        "objectives": {"itm": {"reads": "first"}, "mlm": {"head": "table"}},
    }
    learner = learner_of("soho", **sections)
    model, own = learner.model, learner.state_dict()
    given = give(own, soho(dict(learner.heads.items())))
    assert [name for name in given.left_over if "num_batches" not in name] == [
        "model.bert.pooler.dense.weight", "model.bert.pooler.dense.bias"]  # fmt: skip
    again = fresh(learner)
    state = dict(given.tensors) | {"neck.vq.cluster_sum": torch.ones(64), "mask_l_fc.weight": model.word_weight}
    placed = again.load_published(state)
    assert (placed.missing, placed.left_over) == ((), ())
    assert {name.partition(".")[0] for name in given.tensors} == {"backbone", "language", "neck", "head"}

    from torchvision.models import resnet18

    again = again.double()  # a drawn network's numbers are large
    again.model.dictionary.entries_NH = again.model.dictionary.entries_NH.float()
    network = resnet18().eval().double()
    network.load_state_dict(
        {n.removeprefix("backbone."): v for n, v in given.tensors.items() if "backbone." in n}, strict=False
    )
    pixels = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(0)).double()
    grid = pixels
    for name, part in network.named_children():
        if name not in ("avgpool", "fc"):
            grid = part(grid)
    neck = {
        name.removeprefix("neck."): value.double() for name, value in given.tensors.items() if name.startswith("neck.")
    }
    cells = F.conv2d(F.max_pool2d(grid, 2, 2), neck["conv.conv.weight"], neck["conv.conv.bias"])
    flat = cells[0].flatten(1).T
    nearest = ((flat[:, None] - neck["vq.embed"]) ** 2).sum(-1).argmin(1)
    entry = F.linear(neck["vq.embed"][nearest], neck["pos_line.weight"], neck["pos_line.bias"])
    entry = entry.T.reshape(cells.shape)
    score = F.conv2d(torch.cat([entry, cells], 1), neck["gate_fc.conv.weight"], neck["gate_fc.conv.bias"]).softmax(1)
    mixed = entry * score[:, :1] + cells * score[:, 1:] + _places(*cells.shape[1:])
    wanted = F.layer_norm(mixed[0].flatten(1).T, (64,), neck["ln.weight"], neck["ln.bias"])
    batch = batch_of(IDS)
    batch.pixels_B3SS = pixels
    found, seen, codes, _ = again.model.cells(batch)
    assert seen.all()
    assert torch.equal(codes[0], nearest)
    torch.testing.assert_close(found[0], wanted, rtol=1e-5, atol=1e-5)


def _places(width: int, down: int, across: int) -> Tensor:
    """DETR's, with a loop over every number."""
    places = np.zeros((width, down, across), np.float32)
    half = width // 2
    for row in range(down):
        for column in range(across):
            for number in range(half):
                frequency = 10000 ** (2 * (number // 2) / half)
                wave = np.sin if number % 2 == 0 else np.cos
                places[number, row, column] = wave((row + 1) / down * 2 * np.pi / frequency)
                places[half + number, row, column] = wave((column + 1) / across * 2 * np.pi / frequency)
    return torch.from_numpy(places)[None]


def test_unimos_parameters_by_paddles_names_are_the_same_model(tmp_path: Path) -> None:
    """Written to an .npz by the names of its code, each layer's weight with its inputs first."""
    learner = learner_of("unimo")
    with torch.no_grad():
        learner.model.bert.embeddings.token_type_embeddings.weight.zero_()
    own = learner.state_dict()
    arrays = {
        "word_embedding": own["model.bert.embeddings.word_embeddings.weight"],
        "pos_embedding": own["model.bert.embeddings.position_embeddings.weight"].roll(2, 0),
        "image_emb.w_0": own["model.regions.feature.weight"].T, "image_emb.b_0": own["model.regions.feature.bias"],
        "image_loc.w_0": own["model.regions.place.weight"].T, "image_loc.b_0": own["model.regions.place.bias"],
    }  # fmt: skip
    for ours, theirs in (("bert.embeddings.LayerNorm", "pre_encoder"), ("regions.norm", "v_pre_encoder")):
        arrays |= {f"{theirs}_layer_norm_scale": own[f"model.{ours}.weight"]}
        arrays |= {f"{theirs}_layer_norm_bias": own[f"model.{ours}.bias"]}
    for number in range(learner.model.bert.config.num_hidden_layers):
        ours, theirs = f"model.bert.encoder.layer.{number}.", f"encoder_layer_{number}_"
        linear = {"attention.self.query": "multi_head_att_query_fc", "attention.self.key": "multi_head_att_key_fc",
                  "attention.self.value": "multi_head_att_value_fc",
                  "attention.output.dense": "multi_head_att_output_fc",
                  "intermediate.dense": "ffn_fc_0", "output.dense": "ffn_fc_1"}  # fmt: skip
        for mine, name in linear.items():
            arrays |= {
                f"{theirs}{name}.w_0": own[f"{ours}{mine}.weight"].T,
                f"{theirs}{name}.b_0": own[f"{ours}{mine}.bias"],
            }
        for mine, name in {"attention.output.LayerNorm": "post_att", "output.LayerNorm": "post_ffn"}.items():
            arrays[f"{theirs}{name}_layer_norm_scale"] = own[f"{ours}{mine}.weight"]
            arrays[f"{theirs}{name}_layer_norm_bias"] = own[f"{ours}{mine}.bias"]
    np.savez(tmp_path / "unimo.npz", **{name: np.ascontiguousarray(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    state = read(tmp_path / "unimo.npz")
    again = fresh(learner)
    placed = again.load_published(state)
    assert (placed.missing, placed.left_over) == ((), ())
    found = again.state_dict()
    for name in placed.tensors:
        assert torch.equal(found[name], own[name]), name
    given = give(own, unimo())
    assert given.tensors.keys() == arrays.keys()
    assert all(torch.equal(given.tensors[name], value) for name, value in arrays.items())


def test_a_name_is_read_backwards() -> None:
    rule = Rule(r"(?:a\.)?x\.(\d+)\.(?:one|two)\.(weight|bias)", (r"model.y.\1.\2",))
    back = Backwards.of(rule, rule.places[0])
    assert back.name_of("model.y.12.bias") == "a.x.12.one.bias"
    assert back.name_of("model.y.12.bias", prefixed=False) == "x.12.one.bias"
    assert back.name_of("model.y.z.bias") is None


def test_the_command_writes_a_folder_and_refuses_one_that_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = learner_of("uniter")
    figures: dict[str, Any] = {"objectives": {}, "steps": 0, "batch_size": 1, "seed": 0, "retrieval": None}
    checkpoint.save(tmp_path / "ours", learner, TOKENIZER, figures | {"rows": {"train": 1, "val": 1}})
    command = ["checkpoint", "convert", str(tmp_path / "ours"), str(tmp_path / "theirs")]
    assert main(command) == 0
    assert capsys.readouterr().out == "layout    UNITER: 68 tensors, safetensors by its names\n"
    again, _ = checkpoints.load(tmp_path / "ours")
    again.load_published(read(tmp_path / "theirs"))
    assert main(command) == 1
    assert "name a folder that is new or empty" in capsys.readouterr().err
    assert main([*command[:3], str(tmp_path / "bert"), "--as", "BERT", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["transformers"] == "BertForPreTraining"
    assert "model.regions.feature.weight" in facts["no_place"]
    assert main([*command[:3], str(tmp_path / "no"), "--as", "CLIP"]) == 1
    assert "take any of UNITER, Oscar, UNIMO, parts, RoBERTa, BERT" in capsys.readouterr().err


def test_a_hybrid_vit_starts_the_layers_of_a_vilt_over_the_same_network(tmp_path: Path) -> None:
    layers = ["stem", *(f"stage{number}" for number in range(5))]
    network = {"network": "efficientnet_lite0", "layer": "stage4", "frozen": layers}
    sizes = {"patch": 1, "image_size": 4, "backbone": network}
    vit = learner_of("vit", model={"vit": sizes})
    exporting.convert(vit, TOKENIZER, tmp_path, "ViT (transformers)")  # by name: the network has no place there
    recipe = recipes.load("vilt", "tiny", {"model": {"vilt": sizes}})
    vilt: Any = Learner(recipe, Shapes(TOKENIZER.vocab_size, **SHAPES)).eval()
    assert vilt.load_published(read(tmp_path)).missing == ()
    planes_BCSS, hidden_BLH = torch.randn(2, 112, 4, 4), torch.randn(2, 5, 64)
    read_BUH = vilt.model.vilt.embeddings.patch_embeddings(planes_BCSS).flatten(2).transpose(1, 2)
    torch.testing.assert_close(read_BUH, vit.model.vit.embeddings.patch_embeddings(planes_BCSS), **CLOSE)
    wanted_BLH = hidden_BLH
    for layer in vit.model.vit.layers:
        wanted_BLH = layer(wanted_BLH, None)
    torch.testing.assert_close(vilt.model.vilt.encoder(hidden_BLH)[0], wanted_BLH, **CLOSE)
    encoded = vilt.model(batch_of(IDS))
    assert encoded.units_BUH.shape == (1, 16, 64)
    assert encoded.units_BU.all()
