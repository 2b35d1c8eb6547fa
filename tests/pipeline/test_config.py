"""Section `run` of params.yaml."""

from __future__ import annotations

import pytest

from pairloom.errors import ConfigError
from pairloom.typed import build
from pipeline.config import RunConfig


def test_the_cluster_must_be_one_that_we_know() -> None:
    assert build(RunConfig, {"cluster": "tcp://10.0.0.1:8786"}, "").cluster.startswith("tcp")
    with pytest.raises(ConfigError, match=r"run\.cluster is 'slurm'"):
        build(RunConfig, {"cluster": "slurm"}, "")
    with pytest.raises(ConfigError, match="workers is 0"):
        build(RunConfig, {"workers": 0}, "")
