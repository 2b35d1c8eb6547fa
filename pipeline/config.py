"""Read params.yaml and build each stage's frozen Config from its section; nothing else reads that file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pairloom.errors import ConfigError
from pairloom.typed import Positive, check_ranges
from pairloom.typed import build as build


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Section `run` of params.yaml: where the work is done. It never changes the bytes that come out.

    `reuse` names the folder of another dataset. A shard of it that would come out the same here is linked, not made.
    `workspace` names the dataset of the workspace from which `dvc exp run --temp` or `--queue` started this run.
    """

    cluster: str = "local"  # inline, local, or the address of a Dask scheduler (tcp://host:8786)
    workers: Positive | None = None  # processes for `local`; null means one a core
    reuse: str | None = None  # null, workspace, or the folder of another dataset, with its absolute path

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.cluster not in ("inline", "local") and "://" not in self.cluster:
            raise ConfigError(
                f"run.cluster is {self.cluster!r}",
                "params.yaml",
                "set inline, local, or an address like tcp://host:8786",
            )


def read_params(path: Path) -> dict[str, Any]:
    """The sections of params.yaml. Raises ConfigError if it is missing or not a mapping of mappings."""
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read it: {error.strerror}",
            str(path),
            "name a parameter file with --params, or run where params.yaml is",
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"it is not valid YAML: {error}", str(path), "correct the line it names") from error
    if not isinstance(params, dict) or not all(isinstance(section, dict) for section in params.values()):
        raise ConfigError("it should hold one mapping a stage", str(path), "see the params.yaml that pairloom ships")
    return params


def as_json(config: Any) -> dict[str, Any]:
    """A config as plain JSON values, for manifests, metadata and fingerprints.

    Fields with the metadata `affects_output: False` (where to look, how many threads) are left out, so that
    changing them makes no shard due.
    """
    decisive = [item.name for item in dataclasses.fields(config) if item.metadata.get("affects_output", True)]
    plain: dict[str, Any] = dataclasses.asdict(config)
    return {key: list(plain[key]) if isinstance(plain[key], tuple) else plain[key] for key in decisive}
