"""Table `quarantine`: every row that a stage left out, and why. Nothing is lost silently."""

import pyarrow as pa

from pairloom.table import Column, Table

# The fixed vocabulary of reasons: meaning, and whether trying again may help.
REASONS: dict[str, tuple[str, bool]] = {
    # sample
    "bad-row": ("the row of the list cannot be read, or has no URL", False),
    # download
    "scheme-refused": ("the URL is not http or https, or carries credentials", False),
    "path-refused": ("the locator leads out of its source: an absolute path, '..', or a link", False),
    "unreadable": ("the source's file cannot be read, or ends early", True),
    "address-refused": ("the URL, or a redirect, leads to a private or local address", False),
    "dns": ("the host name could not be resolved", True),
    "connect": ("no connection, or it broke", True),
    "tls": ("the server's certificate could not be verified", False),
    "bad-answer": ("the server's answer breaks the rules of HTTP, or its head is too large", False),
    "timeout": ("headers or body did not arrive within the deadline", True),
    "host-down": ("the host failed many times in a row, mostly by silence, so it was not asked for this row", True),
    "host-slow": ("the host asks for pauses that would hold the run too long, so it was not asked for this row", True),
    "http-4xx": ("the server refused: another 4xx status, one of no known kind, or a redirect to nowhere", False),
    "http-again": ("status 408 or 425: the server asks to try again", True),
    "not-found": ("status 404 or 410, or the source has no such file, member or row", False),
    "rate-limited": ("status 429", True),
    "http-5xx": ("the server failed: a 5xx status", True),
    "redirect-limit": ("too many redirects", False),
    "body-limit": ("the body is longer than the limit", False),
    "opt-out": ("robots.txt or a header reserves the image from this use", False),
    "checksum": ("the body does not have the checksum that the list gives", False),
    "not-an-image": ("the body is not a picture of an accepted format", False),
    "damaged-image": ("the picture is truncated or cannot be decoded", False),
    "pixel-limit": ("the header promises more pixels, frames or a longer side than allowed", False),
    "forgotten": ("the picture is one that `pairloom forget` took out", False),
    # curate
    "no-caption": ("no caption is left after cleaning", False),
    "caption-length": ("every caption is too short or too long", False),
    "image-bytes": ("the image has too few bytes", False),
    "image-size": ("a side of the image is too short", False),
    "image-aspect": ("the image is too narrow", False),
    "image-captions": ("the image comes with too many captions", False),
    "low-score": ("the score that another tool gave is missing or too low", False),
    "image-score": ("a head of stage score gives the image less or more than is allowed, or nothing", False),
    "caption-score": ("every caption is too little like the image by stage score, or fails another rule", False),
    "caption-repetition": ("every caption repeats its own words too often, or fails another rule", False),
    "caption-letters": ("every caption has too few letters, or fails another rule", False),
    "caption-markup": ("every caption has URLs or markup, or fails another rule", False),
    "caption-blocked": ("every caption has a blocked word, or fails another rule", False),
    "caption-language": ("every caption is in another language, or fails another rule", False),
    "caption-repeated": ("too many images have its captions, or they fail another rule", False),
    "caption-dropped": ("one caption failed a rule. Its image stays with the others", False),
    "caption-lost": ("one caption of a duplicate, which the image that stays does not have", False),
    "duplicate": ("the same bytes as an earlier image; detail says whether that one has its captions", False),
    "excluded": ("it is, or looks like, an image that was to be kept away from", False),
    "near-duplicate": ("looks the same as an earlier image, in shape and colour", False),
    "semantic-duplicate": ("its vector is nearly that of an earlier image of its cluster (SemDeDup)", False),
    # qa
    "no-image": ("no image has the name by which the question, or an entry of features, knows its own", False),
    "several-images": ("more than one image has that name, so the question could be about any of them", False),
    "no-question": ("the question has no text", False),
    # import of features
    "bad-features": ("the entry of a file of features is damaged, or not as its layout says", False),
    "cut-off": ("the file of features ends within the entry", False),
    "other-width": ("its numbers are of another type, or a feature has more or fewer of them than others'", False),
    "doubled-key": ("an earlier entry has the same key", False),
    "no-features": ("a list names this picture, and the files of features have none", False),
    # any stage
    "no-picture": ("the pair came without its picture, and the stage needs pixels", False),
    "no-regions": ("the detector returned no region", False),
    "bad-value": ("a value is NaN, infinite or does not fit its column", False),
    "stage-error": ("the stage raised an error on this row, which detail has", True),
    "worker-died": ("the worker process died on this row, each time", True),
    "missing-input": ("an input table has no row for this image", True),
}

# Reasons of rows that tell of a part (a caption, a question): the input row itself is counted elsewhere.
OF_A_PART = frozenset({"caption-dropped", "caption-lost", "no-image", "several-images", "no-question"})

QUARANTINE = Table(
    name="quarantine",
    version=1,
    row="one row that a stage left out",
    columns=(
        Column("stage", pa.string(), "the stage that left it out"),
        Column(
            "key",
            pa.string(),
            "FILE:LINE of the list (sample), url (download), image_id in hex (later), or a question's id (qa)",
        ),
        Column("reason", pa.string(), "a word of schemas.quarantine.REASONS"),
        Column("detail", pa.string(), "what exactly: the status, the error, the other row's key"),
        Column("attempts", pa.int32(), "how often it was tried, ≥ 1; for host-down, how often its host failed"),
        Column("row", pa.string(), "the input row as JSON, without its blobs"),
    ),
)
