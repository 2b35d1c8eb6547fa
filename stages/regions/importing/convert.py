"""Turns the tensors of a published checkpoint into those of our model: names, order of classes, boxes and anchors.

Every tensor of the file is used once, or is one that its layout knows to be unused, or is named in an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pairloom.errors import InputError
from stages.regions import catalogue
from stages.regions.importing.layouts import LAYOUTS, Layout
from stages.regions.published import anchors
from stages.regions.published.network import shapes
from stages.regions.published.settings import FasterRCNN

Tensors = Mapping[str, Tensor]
CLASS_ROWS = ("predictor.cls_score.weight", "predictor.cls_score.bias", "attributes.cls_embedding.weight")
ATTRIBUTE_ROWS = ("attributes.attr_score.weight", "attributes.attr_score.bias")
BOX_ROWS = ("predictor.bbox_pred.weight", "predictor.bbox_pred.bias")
OBJECTNESS = ("rpn.head.objectness_logits.weight", "rpn.head.objectness_logits.bias")
DELTAS = ("rpn.head.anchor_deltas.weight", "rpn.head.anchor_deltas.bias")


@dataclass(frozen=True)
class Converted:
    """A checkpoint in our names."""

    tensors: dict[str, Tensor]
    settings: FasterRCNN  # without attributes, if the file has none
    layout: str
    unused: tuple[str, ...]  # tensors of the file that are not in `tensors`


@dataclass(frozen=True)
class Renamed:
    """The tensors of a file as one layout sees them."""

    tensors: dict[str, Tensor]
    unused: tuple[str, ...]
    unknown: tuple[str, ...]


def convert(tensors: Tensors, settings: FasterRCNN, where: str) -> Converted:
    """The detector's tensors from a published file's. Raises InputError naming what is missing, unknown or of a wrong
    shape, or holds NaN."""
    name = min(settings.layouts, key=lambda each: _misfits(tensors, LAYOUTS[each], settings))
    layout = LAYOUTS[name]
    renamed = rename(tensors, layout, where)
    if settings.attributes and not any(each.startswith("attributes.") for each in renamed.tensors):
        settings = replace(settings, attributes=None)  # airsplay published one file without that head
    found = reformed(renamed.tensors, layout, settings)
    found = {key: fitted(value, shapes(settings).get(key)) for key, value in found.items()}
    _check(found, renamed, settings, where, tensors)
    return Converted(found, settings, name, renamed.unused)


def rename(tensors: Tensors, layout: Layout, where: str) -> Renamed:
    """Our names for the file's tensors. Raises InputError if a tensor that the file has twice differs from itself."""
    given = layout.before(tensors) if layout.before else dict(tensors)
    found: dict[str, Tensor] = {}
    unused, unknown = [], []
    for name, value in given.items():
        twin = _renamed(name, layout.twins)
        ours = _renamed(name, layout.names)
        if any(re.search(pattern, name) for pattern in layout.unused):
            unused.append(name)
        elif twin is not None and twin in given:
            if not torch.equal(value, given[twin]):
                raise InputError(
                    f"{name} should repeat {twin} but differs from it", where=where, fix="get the published file"
                )
            unused.append(name)
        elif ours is None or ours in found:
            unknown.append(name)
        else:
            found[ours] = value
    return Renamed(found, tuple(unused), tuple(unknown))


def _renamed(name: str, patterns: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, ours in patterns:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    return None


def _misfits(tensors: Tensors, layout: Layout, settings: FasterRCNN) -> int:
    """How many names do not fit if the file is read by this layout."""
    ours, unknown = _named(tensors, layout)
    return unknown + len(set(shapes(settings)) ^ ours)


def _named(tensors: Tensors, layout: Layout) -> tuple[set[str], int]:
    """Our names for what this layout knows, and the number of names that it does not know."""
    given = layout.before(tensors) if layout.before else tensors
    rest = [name for name in given if not any(re.search(pattern, name) for pattern in layout.unused)]
    rest = [name for name in rest if _renamed(name, layout.twins) not in given]
    ours = [_renamed(name, layout.names) for name in rest]
    return {name for name in ours if name is not None}, ours.count(None)


def reformed(tensors: Tensors, layout: Layout, settings: FasterRCNN) -> dict[str, Tensor]:
    """The same weights in the form of this detector: background last, its objectness, anchors and box weights."""
    found = dict(tensors)
    rows = [*CLASS_ROWS]
    if settings.attributes and settings.attributes.none != "absent":
        rows += ATTRIBUTE_ROWS
    if layout.background == "first":
        for name in rows:
            if name in found:
                found[name] = found[name].roll(-1, dims=0)
    for name in BOX_ROWS:
        if name in found:
            found[name] = _box_rows(found[name], layout, settings)
    for name in OBJECTNESS:
        if name in found:
            found[name] = _objectness(found[name], layout, settings)
    for name in DELTAS:
        if name in found:
            found[name] = _in_order(found[name].unflatten(0, (-1, 4)), layout, settings).flatten(0, 1)
    return found | _cell_anchors(found, layout, settings)


def _box_rows(rows: Tensor, layout: Layout, settings: FasterRCNN) -> Tensor:
    """Deltas without background's, measured in the detector's own weights."""
    if not settings.agnostic and len(rows) == 4 * (settings.classes + 1):
        rows = rows[4:] if layout.background == "first" else rows[:-4]
    if settings.box_weights == layout.box_weights or len(rows) % 4:
        return rows
    factors = torch.tensor(settings.box_weights) / torch.tensor(layout.box_weights)
    scaled: Tensor = (rows.unflatten(0, (-1, 4)) * factors.view(1, 4, *[1] * (rows.dim() - 1))).flatten(0, 1)
    return scaled


def _objectness(rows: Tensor, layout: Layout, settings: FasterRCNN) -> Tensor:
    """Rows of (background, foreground) or of their difference, in the order of the detector's anchors."""
    if layout.objectness == "pair" and len(rows) % 2 == 0:
        background, foreground = (_in_order(half, layout, settings) for half in rows.chunk(2))
        if settings.proposals.objectness == "pair":
            return torch.cat([background, foreground])
        difference: Tensor = foreground - background
        return difference
    rows = _in_order(rows, layout, settings)
    if settings.proposals.objectness == "pair":
        return torch.cat([torch.zeros_like(rows), rows])
    return rows


def _in_order(rows: Tensor, layout: Layout, settings: FasterRCNN) -> Tensor:
    """One row an anchor, from the layout's order of anchors to the detector's."""
    rules = settings.proposals.anchors
    places = anchors.reordered(len(rules.sizes[0]), len(rules.ratios), layout.anchors, anchors.order(rules))
    if len(rows) != len(places):
        return rows  # of a wrong shape, which `_check` reports
    ordered: Tensor = rows[places]
    return ordered


def _cell_anchors(found: Tensors, layout: Layout, settings: FasterRCNN) -> dict[str, Tensor]:
    """The anchors: the file's, where the published code reads them and they belong to it, else by the rule."""
    rules = settings.proposals.anchors
    first = 4 if settings.backbone.pyramid_channels is None else 2
    chosen = {}
    for level, sizes in enumerate(rules.sizes):
        name = f"rpn.cell_anchors.{level}"
        own = rules.from_checkpoint and anchors.order(rules) == layout.anchors
        chosen[name] = (
            found[name] if own and name in found else anchors.cell_anchors(rules, 2 ** (first + level), sizes)
        )
    return chosen


def fitted(value: Tensor, shape: torch.Size | None) -> Tensor:
    """A float32 tensor of this shape if sides of 1 are all that differs (old caffe has 1 × 1 × rows × columns)."""
    value = value.float()
    if shape is not None and [side for side in value.shape if side != 1] == [side for side in shape if side != 1]:
        value = value.reshape(shape)
    return value.contiguous()


def readers(tensors: Tensors) -> list[str]:
    """The detectors of the catalogue whose layouts know every name in the file."""
    known = {name for name, layout in LAYOUTS.items() if _named(tensors, layout)[1] == 0}
    entries = {name: catalogue.load(name) for name in catalogue.names()}
    return [name for name, entry in entries.items() if isinstance(entry, FasterRCNN) and known & set(entry.layouts)]


def _check(found: Tensors, renamed: Renamed, settings: FasterRCNN, where: str, given: Tensors) -> None:
    wanted = shapes(settings)
    missing = sorted(set(wanted) - set(found))
    unknown = [*renamed.unknown, *sorted(set(found) - set(wanted))]
    wrong = [
        f"{name} {tuple(found[name].shape)} for {tuple(wanted[name])}"
        for name in wanted
        if name in found and found[name].shape != wanted[name]
    ]
    if missing or unknown or wrong:
        lists = {"missing": missing, "unknown": unknown, "of another shape": wrong}
        problems = "; ".join(f"{len(each)} {what}: {', '.join(each[:5])}" for what, each in lists.items() if each)
        raise InputError(
            f"the checkpoint does not fit detector {settings.name}. {problems}",
            where=where,
            fix=f"name the detector that it is of: its names are those of {', '.join(readers(given)) or 'none'} here",
        )
    for name, value in found.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"the checkpoint's tensor {name} has NaN or infinity", where=where, fix="get another copy")
