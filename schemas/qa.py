"""Table `qa`: questions about each image with their answers, from the published files of question answering."""

import pyarrow as pa

from pairloom.table import Column, Table

ANSWER = pa.struct([pa.field("text", pa.string(), nullable=False), pa.field("score", pa.float32(), nullable=False)])
QUESTION = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("answers", pa.list_(ANSWER), nullable=False),  # text and how right it is, above 0 to 1, best first
        pa.field("source", pa.string(), nullable=False),  # which collection asks
        pa.field("question_id", pa.string(), nullable=False),  # as that collection numbers it
    ]
)

QA = Table(
    name="qa",
    version=1,
    row="one image and the questions about it, in the order of the files. The list may be empty",
    columns=(
        Column("image_id", pa.binary(16), "as in pairs"),
        Column("qa", pa.list_(QUESTION), "text, answers (none where the file has none), source, question_id"),
    ),
    # the answers that a classifier is to tell apart, the most frequent first, as a JSON list, and how many these are,
    # counted over the whole table
    metadata=("answers", "answer_count"),
)
