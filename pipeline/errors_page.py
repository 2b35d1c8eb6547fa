"""docs/reference/errors.md: the errors that a user can cause or cure, from the classes of pairloom/errors.py."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pairloom
from inspection.markdown import wrapped
from pairloom import errors
from pairloom.loader.reading import DamagedError

PAGE = "docs/reference/errors.md"
HEAD = """# Errors

Written by `python -m pipeline.pages` from `pairloom/errors.py`. Edit that, not this page.

For people who catch an error of pairloom in a program, or who met one on the command line. Its message has three
lines: what is wrong, where (file, row, setting), and how to fix it. `error.args[:3]` holds the three.

```
StoreError: there is no table here
  where: data/regions
  fix: run `pairloom stage regions`
```

The command line prints it on standard error without a traceback and exits 1, whichever class it is. With `--json` the
object on standard output has `error` (the class), `what`, `where` and `fix`. The other exit codes are those of the
[command line](command-line.md). A row that cannot be used is no error: it goes into the quarantine with a
[reason](reasons.md). [When something breaks](../how-to/when-something-breaks.md) takes messages one by one.
"""


def classes() -> list[type[errors.PairloomError]]:
    """Those of pairloom/errors.py in the file's order, and the one that the loader adds."""
    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__module__ == errors.__name__]
    return [*own, DamagedError]


def errors_markdown() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for kind in classes() for line in _section(kind))]).rstrip() + "\n"


def _section(kind: type[errors.PairloomError]) -> Iterator[str]:
    meaning, _, cure = (inspect.getdoc(kind) or "").partition("\n\nCure: ")
    public = kind.__name__ in pairloom.__all__
    home = "pairloom" if public else kind.__module__
    base = f"It is a `{kind.__mro__[1].__name__}`. " if kind is not errors.PairloomError else ""
    yield from (f"## {kind.__name__}", "", wrapped(meaning), "")
    yield from (wrapped(f"{base}`from {home} import {kind.__name__}`. Exit code 1."), "")
    yield from (wrapped(f"**Cure**: {cure}"), "")
