"""Table `shards`: the training rows, everything that a recipe may ask for, shuffled and split."""

from dataclasses import replace

import pyarrow as pa

from pairloom.layout import BLOBS
from pairloom.table import Column, Table
from schemas.negatives import NEGATIVES
from schemas.neighbours import NEIGHBOURS
from schemas.pairs import PAIRS
from schemas.patches import PATCHES
from schemas.qa import QA
from schemas.regions import REGIONS
from schemas.similar import SIMILAR
from schemas.tags import TAGS

NOT_IN_SHARDS = ("original_width", "original_height", "phash")
TWICE = ("image_id", "width", "height", "source")  # regions repeat these of pairs
JOINED = (
    PATCHES,
    QA,
    SIMILAR,
    NEIGHBOURS,
)  # columns are null unless the setting of the table's name is on: shards.patches

FEATURE_SCALES = Column(
    "feature_scales",
    BLOBS["feature_scales"],
    "where features are whole numbers (<i1): times this they are the feature, else null",
    nullable=True,
)

SHARDS = Table(
    name="shards",
    version=7,
    row="one image with captions, regions, tags and negatives. Row order is shuffled by seed",
    columns=(
        # of the pictures each is there, since the loader finds them by their places; without one it is empty
        *(replace(c, nullable=c.nullable and c.name != "image") for c in PAIRS.columns if c.name not in NOT_IN_SHARDS),
        *(column for column in REGIONS.columns if column.name not in TWICE),
        FEATURE_SCALES,
        *TAGS.columns[1:],
        *NEGATIVES.columns[1:],
        *(replace(column, nullable=True) for table in JOINED for column in table.columns[1:]),
        Column("split", pa.string(), "train or val, by image, or test, where the list says so (shards.split_from)"),
    ),
    metadata=tuple(key for table in (REGIONS, *JOINED) for key in table.metadata),
    indexed=True,
)
