"""A command of pairloom that kills its process where it reads a part of the shards: PLACE COMMAND ARGUMENT ..."""

from __future__ import annotations

import os
import signal
import sys

from pipeline.features import pieces
from tests.pipeline.features.lists import failing, run

if __name__ == "__main__":
    vars(pieces)["read_group"] = failing(int(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    run(*sys.argv[2:])
