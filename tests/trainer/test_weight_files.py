"""Files of weights as other programs write them: each is read whole, and none runs anything."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pairloom.errors import InputError
from trainer.weight_files import read

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.ones(2)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == WEIGHTS.keys() and all(torch.equal(found[name], value) for name, value in WEIGHTS.items())


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "weights.pt", "weights.anything"])
def test_a_file_is_known_by_what_it_holds(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(WEIGHTS, path)
    else:
        torch.save(WEIGHTS, path)
    assert same(read(path))


def test_a_file_of_torch_before_1_6_is_read(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert same(read(tmp_path / "old.pth"))


def test_numpys_arrays_are_read(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {name: value.numpy() for name, value in WEIGHTS.items()}
    np.savez(tmp_path / "weights.npz", **arrays)
    assert same(read(tmp_path / "weights.npz"))


def test_every_file_of_a_folder_that_transformers_split_is_read(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    theirs = BertModel(BertConfig(vocab_size=30, **sizes))
    theirs.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    found, wanted = read(tmp_path), theirs.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_a_trainers_state_around_the_weights_is_taken_off_and_none_of_its_code_runs(tmp_path: Path) -> None:
    """As PyTorch Lightning and DataParallel write them. The class is gone when the file is read."""
    foreign = types.ModuleType("foreign_trainer")

    class Callback:
        def __init__(self, best: float) -> None:
            self.best = best

    Callback.__module__, Callback.__qualname__ = "foreign_trainer", "Callback"
    foreign.Callback = Callback  # type: ignore[attr-defined]
    sys.modules["foreign_trainer"] = foreign
    document = {
        "state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()},
        "callbacks": {Callback: {"best": Callback(0.5)}},
        "hyper_parameters": argparse.Namespace(rate=0.1),
        "epoch": 3,
    }
    torch.save(document, tmp_path / "last.ckpt")
    del sys.modules["foreign_trainer"]
    assert same(read(tmp_path / "last.ckpt"))


def test_tensorflows_names_of_norms_become_torchs(tmp_path: Path) -> None:
    save_file({"a.LayerNorm.gamma": torch.ones(2), "b.gamma": torch.ones(2)}, tmp_path / "old.safetensors")
    assert read(tmp_path / "old.safetensors").keys() == {"a.LayerNorm.weight", "b.gamma"}


class _Program:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


def test_a_pickle_that_would_run_a_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": WEIGHTS, "other": _Program()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="a pickle can run any program"):
        read(tmp_path / "evil.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"not weights at all, but a text of some length", "refused|cannot be read"),
        (b"PK\x03\x04" + bytes(40), "cannot be read"),
    ],
)
def test_what_is_no_file_of_weights_is_refused_by_name(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "whole.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-8])
    with pytest.raises(InputError, match="cannot be read"):
        read(broken)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=r"there is none of model\.safetensors"):
        read(tmp_path / "folder")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(InputError, match="no tensor"):
        read(tmp_path / "none.pt")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_a_torch_file_cut_anywhere_is_refused_by_name(new: bool, tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(WEIGHTS, whole, _use_new_zipfile_serialization=new)
    body = whole.read_bytes()
    for cut in range(0, len(body) - 1, 1 if not new else 7):
        path.write_bytes(body[:cut])
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
def test_a_torch_file_with_another_byte_is_read_or_refused(new: bool, tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "whole.pt", _use_new_zipfile_serialization=new)
    body, random = (tmp_path / "whole.pt").read_bytes(), np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(body)
        damaged[random.integers(len(body))] = random.integers(256)
        (tmp_path / "damaged.pt").write_bytes(damaged)
        with contextlib.suppress(InputError):
            read(tmp_path / "damaged.pt")
