"""Table `pairs`: the stored images with their captions. Written by download and again, cleaned, by curate."""

import pyarrow as pa

from pairloom.extra import EXTRA
from pairloom.table import Column, Table

CAPTION = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),  # as training sees it, once curate has cleaned it
        pa.field("original", pa.string(), nullable=False),  # as the list gave it
        pa.field("lang", pa.string()),  # BCP 47 code, null if unknown
        pa.field("kind", pa.string()),  # original, alt, synthetic, region, translation …, null if unknown
    ]
)

PAIRS = Table(
    name="pairs",
    version=2,
    row="one stored image with all its captions, in the order of the URL list",
    columns=(
        Column("image_id", pa.binary(16), "first 128 bits of the SHA-256 of `image`, or of source and key without one"),
        Column("image", pa.large_binary(), "encoded picture as stored, upright. Null if only its features came", True),
        Column("format", pa.string(), "encoding of `image`: jpeg, png or webp. Null without one", True),
        Column("width", pa.int32(), "pixels of the stored image, ≥ 1"),
        Column("height", pa.int32(), "pixels of the stored image, ≥ 1"),
        Column("original_width", pa.int32(), "pixels as fetched, after EXIF orientation"),
        Column("original_height", pa.int32(), "pixels as fetched, after EXIF orientation"),
        Column("url", pa.string(), "where it was fetched from"),
        Column("sha256", pa.binary(32), "SHA-256 of the body as fetched, before re-encoding. Null without one", True),
        Column("phash", pa.uint64(), "64-bit perceptual hash (DCT) of the stored image. Null without one", True),
        Column("licence", pa.string(), "as in urls", nullable=True),
        Column("source", pa.string(), "as in urls", nullable=True),
        Column("captions", pa.list_(CAPTION), "at least one. A caption's position here is its caption index"),
        Column("extra", EXTRA, "as in urls"),
    ),
)
