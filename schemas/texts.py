"""Table `texts`: texts without images, for the rows of text alone that some systems train on."""

import pyarrow as pa

from pairloom.table import Column, Table

TEXTS = Table(
    name="texts",
    version=1,
    row="one text, in the order of the user's lists",
    columns=(
        Column("text", pa.large_string(), "as listed, without white space around it, never empty"),
        Column("lang", pa.string(), "its language (BCP 47 code) if the list says it", nullable=True),
    ),
)
