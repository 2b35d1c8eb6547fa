"""What other programs import: tables on disk (`open_table`, `verify`) and batches from training shards (`Loader`).

    from pairloom import Loader
    for batch in Loader("data/shards", columns=("captions", "boxes", "features"), batch_size=256): ...

The package imports none of this project's other rooms, so it works beside a `trainer.py` or `schemas.py` of yours.
Names are loaded when they are used: only the loader's need torch.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairloom.errors import (
        ConfigError,
        InputError,
        MachineError,
        MissingColumnsError,
        PairloomError,
        RunError,
        SchemaError,
        StoreError,
    )
    from pairloom.loader.batch import Batch
    from pairloom.loader.columns import ColumnBatch
    from pairloom.loader.drawing import Draw
    from pairloom.loader.loader import Loader
    from pairloom.loader.mixture import Mix, Mixture
    from pairloom.loader.options import Options
    from pairloom.loader.pair import Pair, Question
    from pairloom.loader.plan import Plan, Text
    from pairloom.store.folder import Folder
    from pairloom.store.folder import open_folder as open_table
    from pairloom.store.verify import Problem, verify

__all__ = [
    "Batch",
    "ColumnBatch",
    "ConfigError",
    "Draw",
    "Folder",
    "InputError",
    "Loader",
    "MachineError",
    "MissingColumnsError",
    "Mix",
    "Mixture",
    "Options",
    "Pair",
    "PairloomError",
    "Plan",
    "Problem",
    "Question",
    "RunError",
    "SchemaError",
    "StoreError",
    "Text",
    "open_table",
    "verify",
]

_HOMES = {
    "errors": (
        *(
            "ConfigError",
            "InputError",
            "MachineError",
            "MissingColumnsError",
            "PairloomError",
            "RunError",
            "SchemaError",
        ),
        "StoreError",
    ),
    "loader.batch": ("Batch",),
    "loader.columns": ("ColumnBatch",),
    "loader.drawing": ("Draw",),
    "loader.loader": ("Loader",),
    "loader.mixture": ("Mix", "Mixture"),
    "loader.pair": ("Pair", "Question"),
    "loader.plan": ("Plan", "Text"),
    "loader.options": ("Options",),
    "store.folder": ("Folder",),
    "store.verify": ("Problem", "verify"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def _imported(module: str) -> Any:
    """The module. What it needs beyond the base of pairloom is named with its cure."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        from pairloom.errors import MissingExtraError

        what = f"{module} needs the package {error.name}, which is not installed"
        raise MissingExtraError(what, sys.prefix, "install pairloom[train]") from error


if not TYPE_CHECKING:  # or every name would seem to be there

    def __getattr__(name: str) -> Any:
        if name == "open_table":
            return importlib.import_module("pairloom.store.folder").open_folder
        if name in _MODULES:
            return getattr(_imported(f"pairloom.{_MODULES[name]}"), name)
        raise AttributeError(f"module 'pairloom' has no attribute {name!r}")
