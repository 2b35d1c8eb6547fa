"""Table `regions`: what the detector saw in each image, best region first."""

import pyarrow as pa

from pairloom.layout import BLOBS, FEATURE_DTYPE
from pairloom.table import Column, Table

REGIONS = Table(
    name="regions",
    version=3,
    row="one image. Its regions best first, or the cells of a grid. Recipes read a prefix",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("source", pa.string(), "as in pairs. After `pairloom extract` the picture's path in its folder", True),
        Column("width", pa.int32(), "pixels of the stored image"),
        Column("height", pa.int32(), "pixels of the stored image"),
        Column("num_regions", pa.uint16(), "1 to 100 as extracted. Imported ones may be more"),
        Column("boxes", BLOBS["boxes"], "x1 y1 x2 y2, pixels of the stored image"),
        Column("class_ids", BLOBS["class_ids"], "index into the metadata's `classes`"),
        Column(
            "class_scores",
            BLOBS["class_scores"],
            "detector confidence of that class, 0 to 1, descending if the metadata's `order` is `score`",
        ),
        Column("attribute_ids", BLOBS["attribute_ids"], "index into the metadata's `attributes`"),
        Column("attribute_scores", BLOBS["attribute_scores"], "confidence of that attribute, 0 to 1"),
        Column(
            "features",
            BLOBS["features"],
            "input of the class head, one vector a region",
        ),
        Column("prob_ids", BLOBS["prob_ids"], "the most probable classes, best first"),
        Column("prob_values", BLOBS["prob_values"], "their probabilities. All others share the rest"),
        Column(
            "prob_background",
            BLOBS["prob_background"],
            "probability of none of the classes. The classes not stored have 1 − this − the sum of prob_values",
            nullable=True,
        ),
        Column("proposals", BLOBS["proposals"], "what was pooled: boxes before regression", nullable=True),
        Column(
            "grid",
            BLOBS["grid"],
            "the whole image through the layers of the class head, pooled to a grid of cells, row by row",
            nullable=True,
        ),
    ),
    # classes and attributes are JSON lists of names. `order` is `score` or, after a faithful selection, `published`;
    # feature_dtype and grid_dtype are <f2 or <f4; grid_side 0 stands for no grid
    metadata=(
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
    ),
)
