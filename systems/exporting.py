"""Write a checkpoint as the same model is published: a folder of transformers, or safetensors by its names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from pairloom.errors import ConfigError
from pairloom.loader.tokenizer import Tokenizer
from systems.layouts.reverse import Given, give
from trainer import checkpoint
from trainer.contract import Published
from trainer.learner import Learner
from trainer.published import Layout

NOT_LEARNED = ("num_batches_tracked",)


@dataclass(frozen=True)
class Folder:
    """A class of transformers that reads a layout. prefixed: whether its names begin with the base model's."""

    name: str
    prefixed: bool
    config: Callable[[Learner, Tokenizer], Any]  # the model's configuration there


@dataclass(frozen=True)
class Written:
    """What was written, by which layout, and what had no place in it."""

    layout: str
    read_by: str | None  # transformers' class
    given: Given


def _lxmert(learner: Learner, _: Tokenizer) -> Any:
    config, shapes = learner.model.lxmert.config, learner.shapes
    config.num_object_labels, config.num_attr_labels = shapes.num_classes, shapes.num_attributes
    config.num_qa_labels = len(shapes.answers)
    return config


def _clip(learner: Learner, tokenizer: Tokenizer) -> Any:
    config = learner.model.clip.config
    config.text_config.eos_token_id = tokenizer.end  # at which transformers reads a text
    return config


def _align(learner: Learner, _: Tokenizer) -> Any:
    from transformers import AlignConfig

    model = learner.model
    text, vision = model.text.config.to_dict(), model.vision.config.to_dict()
    return AlignConfig(text_config=text, vision_config=vision, projection_dim=model.projection.out_features)


# By the layout's title
FOLDERS: Mapping[str, Folder] = {
    "BERT": Folder("BertForPreTraining", True, lambda learner, _: learner.model.bert.config),
    "LXMERT": Folder("LxmertForPreTraining", True, _lxmert),
    "ViT (transformers)": Folder("ViTModel", False, lambda learner, _: learner.model.vit.config),
    "ViLT (transformers)": Folder("ViltForMaskedLM", True, lambda learner, _: learner.model.vilt.config),
    "CLIP (transformers)": Folder("CLIPModel", True, _clip),
    "ALIGN": Folder("AlignModel", True, _align),
}


def convert(learner: Learner, tokenizer: Tokenizer, out: Path, title: str | None = None) -> Written:
    """Write the learner's weights to the folder `out` by the layout of this title, or the one that loses least.

    Raises ConfigError if the model has no such layout, or without a title if each would lose some of the model.
    """
    layout, given = _chosen(learner, title)
    folder = FOLDERS.get(layout.title) if _is_whole(learner, layout) else None
    out.mkdir(parents=True, exist_ok=True)
    notes = {"format": "pt", "pairloom": learner.recipe.name, "layout": layout.title}
    save_file(
        {name: value.detach().cpu().clone() for name, value in given.tensors.items()},
        out / checkpoint.WEIGHTS,
        metadata=notes,
    )
    tokenizer.save(out / checkpoint.TOKENIZER)
    if folder is not None:
        config = folder.config(learner, tokenizer)
        config.architectures = [folder.name]
        config.save_pretrained(out)
    else:
        shapes = {name: list(value.shape) for name, value in given.tensors.items()}
        document = {"layout": layout.title, "recipe": learner.recipe.name, "tensors": shapes}
        (out / "layout.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return Written(layout.title, None if folder is None else folder.name, given)


def _is_whole(learner: Learner, layout: Layout) -> bool:
    """Whether transformers has a class for this layout of this model: BERT's own layers in a list of ours are none."""
    return layout.title != "BERT" or hasattr(learner.model, "bert")


def _chosen(learner: Learner, title: str | None) -> tuple[Layout, Given]:
    layouts = layouts_of(learner)
    known = ", ".join(layout.title for layout in layouts)
    if title is not None:
        layouts = [layout for layout in layouts if layout.title.casefold() == title.casefold()]
        if not layouts:
            raise ConfigError(
                f"the model has no layout {title}", f"recipe {learner.recipe.name}", f"take any of {known}"
            )
    own = learner.state_dict()
    given = {layout: give(own, layout, _prefixed(layout)) for layout in layouts}

    def cost(layout: Layout) -> tuple[int, bool, int]:
        """What of the model is lost, whether transformers has no class for it, and how many heads are lost."""
        heads = [name for name in given[layout].left_over if name.startswith("heads.")]
        return len(lost(learner, given[layout])), layout.title not in FOLDERS, len(heads)

    best = min(layouts, key=cost)
    if title is not None or not lost(learner, given[best]):
        return best, given[best]
    wrong = "every layout of this model would lose some of its weights"
    raise ConfigError(wrong, f"recipe {learner.recipe.name}", f"name one of {known}, and what it loses is told")


def _prefixed(layout: Layout) -> bool:
    folder = FOLDERS.get(layout.title)
    return folder is None or folder.prefixed


def layouts_of(learner: Learner) -> Sequence[Layout]:
    """Those of the recipe's model. Raises ConfigError if it has none."""
    module = learner.recipe.model.module
    if not isinstance(module, Published):
        given = f"model {learner.recipe.model.name} is not published under other names"
        raise ConfigError(given, f"recipe {learner.recipe.name}", "its own safetensors is in the checkpoint's folder")
    return module.published(learner.model, dict(learner.heads.items()))


def lost(learner: Learner, given: Given) -> tuple[str, ...]:
    """What of the model itself, heads aside, has no place: nothing that training leaves alone, such as zeros."""
    frozen = {name for name, value in learner.named_parameters() if not value.requires_grad and not bool(value.any())}
    left = (name for name in given.left_over if name.startswith("model.") and not name.endswith(NOT_LEARNED))
    return tuple(name for name in left if name not in frozen)


def told(written: Written) -> list[str]:
    """Lines for people: what a reader of the folder gets, and what stays behind."""
    given = written.given
    reader = (
        f"transformers.{written.read_by}.from_pretrained reads it" if written.read_by else "safetensors by its names"
    )
    lines = [f"layout    {written.layout}: {len(given.tensors)} tensors, {reader}"]
    behind = [name for name in given.left_over if not name.endswith(NOT_LEARNED)]
    if unequal := [name for name in given.unequal if name in behind]:
        lines.append(f"differing {', '.join(unequal)}: there they are one tensor, here copies that have gone apart")
    if rest := [name for name in behind if name not in given.unequal]:
        lines.append(f"no place  {', '.join(rest)}")
    return lines
