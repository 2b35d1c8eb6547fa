"""Writes seeded checkpoints with the published names, forms and containers."""

from __future__ import annotations

import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from torch import Tensor

from tests.stages.regions.published.families import NORM, Family, Small

Tensors = dict[str, Tensor]


class Maker:
    """Draws the tensors of one checkpoint."""

    def __init__(self, family: Family, sizes: Small, seed: int) -> None:
        self.family, self.sizes, self.found = family, sizes, Tensors()
        self.random = torch.Generator().manual_seed(seed)

    def draw(self, *shape: int, scale: float) -> Tensor:
        return torch.randn(*shape, generator=self.random) * scale

    def conv(self, key: str, out: int, inputs: int, kernel: int, bias: bool = False, scale: float = 1.4) -> None:
        self.found[f"{key}.weight"] = self.draw(out, inputs, kernel, kernel, scale=scale / (inputs * kernel**2) ** 0.5)
        if bias:
            self.found[f"{key}.bias"] = self.draw(out, scale=0.1)

    def linear(self, key: str, out: int, inputs: int, scale: float = 1.0) -> None:
        self.found[f"{key}.weight"] = self.draw(out, inputs, scale=scale / inputs**0.5)
        self.found[f"{key}.bias"] = self.draw(out, scale=0.2)

    def norm(self, key: str, channels: int) -> None:
        values = (
            1 + self.draw(channels, scale=0.1),
            self.draw(channels, scale=0.1),
            self.draw(channels, scale=0.1),
            1 + self.draw(channels, scale=0.2).abs(),
        )
        self.found.update({f"{key}.{part}": value for part, value in zip(NORM, values, strict=True)})
        if self.family.counters:
            self.found[f"{key}.num_batches_tracked"] = torch.tensor(7)

    def backbone(self) -> None:
        family, sizes, names = self.family, self.sizes, self.family.names
        conv, norm = names.stem()
        self.conv(conv, sizes.stem, 3, 7, scale=0.05 if not family.pre_activation else 1.0)
        self.norm(norm, sizes.stem)
        if family.pre_activation:
            key = f"{conv.rpartition('.')[0]}.norm"
            self.norm(key, 3)
            self.found[f"{key}.running_mean"] += 115  # of pixels
            self.found[f"{key}.running_var"] *= 70**2
        for stage, blocks in enumerate((*sizes.blocks, 3)[:4], start=2):
            for block in range(blocks):
                self.block(stage, block)
        if family.pre_activation:
            self.norm("roi_heads.res5_bn", sizes.channels * 8)

    def block(self, stage: int, block: int) -> None:
        family, names = self.family, self.family.names
        out = self.sizes.channels * 2 ** (stage - 2)
        inputs = out if block else self.sizes.stem if stage == 2 else out // 2
        middle = family.groups * self.sizes.group_width * 2 ** (stage - 2)
        widths: list[tuple[int | str, int, int, int]] = [
            (1, middle, inputs, 1),
            (2, middle, middle // family.groups, 3),
            (3, out, middle, 1),
        ]
        if block == 0:
            widths.append(("shortcut", out, inputs, 1))
        for branch, rows, columns, kernel in widths:
            conv, norm = names.block(stage, block, branch)
            self.conv(conv, rows, columns, kernel, scale=0.7)
            if not family.pre_activation:
                self.norm(norm, rows)
            elif branch in (2, 3):
                self.norm(norm, middle)
            elif branch == 1:
                self.norm(f"{conv.rpartition('.')[0]}.norm", inputs)

    def heads(self) -> None:
        family, sizes, parts = self.family, self.sizes, self.family.names.parts
        channels = sizes.pyramid if family.pyramid else sizes.channels * 4
        anchors = 3 if family.pyramid else 3 * len(family.sizes)
        self.conv(parts["rpn.conv"], sizes.hidden, channels, 3, bias=True)
        self.conv(parts["rpn.scores"], anchors * (2 if family.pair else 1), sizes.hidden, 1, bias=True, scale=1.0)
        self.conv(parts["rpn.deltas"], anchors * 4, sizes.hidden, 1, bias=True, scale=0.15)
        for level in range(5 if family.pyramid else 1) if family.stored_anchors else ():
            # None that a rule would give, so that a test notices if they are not read.
            corners = self.draw(anchors, 2, scale=20.0)
            sides = 30 * 2**level + self.draw(anchors, 2, scale=100.0).abs()
            self.found[f"{parts['rpn.anchors']}.{level}"] = torch.cat([corners - sides / 2, corners + sides / 2], dim=1)
        width = sizes.width if family.pyramid else sizes.channels * 8
        rows = sizes.classes + 1
        self.linear(parts["classes"], rows, width, scale=2.0)
        self.linear(parts["boxes"], 4 * (rows if family.background_first else sizes.classes), width, scale=0.5)
        if family.attributes:
            self.found[f"{parts['embedding']}.weight"] = self.draw(rows, sizes.embedding, scale=1.0)
            self.linear(parts["attr.hidden"], sizes.attr_hidden, width + sizes.embedding)
            self.linear(parts["attr.score"], sizes.attributes + (family.none != "absent"), sizes.attr_hidden, 2.0)

    def pyramid(self) -> None:
        for level in range(1, 5):
            inputs, out = self.sizes.channels * 2 ** (level - 1), self.sizes.pyramid
            self.conv(f"backbone.fpn.fpn_inner{level}", out, inputs, 1, bias=True, scale=1.0)
            self.conv(f"backbone.fpn.fpn_layer{level}", out, out, 3, bias=True, scale=1.0)
        parts, width = self.family.names.parts, self.sizes.width
        self.linear(parts["fc6"], width, self.sizes.pyramid * self.family.pool_size**2)
        self.linear(parts["fc7"], width, width)


def tensors(family: Family, sizes: Small, seed: int = 0) -> Tensors:
    """A checkpoint by its published names. A caffe one has its norms still whole, as "_conv1.weight" and so on."""
    maker = Maker(family, sizes, seed)
    maker.backbone()
    if family.pyramid:
        maker.pyramid()
    maker.heads()
    return maker.found


def write(path: Path, family: Family, found: Tensors) -> Path:
    """The checkpoint in the container in which it was published."""
    if family.container == "caffemodel":
        path.write_bytes(caffemodel(blobs(found)))
    elif family.container == "pkl":
        path.write_bytes(pickle.dumps({"model": {name: value.numpy() for name, value in found.items()}}))
    elif family.container == "bin":
        torch.save(found, path)
    else:  # before torch 1.6, with what a training run kept beside the weights
        content = {"model": {f"module.{name}": value for name, value in found.items()}, "iteration": 90000}
        torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def blobs(found: Tensors) -> dict[str, list[np.ndarray[Any, Any]]]:
    """Caffe's layers: a norm becomes BatchNorm (sums and the number of batches) and Scale."""
    layers: dict[str, list[np.ndarray[Any, Any]]] = {}
    for key, value in found.items():
        name, _, part = key.rpartition(".")
        if part in ("running_mean", "running_var"):
            layers.setdefault(f"bn{name}", []).append(value.numpy() * 999.0)
        elif f"{name}.running_mean" in found:
            layers.setdefault(f"scale{name}", []).append(value.numpy())
        else:
            layers.setdefault(name, []).append(value.numpy())
    return {name: [*each, np.array([999.0], np.float32)] if name[:2] == "bn" else each for name, each in layers.items()}


def caffemodel(layers: dict[str, list[np.ndarray[Any, Any]]], old: bool = False) -> bytes:
    """Bytes written by protobuf's own library. old: layers as of 2014, with four sides instead of a shape."""
    net = messages()["NetParameter"](name="seeded")
    for name, arrays in layers.items():
        layer = net.layers.add(name=name) if old else net.layer.add(name=name, type="Convolution")
        for array in arrays:
            blob = layer.blobs.add()
            blob.data.extend(array.ravel().tolist())
            if old:
                sides = [1] * (4 - array.ndim) + list(array.shape)
                blob.num, blob.channels, blob.height, blob.width = sides
            else:
                blob.shape.dim.extend(array.shape)
    return bytes(net.SerializeToString())


@cache
def messages() -> dict[str, Any]:
    """The part of caffe.proto that a checkpoint needs, by protobuf's descriptors."""
    kinds = descriptor_pb2.FieldDescriptorProto
    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    schema: dict[str, list[tuple[str, int, int, int, str]]] = {
        "BlobShape": [("dim", 1, many, kinds.TYPE_INT64, "")],
        "BlobProto": [
            *((side, number, one, kinds.TYPE_INT32, "") for number, side in enumerate(SIDES, start=1)),
            ("data", 5, many, kinds.TYPE_FLOAT, ""),
            ("diff", 6, many, kinds.TYPE_FLOAT, ""),
            ("shape", 7, one, kinds.TYPE_MESSAGE, "BlobShape"),
            ("double_data", 8, many, kinds.TYPE_DOUBLE, ""),
        ],
        "LayerParameter": [
            ("name", 1, one, kinds.TYPE_STRING, ""),
            ("type", 2, one, kinds.TYPE_STRING, ""),
            ("blobs", 7, many, kinds.TYPE_MESSAGE, "BlobProto"),
        ],
        "V1LayerParameter": [
            ("name", 4, one, kinds.TYPE_STRING, ""),
            ("blobs", 6, many, kinds.TYPE_MESSAGE, "BlobProto"),
        ],
        "NetParameter": [
            ("name", 1, one, kinds.TYPE_STRING, ""),
            ("layers", 2, many, kinds.TYPE_MESSAGE, "V1LayerParameter"),
            ("layer", 100, many, kinds.TYPE_MESSAGE, "LayerParameter"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, entries in schema.items():
        described = file.message_type.add(name=message)
        for name, number, label, kind, of in entries:
            entry = described.field.add(name=name, number=number, label=label, type=kind)
            if of:
                entry.type_name = f".caffe.{of}"
            if label == many and kind != kinds.TYPE_MESSAGE:
                entry.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}")) for name in schema}


SIDES = ("num", "channels", "height", "width")
