"""Table `similar`: for each caption of an image the captions of other images that are most like it."""

import pyarrow as pa

from pairloom.table import Column, Table
from schemas.negatives import NEGATIVE

SIMILAR = Table(
    name="similar",
    version=1,
    row="one image; for each of its captions a list of similar ones, most similar first, which may be empty",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("similar", pa.list_(pa.list_(NEGATIVE)), "one list a caption, ties by (image_id, caption_index)"),
    ),
    metadata=("similar_top_k",),  # how many a caption may have
)
