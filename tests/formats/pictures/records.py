"""TFRecord files by Google's own protobuf, from the published descriptions of Example and of its file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from formats.pictures.tfrecord import masked_crc

FIELD = descriptor_pb2.FieldDescriptorProto


def _field(message: Any, name: str, number: int, kind: int, repeated: bool = False, of: str = "") -> None:
    label = FIELD.LABEL_REPEATED if repeated else FIELD.LABEL_OPTIONAL
    message.field.add(name=name, number=number, type=kind, label=label, type_name=of or None)


@cache
def example_class() -> Any:
    """tf.train.Example (tensorflow, core/example/example.proto and feature.proto)."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    lists = {"BytesList": FIELD.TYPE_BYTES, "FloatList": FIELD.TYPE_FLOAT, "Int64List": FIELD.TYPE_INT64}
    for name, kind in lists.items():
        _field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
    feature = file.message_type.add(name="Feature")
    for number, name in enumerate(lists, 1):
        _field(feature, name.lower(), number, FIELD.TYPE_MESSAGE, of=f".tf.{name}")
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _field(entry, "key", 1, FIELD.TYPE_STRING)
    _field(entry, "value", 2, FIELD.TYPE_MESSAGE, of=".tf.Feature")
    _field(features, "feature", 1, FIELD.TYPE_MESSAGE, repeated=True, of=".tf.Features.FeatureEntry")
    _field(file.message_type.add(name="Example"), "features", 1, FIELD.TYPE_MESSAGE, of=".tf.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


def example(values: Mapping[str, bytes | int | float]) -> bytes:
    made = example_class()()
    for name, value in values.items():
        feature = made.features.feature[name]
        if isinstance(value, bytes):
            feature.byteslist.value.append(value)
        elif isinstance(value, int):
            feature.int64list.value.append(value)
        else:
            feature.floatlist.value.append(value)
    content: bytes = made.SerializeToString()
    return content


def record(content: bytes) -> bytes:
    """One record of a file."""
    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", masked_crc(length)) + content + struct.pack("<I", masked_crc(content))
