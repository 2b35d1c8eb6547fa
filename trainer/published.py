"""Published weights: what a file's tensors are called there, and where they go in a learner of ours.

A layout is a table of names, so a model's module lists those that it can start from, and one function reads them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

Change = Callable[[Tensor], Tensor]
Back = Callable[[Sequence[Tensor]], Tensor | None]


@dataclass(frozen=True)
class Rule:
    r"""Tensors of one kind of name.

    name: a regular expression of the whole name. places: our names, in which \1 is the expression's first group; those
    that the learner lacks are passed over. No places at all: the tensor is known, and there is no use for it.
    change: what turns the published tensor into ours, where they are not the same. back: what makes it of ours again,
    those of all rules of its name in their order. written: whether a file that we write has it.
    """

    name: str
    places: tuple[str, ...]
    change: Change | None = None
    back: Back | None = None
    written: bool = True


@dataclass(frozen=True)
class Layout:
    """How one program writes one model.

    sign: a regular expression that some name of such a file matches, and none of another layout's. parts: beginnings
    of our names that such a file gives in full. Names that no rule knows are left over.
    """

    title: str
    sign: str
    rules: tuple[Rule, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Placed:
    """What a file gives. missing: names of parts that it should have given, left_over: its names without a place."""

    tensors: Mapping[str, Tensor]
    sources: Mapping[str, str]  # our name -> the published one
    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def layout_of(names: Sequence[str], layouts: Sequence[Layout]) -> Layout | None:
    """The first layout whose sign one of the names has."""
    return next((layout for layout in layouts if any(re.fullmatch(layout.sign, name) for name in names)), None)


def place(state: Mapping[str, Tensor], layout: Layout, own: Mapping[str, Tensor]) -> Placed:
    """Where each published tensor goes among `own`, the learner's. Of two rules for one place the later one holds.

    A head that gets something is due in full, as the layout's parts are.
    """
    tensors: dict[str, Tensor] = {}
    sources: dict[str, str] = {}
    known: set[str] = set()
    for rule in layout.rules:
        pattern = re.compile(rule.name)
        for name, match in ((name, match) for name in state if (match := pattern.fullmatch(name))):
            places = [to for template in rule.places if (to := match.expand(template)) in own]
            known |= {name} if places or not rule.places else set()
            for to in places:
                tensors[to] = rule.change(state[name]) if rule.change else state[name]
                sources[to] = name
    heads = {".".join(to.split(".")[:2]) + "." for to in tensors if to.startswith("heads.")}
    due = (*layout.parts, *sorted(heads))
    missing = tuple(name for name in own if name.startswith(due) and name not in tensors)
    return Placed(tensors, sources, missing, tuple(name for name in state if name not in known))


def fitting(placed: Placed, own: Mapping[str, Tensor]) -> Placed:
    """What is of the learner's shapes. The rest counts as missing."""
    kept = {name: value for name, value in placed.tensors.items() if own[name].shape == value.shape}
    other = tuple(name for name in placed.tensors if name not in kept)
    return replace(placed, tensors=kept, missing=(*placed.missing, *other))
