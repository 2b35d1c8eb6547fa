"""params.yaml: what is read, converted and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairloom.errors import ConfigError
from pipeline.config import RunConfig, build, read_params


def test_the_cluster_must_be_one_that_we_know() -> None:
    assert build(RunConfig, {"cluster": "tcp://10.0.0.1:8786"}, "").cluster.startswith("tcp")
    with pytest.raises(ConfigError, match=r"run\.cluster is 'slurm'"):
        build(RunConfig, {"cluster": "slurm"}, "")
    with pytest.raises(ConfigError, match="workers is 0"):
        build(RunConfig, {"workers": 0}, "")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params\.yaml"):
        read_params(tmp_path / "params.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_params(tmp_path / "bad.yaml")
    (tmp_path / "flat.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="one mapping a stage"):
        read_params(tmp_path / "flat.yaml")
