"""Table `score`: how well each caption goes with its picture by a dual encoder, and what else it says of the pair."""

import pyarrow as pa

from pairloom.table import Column, Table, blob

HEAD_SCORE = pa.struct(
    [
        pa.field("name", pa.string(), nullable=False),  # as the settings call it, such as aesthetic
        pa.field("value", pa.float32(), nullable=False),
    ]
)

SCORE = Table(
    name="score",
    version=1,
    row="one downloaded image, in the order of the URL list. An image that was downloaded twice comes twice",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("num_texts", pa.int32(), "captions of the row"),
        Column("texts", pa.list_(pa.string()), "the captions in their order, cleaned as curate does"),
        Column("similarity", pa.list_(pa.float32()), "cosine of picture and text, −1 to 1. Null for an empty text"),
        Column("heads", pa.list_(HEAD_SCORE), "what each head of the settings says of the picture, in their order"),
        Column(
            "image_embedding",
            blob("<f2", "score_width"),
            "the picture's vector, of length 1 before it was rounded to float16",
            nullable=True,
        ),
        Column(
            "text_embedding",
            blob("<f2", "num_texts", "score_width"),
            "one vector a text, of length 1 before it was rounded. Zeros for an empty text",
            nullable=True,
        ),
    ),
    metadata=("score_model", "score_checkpoint", "score_precision", "score_width"),
)
