"""Table `regions`: what the detector saw in each image, best region first."""

import pyarrow as pa

from schemas.table import Column, Table, blob

REGIONS = Table(
    name="regions",
    version=1,
    row="one image; its regions best first, 1 to 100 of them; recipes read a prefix",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("num_regions", pa.uint8(), "1 to 100"),
        Column("boxes", blob("<f4", "num_regions", 4), "x1 y1 x2 y2, pixels of the stored image"),
        Column("class_ids", blob("<u2", "num_regions"), "index into the metadata's `classes`"),
        Column("class_scores", blob("<f4", "num_regions"), "detector confidence of that class, 0 to 1, descending"),
        Column("attribute_ids", blob("<u2", "num_regions"), "index into the metadata's `attributes`"),
        Column("attribute_scores", blob("<f4", "num_regions"), "confidence of that attribute, 0 to 1"),
        Column("features", blob("<f2", "num_regions", "feature_width"), "input of the class head, one vector a region"),
        Column("prob_ids", blob("<u2", "num_regions", "prob_width"), "the most probable classes, best first"),
        Column(
            "prob_values", blob("<f2", "num_regions", "prob_width"), "their probabilities; all others share the rest"
        ),
    ),
)

# Keys of the file metadata of every regions shard; classes and attributes are JSON lists of names.
REGIONS_METADATA = ("detector", "checkpoint", "feature_width", "prob_width", "classes", "attributes")
