"""What counts as a sentence, and as one in an order that English does not have."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parents[1]
SENTENCE = re.compile(r"[.!?:](?:\s|$)")
INVERTED = re.compile(
    r"(?:^|[.!?:;]\s+)((?:Built|Read|Taken|Tested|Measured|Given|Kept|Shown|Written|Told|Known|Missing|Found|Counted|"
    r"Compared|Stored|Refused|Skipped|Added|Used|Held|Left out|Not \w+ed) (?:is|are|was|were)\b)",
    re.MULTILINE,
)
