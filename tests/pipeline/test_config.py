"""params.yaml: what is read, converted and refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from pairloom.errors import ConfigError
from pipeline.config import RunConfig, build, read_params


@dataclass(frozen=True, kw_only=True)
class Example:
    name: str
    share: float = 0.5
    count: int | None = 3
    sides: tuple[int, ...] = (1, 2)
    kind: Literal["a", "b"] = "a"
    on: bool = False


def test_lists_become_tuples_and_whole_numbers_pass_for_floats() -> None:
    built = build(Example, {"name": "x", "share": 1, "sides": [3, 4, 5], "count": None, "kind": "b"}, "here")
    assert built == Example(name="x", share=1.0, sides=(3, 4, 5), count=None, kind="b")
    assert isinstance(built.share, float)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "x", "shape": 1}, "no setting 'shape'"),
        ({}, r"\['name'\] are missing"),
        ({"name": 3}, "value is 3"),
        ({"name": "x", "count": "3"}, "int or null"),
        ({"name": "x", "on": 1}, "value is 1"),
        ({"name": "x", "count": True}, "value is True"),
        ({"name": "x", "kind": "c"}, "one of 'a', 'b'"),
        ({"name": "x", "sides": 3}, "a list"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_cure(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(Example, section, "params.yaml, section example")
    assert "params.yaml, section example" in str(caught.value)


def test_the_cluster_must_be_one_that_we_know() -> None:
    assert build(RunConfig, {"cluster": "tcp://10.0.0.1:8786"}, "").cluster.startswith("tcp")
    with pytest.raises(ConfigError, match=r"run\.cluster is 'slurm'"):
        build(RunConfig, {"cluster": "slurm"}, "")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_params(tmp_path / "bad.yaml")
    (tmp_path / "flat.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="one mapping a stage"):
        read_params(tmp_path / "flat.yaml")
