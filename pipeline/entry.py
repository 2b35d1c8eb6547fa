"""Where the program `pairloom` begins: Ctrl-C while its modules are being imported ends it without a traceback."""

from __future__ import annotations


def main() -> int:
    try:
        from pipeline.cli import main as run  # takes a third of a second
    except KeyboardInterrupt:
        return 130
    return run()
