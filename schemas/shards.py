"""Table `shards`: the training rows, everything that a recipe may ask for, shuffled and split."""

import pyarrow as pa

from schemas.negatives import NEGATIVES
from schemas.pairs import PAIRS
from schemas.regions import REGIONS
from schemas.table import Column, Table, blob
from schemas.tags import TAGS

# Key of the file metadata, beside those of regions: how `features` are stored. Without it (version 1): <f2.
FEATURE_DTYPE = "feature_dtype"  # <f2, <f4, or <i1 with feature_scales

FEATURES = Column(
    "features", blob(FEATURE_DTYPE, "num_regions", "feature_width"), "input of the class head, one vector a region"
)
FEATURE_SCALES = Column(
    "feature_scales",
    blob("<f4", "num_regions"),
    "of whole numbers: times this is the feature; else null",
    nullable=True,
)

SHARDS = Table(
    name="shards",
    version=2,
    row="one image with captions, regions, tags and negatives; row order is shuffled by seed",
    columns=(
        *(column for column in PAIRS.columns if column.name not in ("original_width", "original_height", "phash")),
        *(FEATURES if column.name == "features" else column for column in REGIONS.columns[1:]),
        FEATURE_SCALES,
        *TAGS.columns[1:],
        *NEGATIVES.columns[1:],
        Column("split", pa.string(), "train or val, by image"),
    ),
    indexed=True,
)
