"""Every page by its address."""

from __future__ import annotations

from inspection.browse.exporting import export
from inspection.browse.pages_of_checking import compare, faults
from inspection.browse.pages_of_left_out import left, quarantine
from inspection.browse.pages_of_rows import by_image, find, image, overview, pictures, row
from inspection.browse.pages_of_trying import negatives, try_rules
from inspection.browse.site import Page

PAGES: dict[str, Page] = {
    "": overview,
    "pictures": pictures,
    "row": row,
    "find": find,
    "left": left,
    "left-out": quarantine,
    "negatives": negatives,
    "image": image,
    "picture": by_image,
    "rules": try_rules,
    "compare": compare,
    "faults": faults,
    "export": export,
}
