"""Containers of checkpoints: each published one opens to the same tensors. What is damaged or dangerous is refused."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from pairloom import unpickle
from pairloom.errors import InputError
from stages.regions.importing import caffe, containers
from tests.stages.regions.published.checkpoints import caffemodel, messages

ARRAYS = {"one.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "two.bias": np.array([1.5, -2], np.float32)}
TENSORS = {name: torch.from_numpy(values) for name, values in ARRAYS.items()}


def written(path: Path, kind: str) -> Path:
    wrapped = {"model": {f"module.{name}": value for name, value in TENSORS.items()}, "iteration": 7}
    if kind == "airsplay":
        path.write_bytes(pickle.dumps({"model": OrderedDict(ARRAYS), "__author__": "nobody"}))
    elif kind == "hugging face":
        torch.save(OrderedDict(TENSORS), path)
    elif kind == "zip":
        torch.save(wrapped, path)
    elif kind == "before torch 1.6":
        torch.save(wrapped, path, _use_new_zipfile_serialization=False)
    else:
        save_file(TENSORS, path)
    return path


@pytest.mark.parametrize("kind", ["airsplay", "hugging face", "zip", "before torch 1.6", "safetensors"])
def test_every_container_opens_to_its_tensors(tmp_path: Path, kind: str) -> None:
    found = containers.read(written(tmp_path / "file", kind))
    assert list(found) == list(ARRAYS)
    assert all(np.array_equal(found[name], values) for name, values in ARRAYS.items())


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_every_protocol_open(protocol: int) -> None:
    found = unpickle.loads(pickle.dumps({"model": ARRAYS}, protocol=protocol))
    assert all(np.array_equal(found["model"][name], values) for name, values in ARRAYS.items())


LAYERS = {"conv/3x3": [np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2), np.array([3, 4], np.float32)]}


@pytest.mark.parametrize("old", [False, True])
def test_a_caffemodel_that_protobuf_wrote_opens(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(LAYERS, old))
    found = containers.read(path)
    assert list(found) == ["conv/3x3/0", "conv/3x3/1"]
    assert np.array_equal(found["conv/3x3/0"], LAYERS["conv/3x3"][0])
    assert np.array_equal(found["conv/3x3/1"].flatten(), LAYERS["conv/3x3"][1])


def test_weights_that_are_not_packed_or_double_open() -> None:
    # BlobProto by hand: 5 (data) as single floats of tag 0x2d. 8 (double_data) packed. 7 (shape) of one dimension.
    shape = bytes([0x3A, 3, 0x0A, 1, 2])
    single = b"\x2d" + np.float32(1.5).tobytes() + b"\x2d" + np.float32(-2).tobytes()
    double = bytes([0x42, 16]) + np.array([1.5, -2]).tobytes()
    for blob in (single + shape, shape + double):
        layer = bytes([0x0A, 1]) + b"a" + bytes([0x3A, len(blob)]) + blob
        found = caffe.read(memoryview(bytes([0xA2, 0x06, len(layer)]) + layer))
        assert found["a/0"].tolist() == [1.5, -2]


def test_layers_without_weights_and_unknown_fields_are_passed_over() -> None:
    net = messages()["NetParameter"]()
    net.ParseFromString(caffemodel(LAYERS))
    net.layer.add(name="relu", type="ReLU")
    data = net.SerializeToString() + bytes([0x08 | (15 << 3) & 0x7F, 1])  # a number in field 15
    assert list(caffe.read(memoryview(data))) == ["conv/3x3/0", "conv/3x3/1"]


@given(cut=st.integers(0, len(caffemodel(LAYERS)) - 1))
def test_a_cut_off_caffemodel_is_an_error_or_has_fewer_layers(cut: int) -> None:
    try:
        found = caffe.read(memoryview(caffemodel(LAYERS)[:cut]))
    except caffe.WireError:
        return
    assert not found  # the cut fell before the layer


@settings(max_examples=300)
@given(place=st.integers(0, len(caffemodel(LAYERS)) - 1), value=st.integers(0, 255))
def test_a_damaged_caffemodel_never_crashes(place: int, value: int) -> None:
    data = bytearray(caffemodel(LAYERS))
    data[place] = value
    with contextlib.suppress(caffe.WireError):
        caffe.read(memoryview(bytes(data)))


@given(data=st.binary(max_size=80))
def test_bytes_that_are_no_pickle_are_refused_quietly(data: bytes) -> None:
    with contextlib.suppress(pickle.UnpicklingError):
        unpickle.loads(data)


class Evil:
    """A pickle that would run a command."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_does_anything_else_is_refused_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "trace"
    for name, evil in {
        "system": Evil(os.system, f"touch {trace}"),
        "open": Evil(open, str(trace), "w"),
        "eval": Evil(eval, f"open({str(trace)!r}, 'w')"),
        "getattr": Evil(getattr, [], "append"),
        "numpy": Evil(np.fromfile, str(trace)),
    }.items():
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(b"\x80\x02" * (protocol < 2) + pickle.dumps({"model": evil}, protocol=protocol))
        with pytest.raises(InputError, match="more than arrays"):
            containers.read(path)
    assert not trace.exists()


def test_a_dangerous_torch_file_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    for new in (True, False):
        path = tmp_path / f"evil-{new}.pth"
        torch.save({"model": Evil(os.system, f"touch {trace}")}, path, _use_new_zipfile_serialization=new)
        with pytest.raises(InputError, match="cannot be read"):
            containers.read(path)
    assert not trace.exists()


@pytest.mark.parametrize("kind", ["airsplay", "hugging face", "before torch 1.6", "safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_cut_off_file_is_an_error_that_names_it(tmp_path: Path, kind: str, keep: float) -> None:
    body = written(tmp_path / "whole", kind).read_bytes()
    path = tmp_path / "cut.pth"
    path.write_bytes(body[: int(len(body) * keep)])
    with pytest.raises(InputError) as raised:
        containers.read(path)
    assert raised.value.args[1] == str(path)


def test_a_file_that_is_not_there_or_holds_no_tensors_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        containers.read(tmp_path / "none")
    (tmp_path / "page").write_text("<html>404</html>")
    with pytest.raises(InputError, match="not a caffemodel"):
        containers.read(tmp_path / "page")
    (tmp_path / "empty.pkl").write_bytes(pickle.dumps({"model": {}}))
    with pytest.raises(InputError, match="no tensors"):
        containers.read(tmp_path / "empty.pkl")
