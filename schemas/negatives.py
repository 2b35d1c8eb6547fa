"""Table `negatives`: for each caption of an image the most similar captions of other images below a ceiling."""

import pyarrow as pa

from pairloom.table import Column, Table

NEGATIVE = pa.struct(
    [
        pa.field("image_id", pa.binary(16), nullable=False),  # the image that this caption belongs to
        pa.field("caption_index", pa.uint16(), nullable=False),  # position in that image's captions
        pa.field("text", pa.string(), nullable=False),  # so that a shard can be read alone
        pa.field("similarity", pa.float32(), nullable=False),  # below the ceiling; in `similar` above the floor
    ]
)

NEGATIVES = Table(
    name="negatives",
    version=1,
    row="one image; for each of its captions a list of hard negatives, most similar first",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("negatives", pa.list_(pa.list_(NEGATIVE)), "one list a caption, ties by (image_id, caption_index)"),
        Column("short", pa.list_(pa.uint16()), "per caption, how many negatives are missing to top_k"),
    ),
)
