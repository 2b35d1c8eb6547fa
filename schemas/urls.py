"""Table `urls`: the pairs to fetch, as the user listed them, one row a URL."""

import pyarrow as pa

from pairloom.extra import EXTRA
from pairloom.table import Column, Table

CAPTION_IN = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),  # as listed
        pa.field("lang", pa.string()),  # BCP 47 code, null unless the list says it
        pa.field("kind", pa.string()),  # original, alt, synthetic, region, translation …, null unless the list says it
    ]
)

URLS = Table(
    name="urls",
    version=2,
    row="one image-text pair to fetch, in the order of the user's list",
    columns=(
        Column("url", pa.string(), "where the image is: http or https, or a place in a source (`coco:val2017/1.jpg`)"),
        Column("captions", pa.list_(CAPTION_IN), "the texts that describe the image. May be empty"),
        Column("licence", pa.string(), "licence of the image as the list gives it", nullable=True),
        Column("source", pa.string(), "name of the collection that the pair comes from", nullable=True),
        Column("checksum", pa.string(), "`md5:…` or `sha256:…` (hex) of the body to expect", nullable=True),
        Column("extra", EXTRA, "every further column of the list, as text"),
    ),
)
