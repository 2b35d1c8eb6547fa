"""Part of benchmarks.loader in the interpreter of another environment: writes or measures one format, prints JSON.

`PYTHON -m benchmarks.loader_elsewhere write|measure FORMAT FOLDER ROWS [WORKERS]`. benchmarks.loader calls it for a
format whose package fits none of our environments.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.formats import STREAMING
from benchmarks.loader import make_records, measure


def asked(python: Path, *arguments: object) -> Any:
    """What this module prints there."""
    command = [str(python), "-m", "benchmarks.loader_elsewhere", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    what, name, folder, rows, *workers = sys.argv[1:]
    assert name == STREAMING.name
    if what == "write":
        STREAMING.write(Path(folder), make_records(int(rows)))
        print(json.dumps({}))
    else:
        print(json.dumps(measure(name, Path(folder), int(workers[0]), int(rows))))


if __name__ == "__main__":
    main()
