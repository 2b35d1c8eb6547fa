"""How the numbers of a training row are packed: type and shape of each column of vectors or boxes in the shards.

The schemas say what the columns mean (schemas/regions.py, schemas/patches.py). Readers of shards need this alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pairloom.table import Blob, blob

FEATURE_DTYPE = "feature_dtype"  # key of the file metadata. Shards may store features otherwise than regions

# Key of the file metadata of shards: JSON, by table the columns that hold nothing since the table was left out of them.
LEFT_OUT = "left_out"

# Crops of each level of the pyramid: its box cut into 1×1 to 5×5 (Kaleido-BERT, section 3.2).
LEVELS = (1, 4, 9, 16, 25)

BLOBS: dict[str, Blob] = {
    "boxes": blob("<f4", "num_regions", 4),
    "class_ids": blob("<u2", "num_regions"),
    "class_scores": blob("<f4", "num_regions"),
    "attribute_ids": blob("<u2", "num_regions"),
    "attribute_scores": blob("<f4", "num_regions"),
    "features": blob("<f2", "num_regions", "feature_width", dtype_key=FEATURE_DTYPE),
    "prob_ids": blob("<u2", "num_regions", "prob_width"),
    "prob_values": blob("<f2", "num_regions", "prob_width"),
    "prob_background": blob("<f4", "num_regions"),
    "proposals": blob("<f4", "num_regions", 4),
    "grid": blob("<f2", "grid_side", "grid_side", "feature_width", dtype_key="grid_dtype"),
    "patch_boxes": blob("<f4", "patch_count", 4),
    "patch_features": blob("<f2", "patch_count", "patch_width"),
    "pyramid_boxes": blob("<f4", "pyramid_count", 4),
    "pyramid_features": blob("<f2", "pyramid_count", "patch_width"),
    "pyramid_turned": blob("<f2", 3, "patch_width"),
    "pyramid_grey": blob("<f2", 16, "patch_width"),
    "feature_scales": blob("<f4", "num_regions"),
    "neighbour_boxes": blob("<f4", "neighbour_regions", 4),
    "neighbour_features": blob("<f2", "neighbour_regions", "neighbour_width"),
}


def left_out_columns(metadata: Mapping[str, str]) -> set[str]:
    """The columns of a file of shards that hold nothing, because their table was left out of the shards."""
    return {column for columns in json.loads(metadata.get(LEFT_OUT, "{}")).values() for column in columns}
