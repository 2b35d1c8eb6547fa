"""Table `regions`: what the detector saw in each image, best region first."""

import pyarrow as pa

from schemas.table import Column, Table, blob

FEATURE_DTYPE = "feature_dtype"  # key of the file metadata; shards may store features otherwise than regions

REGIONS = Table(
    name="regions",
    version=2,
    row="one image; its regions best first, 1 to 100 of them; recipes read a prefix",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("source", pa.string(), "as in pairs; after `pairloom extract` the picture's path in its folder", True),
        Column("width", pa.int32(), "pixels of the stored image"),
        Column("height", pa.int32(), "pixels of the stored image"),
        Column("num_regions", pa.uint8(), "1 to 100"),
        Column("boxes", blob("<f4", "num_regions", 4), "x1 y1 x2 y2, pixels of the stored image"),
        Column("class_ids", blob("<u2", "num_regions"), "index into the metadata's `classes`"),
        Column(
            "class_scores",
            blob("<f4", "num_regions"),
            "detector confidence of that class, 0 to 1; descending if the metadata's `order` is `score`",
        ),
        Column("attribute_ids", blob("<u2", "num_regions"), "index into the metadata's `attributes`"),
        Column("attribute_scores", blob("<f4", "num_regions"), "confidence of that attribute, 0 to 1"),
        Column(
            "features",
            blob("<f2", "num_regions", "feature_width", dtype_key=FEATURE_DTYPE),
            "input of the class head, one vector a region",
        ),
        Column("prob_ids", blob("<u2", "num_regions", "prob_width"), "the most probable classes, best first"),
        Column(
            "prob_values", blob("<f2", "num_regions", "prob_width"), "their probabilities; all others share the rest"
        ),
        Column(
            "prob_background",
            blob("<f4", "num_regions"),
            "probability of none of the classes; the classes not stored have 1 − this − the sum of prob_values",
            nullable=True,
        ),
        Column("proposals", blob("<f4", "num_regions", 4), "what was pooled: boxes before regression", nullable=True),
        Column(
            "grid",
            blob("<f2", "grid_side", "grid_side", "feature_width", dtype_key="grid_dtype"),
            "the whole image through the layers of the class head, pooled to a grid of cells, row by row",
            nullable=True,
        ),
    ),
)

# Keys of the file metadata of every regions shard; classes and attributes are JSON lists of names. `order` is `score`
# or, after a faithful selection, `published`; feature_dtype and grid_dtype are <f2
# or <f4; grid_side 0 stands for no grid.
REGIONS_METADATA = (
    "detector",
    "checkpoint",
    "selection",
    "precision",
    "order",
    "feature_width",
    FEATURE_DTYPE,
    "prob_width",
    "grid_side",
    "grid_dtype",
    "classes",
    "attributes",
)
