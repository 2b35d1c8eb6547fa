"""docs/reference/reasons.md: what each reason of the quarantine means, written from schemas/quarantine.py."""

from __future__ import annotations

from schemas.quarantine import OF_A_PART, REASONS

PAGE = "docs/reference/reasons.md"

HEAD = """# Reasons

Written by `python -m pipeline.pages` from `schemas/quarantine.py`. Edit that, not this page.

For people who want to know why a row was left out. Each row of `data/quarantine/<stage>` has one of these reasons.
`pairloom retry DIR --reason REASON,REASON` tries rows again. It helps where the table says that the failure may pass.
Where "a part" stands, the row tells of one caption or question, and its image is counted elsewhere.

| reason | meaning | may pass | of |
|---|---|---|---|
"""


def reasons_markdown() -> str:
    """The whole page."""
    rows = (
        f"| `{reason}` | {meaning} | {'yes' if may_pass else 'no'} | {'a part' if reason in OF_A_PART else 'a row'} |"
        for reason, (meaning, may_pass) in REASONS.items()
    )
    return HEAD + "\n".join(rows) + "\n"
