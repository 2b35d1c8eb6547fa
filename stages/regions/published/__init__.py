"""Family `published`: the Faster R-CNNs of the field as one model. What differs between them is in the catalogue.

torch and detectron2 take seconds to import, so only `load` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pairloom.errors import InputError
from stages.regions.published.settings import FasterRCNN

if TYPE_CHECKING:
    from stages.regions.published.opening import PublishedNetwork


def checkpoint_file(spec: FasterRCNN) -> Path:
    """Where `pairloom detector add` put the detector's weights."""
    from stages.regions.published import store

    return store.file(spec.name)


def load(spec: FasterRCNN, path: Path) -> PublishedNetwork:
    """The detector on the CPU. Raises InputError if its checkpoint is missing, damaged, or another detector's."""
    from stages.regions.published.opening import open_published

    return open_published(spec, path)


def files(spec: FasterRCNN, path: Path) -> tuple[Path, ...]:
    """The weights and names. Raises InputError if they are not there."""
    if not path.is_file():
        cure = f"run `pairloom detector add {spec.name} FILE` with a file that was published for it"
        raise InputError("the detector's weights are missing", str(path), f"{cure}, or set regions.checkpoint")
    return (path,)
