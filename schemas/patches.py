"""Table `patches`: fixed crops of each image through a convolutional network, one vector a crop."""

import pyarrow as pa

from schemas.table import Column, Table, blob

LEVELS = (
    1,
    4,
    9,
    16,
    25,
)  # crops of each level of the pyramid: its box cut into 1×1 to 5×5 (Kaleido-BERT, section 3.2)

PATCHES = Table(
    name="patches",
    version=1,
    row="one image",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column(
            "patch_boxes",
            blob("<f4", "patch_count", 4),
            "x1 y1 x2 y2, pixels of the stored image; the whole of it cut into equal cells, row by row",
            nullable=True,
        ),
        Column("patch_features", blob("<f2", "patch_count", "patch_width"), "one vector a cell", nullable=True),
        Column(
            "pyramid_boxes",
            blob("<f4", "pyramid_count", 4),
            "x1 y1 x2 y2 as above; the foreground cut into 1×1, 2×2 … 5×5, each level row by row",
            nullable=True,
        ),
        Column("pyramid_features", blob("<f2", "pyramid_count", "patch_width"), "one vector a crop", nullable=True),
        Column(
            "pyramid_turned",
            blob("<f2", 3, "patch_width"),
            "the crop of the first level turned to the left by 90, 180 and 270 degrees",
            nullable=True,
        ),
        Column(
            "pyramid_grey",
            blob("<f2", 16, "patch_width"),
            "the crops of the fourth level without colour",
            nullable=True,
        ),
    ),
)

# Keys of the file metadata of every patches shard. A count of 0 stands for null columns.
PATCHES_METADATA = ("patch_network", "patch_checkpoint", "patch_size", "patch_width", "patch_count", "pyramid_count")
