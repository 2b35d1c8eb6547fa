"""Stage `patches`: fixed crops of each image as vectors, a grid (FashionBERT) and a pyramid (Kaleido-BERT).

The features are of the pictures as they are, and of what Kaleido-BERT's corruptions need: the first level turned, the
fourth without colour. Which of them is shown is drawn when a batch is made, so that every epoch has other corruptions
(the authors stored one an image), and no byte here depends on a seed or on other rows. Blank pieces are zeros, jigsaws
an order, and the impostor of the third level a stored vector of another image, so none of these needs a pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.layout import LEVELS
from pairloom.table import Array, Blob
from schemas.patches import PATCHES
from schemas.regions import REGIONS
from stages import rows_done
from stages.patches.settings import Config, Tools
from stages.pixels import NO_PICTURE
from stages.rejects import Reject, quarantine

__all__ = ["ASKED_BY", "INPUTS", "OUTPUT", "VERSION", "Config", "Tools", "process", "resources", "setup", "wants_gpu"]

INPUTS = ("curate", "regions")
OUTPUT = PATCHES
VERSION = 1
ASKED_BY = {"patch_": "patches.grid: 8", "pyramid_": "patches.pyramid: true"}


def resources(config: Config) -> tuple[Path, ...]:
    """The network's weights."""
    from stages.patches import checkpoint

    return (checkpoint.weights(config.checkpoint),)


def wants_gpu(config: Config) -> bool:
    """Unless the settings say that it computes on the CPU."""
    return config.device != "cpu"


def setup(config: Config, folder: Path) -> Tools:
    """Load the network. Raises InputError when its weights are missing or do not fit."""
    from stages.patches import networks

    network = networks.load(config.network, config.checkpoint, config.device)
    notes = {
        "patch_network": config.network,
        "patch_checkpoint": network.sha256,
        "patch_size": str(config.size),
        "patch_width": str(network.width),
        "patch_count": str(config.grid**2),
        "pyramid_count": str(sum(LEVELS) if config.pyramid else 0),
    }
    return Tools(network, config, notes)


def process(curate: pa.Table, regions: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """The crops' vectors of each image, in the order of `curate`; without regions the whole image is the foreground."""
    from stages.patches.crops import Cannot, patches_of

    found = pc.index_in(curate["image_id"], regions["image_id"].combine_chunks()).to_pylist()
    blob = REGIONS.column("boxes").type
    assert isinstance(blob, Blob)
    boxes = [flat.reshape(-1, 4) for flat in blob.unpack(regions["boxes"])]
    rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    for number, place in enumerate(found):
        image_id, own = curate["image_id"][number].as_py(), no_boxes() if place is None else boxes[place]
        encoded = curate["image"][number].as_py()
        made = Cannot("no-picture", NO_PICTURE) if encoded is None else patches_of(encoded, own, tools)
        if isinstance(made, Cannot):
            rejects.append(Reject(image_id.hex(), made.reason, made.detail, _content(curate, number)))
        else:
            rows.append({"image_id": image_id, **made})
        rows_done.add()
    columns = {column.name: [row.get(column.name) for row in rows] for column in PATCHES.columns}
    kept = {
        name: values for name, values in columns.items() if name == "image_id" or any(v is not None for v in values)
    }
    return PATCHES.table(metadata=tools.metadata, **kept), quarantine("patches", rejects)


def no_boxes() -> Array:
    return np.zeros((0, 4), np.float32)


def _content(curate: pa.Table, number: int) -> dict[str, Any]:
    content: dict[str, Any] = curate.select(["image_id", "url", "source"]).slice(number, 1).to_pylist()[0]
    return content
