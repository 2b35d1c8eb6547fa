"""Table `patches`: fixed crops of each image through a convolutional network, one vector a crop."""

import pyarrow as pa

from pairloom.layout import BLOBS
from pairloom.table import Column, Table

PATCHES = Table(
    name="patches",
    version=1,
    row="one image",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column(
            "patch_boxes",
            BLOBS["patch_boxes"],
            "x1 y1 x2 y2, pixels of the stored image. The whole of it cut into equal cells, row by row",
            nullable=True,
        ),
        Column("patch_features", BLOBS["patch_features"], "one vector a cell", nullable=True),
        Column(
            "pyramid_boxes",
            BLOBS["pyramid_boxes"],
            "x1 y1 x2 y2 as above. The foreground cut into 1×1, 2×2 … 5×5, each level row by row",
            nullable=True,
        ),
        Column("pyramid_features", BLOBS["pyramid_features"], "one vector a crop", nullable=True),
        Column(
            "pyramid_turned",
            BLOBS["pyramid_turned"],
            "the crop of the first level turned to the left by 90, 180 and 270 degrees",
            nullable=True,
        ),
        Column(
            "pyramid_grey",
            BLOBS["pyramid_grey"],
            "the crops of the fourth level without colour",
            nullable=True,
        ),
    ),
    # a count of 0 stands for null columns
    metadata=("patch_network", "patch_checkpoint", "patch_size", "patch_width", "patch_count", "pyramid_count"),
)
