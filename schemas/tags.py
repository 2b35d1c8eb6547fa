"""Table `tags`: words for the things seen in each image, made from its regions, best first."""

import pyarrow as pa

from pairloom.table import Column, Table

TAG = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("region", pa.uint8(), nullable=False),  # position in the image's regions, 0 is the best
        pa.field("class_id", pa.uint16(), nullable=False),
        pa.field("attribute_id", pa.uint16()),  # null if the tag is the class name alone
        pa.field("score", pa.float32(), nullable=False),  # detector confidence of the class, 0 to 1
        pa.field("count", pa.uint8(), nullable=False),  # regions that give this text; 1 if doubles are kept
        pa.field("start", pa.int32(), nullable=False),  # of the text, in characters, when all are joined by spaces
    ]
)

TAGS = Table(
    name="tags",
    version=2,
    row="one image and its object tags, best first. The list may be empty",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("tags", pa.list_(TAG), "text, region, class_id, attribute_id, score, count, start"),
    ),
)
