"""Reads the weights of a `.caffemodel`: protobuf's wire format, and of caffe's schema only what holds weights.

Of caffe.proto: NetParameter.layer = 100 (LayerParameter: name = 1, blobs = 7), NetParameter.layers = 2 (the old
V1LayerParameter: name = 4, blobs = 6); BlobProto: num channels height width = 1 to 4, data = 5, shape = 7 (whose
dimensions are dim = 1), double_data = 8. A reader of our own, since protobuf's would copy 65 million floats one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

LAYER, NAME, BLOBS = 100, 1, 7
V1_LAYER, V1_NAME, V1_BLOBS = 2, 4, 6
SIDES, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5

Array: TypeAlias = npt.NDArray[np.float32]


class WireError(ValueError):
    """The bytes are no protobuf message of this schema, or end too early."""


@dataclass(frozen=True)
class Field:
    number: int
    kind: int  # wire type
    value: int  # of a varint
    data: memoryview  # of the other kinds


def read(data: memoryview) -> dict[str, Array]:
    """Weights by "layer name/blob number", shaped as stored. Raises WireError if the file is damaged."""
    blobs: dict[str, Array] = {}
    for field in fields(data):
        if field.number in (LAYER, V1_LAYER) and field.kind == LENGTH:
            name, found = _layer(field)
            for number, blob in enumerate(found):
                key = f"{name}/{number}"
                if key in blobs:
                    raise WireError(f"two layers are called {name!r}")
                blobs[key] = blob
    return blobs


def _layer(layer: Field) -> tuple[str, list[Array]]:
    name_number, blob_number = (NAME, BLOBS) if layer.number == LAYER else (V1_NAME, V1_BLOBS)
    name, blobs = "", []
    for field in fields(layer.data):
        if field.number == name_number and field.kind == LENGTH:
            name = str(field.data, "utf-8", "replace")
        elif field.number == blob_number and field.kind == LENGTH:
            blobs.append(_blob(field.data, f"layer {name!r}"))
    return name, blobs


def _blob(data: memoryview, where: str) -> Array:
    sides, parts, shape = dict.fromkeys(SIDES, 0), [], None
    for field in fields(data):
        if field.number in sides and field.kind == VARINT:
            sides[field.number] = field.value
        elif field.number == SHAPE and field.kind == LENGTH:
            shape = _dimensions(field.data)
        elif field.number == DATA and field.kind in (LENGTH, FOUR_BYTES):  # packed, or one value at a time
            parts.append(_floats(field.data, "<f4", where))
        elif field.number == DOUBLE_DATA and field.kind in (LENGTH, EIGHT_BYTES):
            parts.append(_floats(field.data, "<f8", where))
    values = np.concatenate(parts).astype(np.float32, copy=False) if parts else np.zeros(0, np.float32)
    wanted = shape if shape is not None else [side for side in sides.values() if side]
    if math.prod(wanted) != len(values) or not wanted:
        raise WireError(f"{where} has {len(values)} weights for the shape {wanted}")
    return values.reshape(wanted)


def _dimensions(data: memoryview) -> list[int]:
    dimensions = []
    for field in fields(data):
        if field.number == 1 and field.kind == VARINT:
            dimensions.append(field.value)
        elif field.number == 1 and field.kind == LENGTH:
            place = 0
            while place < len(field.data):
                value, place = _varint(field.data, place)
                dimensions.append(value)
    return dimensions


def _floats(data: memoryview, kind: str, where: str) -> npt.NDArray[np.floating]:
    if len(data) % np.dtype(kind).itemsize:
        raise WireError(f"{where} has a cut-off weight")
    return np.frombuffer(data, kind)


def fields(data: memoryview) -> Iterator[Field]:
    """The fields of a message in their order. Raises WireError where the bytes are none."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"there is no field at byte {place}")
        if kind == VARINT:
            value, place = _varint(data, place)
            yield Field(number, kind, value, data[:0])
            continue
        if kind == LENGTH:
            length, place = _varint(data, place)
        elif kind in (EIGHT_BYTES, FOUR_BYTES):
            length = 8 if kind == EIGHT_BYTES else 4
        else:
            raise WireError(f"field {number} has the unknown wire type {kind}")
        if place + length > end:
            raise WireError(f"field {number} wants {length} bytes where {end - place} are left: the file is cut off")
        yield Field(number, kind, 0, data[place : place + length])
        place += length


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """(value, place after it). At most ten bytes, as protobuf allows."""
    value = 0
    for index in range(10):
        if place + index >= len(data):
            raise WireError("the file is cut off in the middle of a number")
        byte = data[place + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, place + index + 1
    raise WireError(f"the number at byte {place} does not end")
