"""Whether a caption is in one of the languages that are wanted, by py3langid, whose model comes in its package.

The model knows 139 languages. Its best guess of a short text is often wrong: it takes 61 of 100 short English alt texts
for English. So it is asked whether some other language is far more probable than those that are wanted: 95 of the 100
stay then, as many as fastText and CLD2 take for English, and fewer texts in other languages than with either.
`python -m benchmarks.languages` measures it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection

CODE = re.compile(r"[a-z]{2,3}")


def other_language(text: str, wanted: Collection[str], margin: float) -> str | None:
    """The most probable language, if it is more than e^margin times as probable as each wanted one, else None.

    None too for a text of which the model knows nothing, such as a year or a single letter. A wanted language that the
    model does not know has no probability.
    """
    from py3langid.langid import rank  # here: the model takes a second to load

    ranked = rank(text.lower())  # capitals of titles are rare in what the model has learnt from
    found, highest = ranked[0]
    best_wanted = max((score for language, score in ranked if language in wanted), default=-math.inf)
    return str(found) if highest - best_wanted > margin else None
