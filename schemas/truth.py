"""Table `truth`: exact ground truth of the sample's composed scenes, for evaluation only."""

import pyarrow as pa

from pairloom.table import Column, Table

THING = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),  # class name, English, a word of the starter's vocabulary
        pa.field("attributes", pa.list_(pa.string()), nullable=False),  # colour and size words that are true of it
        pa.field("box", pa.list_(pa.float32(), 4), nullable=False),  # x1 y1 x2 y2 of the visible part, pixels
        pa.field("visible", pa.float32(), nullable=False),  # visible share of the thing's own pixels, 0 to 1
    ]
)
RELATION = pa.struct(
    [
        pa.field("subject", pa.uint8(), nullable=False),  # index into things
        pa.field("predicate", pa.string(), nullable=False),  # left of, right of, above, below, in front of, behind
        pa.field("object", pa.uint8(), nullable=False),
    ]
)

TRUTH = Table(
    name="truth",
    version=1,
    row="one composed scene",
    columns=(
        Column("url", pa.string(), "the scene's row in urls"),
        Column("width", pa.int32(), "pixels"),
        Column("height", pa.int32(), "pixels"),
        Column("things", pa.list_(THING), "back to front"),
        Column("relations", pa.list_(RELATION), "all that hold by a clear margin"),
    ),
)
