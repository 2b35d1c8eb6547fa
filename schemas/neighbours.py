"""Table `neighbours`: for each image the images that are most like it, with the features of their best regions."""

import pyarrow as pa

from pairloom.layout import BLOBS
from pairloom.table import Column, Table

NEIGHBOUR = pa.struct(
    [
        pa.field("image_id", pa.binary(16), nullable=False),  # of the other image
        pa.field("similarity", pa.float32(), nullable=False),  # cosine
        pa.field("num_regions", pa.int32(), nullable=False),  # of its regions that are here
    ]
)

NEIGHBOURS = Table(
    name="neighbours",
    version=1,
    row="one image with the images like it, most similar first, perhaps none",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("neighbours", pa.list_(NEIGHBOUR), "the other images, ties by image_id"),
        Column("neighbour_regions", pa.int32(), "the sum of their num_regions"),
        Column(
            "neighbour_boxes",
            BLOBS["neighbour_boxes"],
            "x1 y1 x2 y2 of their best regions, image by image, as shares of their picture's width and height",
        ),
        Column("neighbour_features", BLOBS["neighbour_features"], "the features of these regions, as in regions"),
    ),
    # the most images that a row may have, and the width of a feature
    metadata=("neighbour_top_k", "neighbour_width"),
)
