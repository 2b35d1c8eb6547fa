"""Section `run` of params.yaml, and a Config as plain values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from pairloom.errors import ConfigError
from pairloom.typed import Positive, check_ranges


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Section `run` of params.yaml: where the work is done. It never changes the bytes that come out.

    `reuse` names the folder of another dataset. A shard of it that would come out the same here is linked, not made.
    `workspace` names the dataset of the workspace from which `dvc exp run --temp` or `--queue` started this run.
    """

    cluster: str = "local"  # inline, local, or the address of a Dask scheduler (tcp://host:8786)
    workers: Positive | None = None  # processes for `local`, null means one a core
    # seconds that a run on a cluster waits for workers when all that it had have gone
    patience_s: Positive = 300
    # Dask's dashboard of `local`, on a free port of 127.0.0.1. Wants the extra cluster
    dashboard: bool = False
    reuse: str | None = None  # null, workspace, or the folder of another dataset, with its absolute path

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.cluster not in ("inline", "local") and "://" not in self.cluster:
            raise ConfigError(
                f"run.cluster is {self.cluster!r}",
                "params.yaml",
                "set inline, local, or an address like tcp://host:8786",
            )


def as_json(config: Any) -> dict[str, Any]:
    """A config as plain JSON values, for manifests, metadata and fingerprints.

    Fields with the metadata `affects_output: False` (where to look, how many threads) are left out, so that
    changing them makes no shard due. A field with the metadata `absent_at_default: True`, which an earlier version did
    not have, is left out while it has its default, so that it makes no shard of that version due.
    """
    decisive = [item.name for item in dataclasses.fields(config) if _decides(item, getattr(config, item.name))]
    plain: dict[str, Any] = dataclasses.asdict(config)
    return {key: list(plain[key]) if isinstance(plain[key], tuple) else plain[key] for key in decisive}


def _decides(item: dataclasses.Field[Any], value: Any) -> bool:
    if item.metadata.get("absent_at_default") and value == item.default:
        return False
    return bool(item.metadata.get("affects_output", True))
