"""SOHO's own file, and a layout of ours for models that nobody has published: their parts by the usual names.

SOHO's names were read in the authors' code. No file of theirs was at hand to try them on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from systems.layouts.bert import EMBEDDINGS, hidden_words, words_heads
from trainer.published import Layout, Rule

COUNTED = Rule(r".+\.num_batches_tracked", ())  # how many batches a norm has seen


def soho(heads: Mapping[str, nn.Module]) -> Layout:
    """SOHOSingleStreamPre of the released configuration with a gate: network, neck, BERT without a pooler, and head."""
    neck, dictionary = r"neck\.", "model.dictionary."
    rules = (
        Rule(r"backbone\.(.+)", (r"model.backbone.0.\1",)),
        Rule(rf"language\.bert\.(embeddings\.(?:{EMBEDDINGS})|encoder\..+)", (r"model.bert.\1",)),
        Rule(rf"{neck}conv\.conv\.weight", ("model.project.weight",), _linear, _convolution),
        Rule(rf"{neck}conv\.conv\.bias", ("model.project.bias",)),
        Rule(rf"{neck}ln\.(.+)", (r"model.norm.\1",)),
        Rule(rf"{neck}mask_emb\.weight", (f"{dictionary}hidden_H",), lambda value: value[0],
             lambda values: values[0][None]),
        Rule(rf"{neck}vq\.embed", (f"{dictionary}entries_NH",)),
        Rule(rf"{neck}vq\.cluster_size", (f"{dictionary}sizes_N",)),
        Rule(rf"{neck}vq\.embed_avg", (f"{dictionary}sums_NH",)),
        Rule(rf"{neck}vq\.cluster_sum", ()),  # how often each was chosen in all, nothing reads it
        Rule(rf"{neck}pos_line\.(.+)", (rf"{dictionary}quantised.\1",)),
        Rule(rf"{neck}gate_fc\.conv\.weight", (f"{dictionary}gate.weight",), _linear, _convolution),
        Rule(rf"{neck}gate_fc\.conv\.bias", (f"{dictionary}gate.bias",)),
        Rule(r"head\.match_class\.weight", ("heads.itm.weight",)),
        Rule(r"mask_l_fc\.weight", ()),  # the table of words
        COUNTED,
    )  # fmt: skip
    parts = ("backbone.", "project.", "dictionary.", "norm.", "bert.embeddings.", "bert.encoder.")
    return Layout("SOHO", r"neck\.vq\.embed", rules, tuple(f"model.{part}" for part in parts))


def _linear(kernel: Tensor) -> Tensor:
    """A convolution of one pixel as a layer."""
    return kernel.flatten(1)


def _convolution(values: Sequence[Tensor]) -> Tensor:
    return values[0][..., None, None]


def parts(model: Any, heads: Mapping[str, nn.Module]) -> Layout:
    """The model's parts under their own names, BERT as `bert.` and `cls.predictions.`, the network as `backbone.`.

    Its network is torchvision's or timm's by their names. Heads of other objectives are `heads.NAME.`.
    """
    children = [name for name, _ in model.named_children()]
    alone = [name for name, _ in model.named_parameters(recurse=False)]
    rules = [Rule(name, (f"model.{name}",)) for name in alone]
    rules += [
        Rule(rf"{name}\.(.+)", (r"model.backbone.0.\1" if name == "backbone" else rf"model.{name}.\1",))
        for name in children
    ]
    spoken = words_heads(heads) if len(words_heads(heads)) == 1 else ()  # of several, each keeps its own name
    rules += hidden_words(r"cls\.predictions\.", {name: heads[name] for name in spoken})
    rules += [Rule(rf"heads\.{name}\.(.+)", (rf"heads.{name}.\1",)) for name in heads if name not in spoken]
    first = next(name for name in ("backbone", "patches", "regions", *children) if name in children)
    return Layout("parts", rf"{first}\..+", (*rules, COUNTED), ("model.",))
