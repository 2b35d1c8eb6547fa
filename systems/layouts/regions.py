"""The files that systems of regions published: UNITER, VILLA, Oscar, VinVL, UNIMO, ViLBERT, 12-in-1, InterBERT, LXMERT.

The names were read in the authors' code. No file of theirs was at hand to try them on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from systems.layouts.bert import EMBEDDINGS, hidden_words, numbered
from trainer.published import Layout, Rule


def uniter(heads: Mapping[str, nn.Module]) -> Layout:
    """UniterForPretraining, which VILLA uses too."""
    image = r"uniter\.img_embeddings\."
    parts = {"img_linear": "feature", "img_layer_norm": "feature_norm", "pos_linear": "place"}
    parts |= {"pos_layer_norm": "place_norm", "LayerNorm": "norm"}
    rules = (
        Rule(rf"uniter\.(embeddings\.(?:{EMBEDDINGS})|encoder\..+|pooler\..+)", (r"model.bert.\1",)),
        *(Rule(rf"{image}{theirs}\.(.+)", (rf"model.regions.{ours}.\1",)) for theirs, ours in parts.items()),
        Rule(
            rf"{image}mask_embedding\.weight",
            ("model.regions.hidden_D",),
            lambda value: value[1],
            lambda values: torch.stack([torch.zeros_like(values[0]), values[0]]),
        ),
        Rule(r"feat_regress\.net\.([02])\.(.+)", (r"heads.mrfr.transform.\1.\2",)),
        Rule(r"feat_regress\.bias", ("heads.mrfr.bias_D",)),
        Rule(r"feat_regress\.weight", ()),  # that of img_linear
        Rule(r"region_classifier\.net\.([02])\.(.+)", (r"heads.mrc.0.\1.\2",)),
        Rule(r"region_classifier\.net\.3\.(.+)", (r"heads.mrc.1.\1",)),
        Rule(r"itm_output\.(.+)", (r"heads.itm.\1",)),
        *hidden_words(r"cls\.predictions\.", heads),
    )
    return Layout("UNITER", r"uniter\.img_embeddings\.img_linear\.weight", rules, ("model.bert.", "model.regions."))


def oscar(model: Any, heads: Mapping[str, nn.Module]) -> Layout:
    """BertImgForPreTraining of Oscar and VinVL, where one layer reads a feature and its place side by side."""
    width = model.feature_weight.shape[1]
    image = r"bert\.img_embedding\."
    rules = (
        Rule(rf"bert\.(embeddings\.(?:{EMBEDDINGS})|encoder\..+|pooler\..+)", (r"model.bert.\1",)),
        Rule(
            rf"{image}weight",
            ("model.regions.feature.weight",),
            lambda value: value[:, :width],
            lambda values: torch.cat(tuple(values), dim=1),
        ),
        Rule(rf"{image}weight", ("model.regions.place.weight",), lambda value: value[:, width:]),
        Rule(rf"{image}bias", ("model.regions.place.bias",), lambda value: value.new_zeros(value.shape)),
        Rule(rf"{image}bias", ("model.regions.feature.bias",), None, lambda values: values[0] + values[1]),
        Rule(r"bert\.LayerNorm\.(.+)", (r"model.regions.norm.\1",)),
        Rule(r"cls\.seq_relationship\.(.+)", (r"heads.polluted.\1",)),
        *hidden_words(r"cls\.predictions\.", heads),
    )
    return Layout("Oscar", r"bert\.img_embedding\.weight", rules, ("model.bert.", "model.regions."))


def unimo() -> Layout:
    """UNIMO's parameters by Paddle's names, as numpy saves them. A layer's weight has its inputs first.

    Its code adds no type of word, so both of ours are zero. It is that of fine-tuning: of heads no name is known.
    """
    layer, ours = r"encoder_layer_(\d+)_", r"model.bert.encoder.layer.\1."
    layers = {f"multi_head_att_{part}_fc": f"attention.self.{part}" for part in ("query", "key", "value")}
    layers |= {"multi_head_att_output_fc": "attention.output.dense"}
    layers |= {"ffn_fc_0": "intermediate.dense", "ffn_fc_1": "output.dense"}
    norms = {f"{layer}post_att": f"{ours}attention.output.LayerNorm", f"{layer}post_ffn": f"{ours}output.LayerNorm"}
    norms |= {"pre_encoder": "model.bert.embeddings.LayerNorm", "v_pre_encoder": "model.regions.norm"}
    words, places = "model.bert.embeddings.word_embeddings.weight", "model.bert.embeddings.position_embeddings.weight"
    read = {"image_emb": "model.regions.feature", "image_loc": "model.regions.place"}
    rules = [
        Rule("word_embedding", ("model.bert.embeddings.token_type_embeddings.weight",),
             lambda value: value.new_zeros(2, value.shape[1]), written=False),
        Rule("word_embedding", (words,)),
        Rule("pos_embedding", (places,), lambda value: value.roll(-2, 0), lambda values: values[0].roll(2, 0)),
        *(Rule(rf"{layer}{theirs}\.b_0", (f"{ours}{name}.bias",)) for theirs, name in layers.items()),
        *(Rule(rf"{layer}{theirs}\.w_0", (f"{ours}{name}.weight",), Tensor.t, _turned)
          for theirs, name in layers.items()),
        *(Rule(rf"{theirs}_layer_norm_scale", (f"{name}.weight",)) for theirs, name in norms.items()),
        *(Rule(rf"{theirs}_layer_norm_bias", (f"{name}.bias",)) for theirs, name in norms.items()),
        *(Rule(rf"{theirs}\.b_0", (f"{name}.bias",)) for theirs, name in read.items()),
        *(Rule(rf"{theirs}\.w_0", (f"{name}.weight",), Tensor.t, _turned) for theirs, name in read.items()),
    ]  # fmt: skip
    parts = ("bert.embeddings.", "bert.encoder.", "regions.")
    return Layout("UNIMO", r"v_pre_encoder_layer_norm_scale", tuple(rules), tuple(f"model.{part}" for part in parts))


def _turned(values: Sequence[Tensor]) -> Tensor:
    return values[0].t()


def vilbert(heads: Mapping[str, nn.Module]) -> Layout:
    """BertForMultiModalPreTraining of ViLBERT and of 12-in-1. In its co-attention 1 is the image and 2 the text."""
    attention, output = r"bert\.encoder\.c_layer\.(\d+)\.biattention\.", r"bert\.encoder\.c_layer\.(\d+)\.biOutput\."
    rules = [
        Rule(rf"bert\.embeddings\.({EMBEDDINGS})", (r"model.embeddings.\1",)),
        Rule(r"bert\.encoder\.layer\.(.+)", (r"model.word_layers.\1",)),
        Rule(r"bert\.encoder\.v_layer\.(.+)", (r"model.region_layers.\1",)),
        Rule(rf"{output}q_dense[12]\..+", ()),  # no forward pass of the authors' reads them
        Rule(r"bert\.embeddings\.task_embeddings\.weight", ()),  # 12-in-1's, of its twelve tasks
    ]
    for ours, asks, answers, letter in (("to_regions", 1, 2, "v"), ("to_words", 2, 1, "t")):
        rules += [
            Rule(rf"{attention}query{asks}\.(.+)", (rf"model.{ours}.\1.query.\2",)),
            Rule(rf"{attention}(key|value){answers}\.(.+)", (rf"model.{ours}.\1.\2.\3",)),
            Rule(rf"{output}dense{asks}\.(.+)", (rf"model.{ours}.\1.out.\2",)),
            Rule(rf"{output}LayerNorm{asks}\.(.+)", (rf"model.{ours}.\1.norm.\2",)),
            *_feed_forward(rf"bert\.encoder\.c_layer\.(\d+)\.{letter}_", rf"model.{ours}.\1"),
        ]
    parts = ("embeddings", "regions", "word_layers", "region_layers", "to_words", "to_regions", "word_pooler")
    return Layout(
        "ViLBERT",
        r"bert\.encoder\.c_layer\.0\.biattention\.query1\.weight",
        (*rules, *_two_streams(heads)),
        tuple(f"model.{part}." for part in (*parts, "region_pooler")),
    )


def interbert(together: int, heads: Mapping[str, nn.Module]) -> Layout:
    """InterBertForMultiModalPreTraining: one list has the layers of both and then those of the words alone."""
    rules = (
        Rule(rf"bert\.embeddings\.({EMBEDDINGS})", (r"model.embeddings.\1",)),
        *numbered(r"bert\.encoder\.layer", together, "model.together", "model.words_alone"),
        Rule(r"bert\.encoder\.v_layer\.(.+)", (r"model.regions_alone.\1",)),
        *_two_streams(heads),
    )
    parts = ("embeddings", "regions", "together", "words_alone", "regions_alone", "word_pooler", "region_pooler")
    sign = r"bert\.encoder\.v_layer\.0\.attention\.self\.query\.weight"
    return Layout("InterBERT", sign, rules, tuple(f"model.{part}." for part in parts))


def _two_streams(heads: Mapping[str, nn.Module]) -> tuple[Rule, ...]:
    """What ViLBERT's and InterBERT's files have in common. They count a match as 0, and objective itm as 1."""
    image, regions = r"bert\.v_embeddings\.", "model.regions."
    return (
        Rule(rf"{image}image_embeddings\.(.+)", (rf"{regions}feature.\1",)),
        Rule(rf"{image}image_location_embeddings\.(.+)", (rf"{regions}place.\1",)),
        Rule(rf"{image}LayerNorm\.(.+)", (rf"{regions}norm.\1",)),
        Rule(r"bert\.t_pooler\.dense\.(.+)", (r"model.word_pooler.\1",)),
        Rule(r"bert\.v_pooler\.dense\.(.+)", (r"model.region_pooler.\1",)),
        Rule(r"cls\.bi_seq_relationship\.(.+)", (r"heads.itm.\1",), _flipped, lambda values: _flipped(values[0])),
        Rule(r"cls\.imagePredictions\.transform\.dense\.(.+)", (r"heads.mrc.0.0.\1",)),
        Rule(r"cls\.imagePredictions\.transform\.LayerNorm\.(.+)", (r"heads.mrc.0.2.\1",)),
        Rule(r"cls\.imagePredictions\.decoder\.(.+)", (r"heads.mrc.1.\1",)),
        *hidden_words(r"cls\.predictions\.", heads),
    )


def _flipped(value: Tensor) -> Tensor:
    return value.flip(0)


def _feed_forward(theirs: str, ours: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{theirs}intermediate\.dense\.(.+)", (rf"{ours}.feed_forward.0.\2",)),
        Rule(rf"{theirs}output\.dense\.(.+)", (rf"{ours}.feed_forward.2.\2",)),
        Rule(rf"{theirs}output\.LayerNorm\.(.+)", (rf"{ours}.last_norm.\2",)),
    )


def lxmert(heads: Mapping[str, nn.Module]) -> Layout:
    """LxmertForPreTraining of transformers, and the authors' own file, which says `bert.` for `lxmert.`.

    The layer that their heads of objects share goes to each head here.
    """
    objects = r"obj_predict_head\.decoder_dict\."
    rules = (
        Rule(r"(?:lxmert|bert)\.(.+)", (r"model.lxmert.\1",)),
        Rule(r"cls\.seq_relationship\.(.+)", (r"heads.itm.\1",)),
        Rule(r"obj_predict_head\.transform\.dense\.(.+)",
             (r"heads.mrc.0.0.\1", r"heads.attributes.0.0.\1", r"heads.mrfr.transform.0.\1")),
        Rule(r"obj_predict_head\.transform\.LayerNorm\.(.+)",
             (r"heads.mrc.0.2.\1", r"heads.attributes.0.2.\1", r"heads.mrfr.transform.2.\1")),
        Rule(rf"{objects}obj\.(.+)", (r"heads.mrc.1.\1",)),
        Rule(rf"{objects}attr\.(.+)", (r"heads.attributes.1.\1",)),
        Rule(rf"{objects}feat\.weight", ("heads.mrfr.predict.weight",)),
        Rule(rf"{objects}feat\.bias", ("heads.mrfr.bias_D",)),
        Rule(r"answer_head\.logit_fc\.(.+)", (r"heads.qa.\1",)),
        *hidden_words(r"cls\.predictions\.", heads),
    )  # fmt: skip
    sign = r"(?:lxmert|bert)\.encoder\.x_layers\.0\.visual_attention\.att\.query\.weight"
    return Layout("LXMERT", sign, rules, ("model.lxmert.",))
