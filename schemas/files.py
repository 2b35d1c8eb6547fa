"""Table `files`: the pictures of a folder, as `pairloom extract` found them."""

import pyarrow as pa

from pairloom.table import Column, Table

FILES = Table(
    name="files",
    version=1,
    row="one picture file. New ones are appended, so that shards already made stay",
    columns=(
        Column("image_id", pa.binary(16), "first 128 bits of the SHA-256 of the file. Zeros if it could not be read"),
        Column(
            "source",
            pa.string(),
            "path relative to the folder, as text (formats/names.py)",
        ),
    ),
)
