"""Memory and time of cutting a long list: `python -m benchmarks.lists [--rows N]`, beside pandas reading the same file.

The list is a csv of N rows (10 million by default, about 900 MB) in a temporary folder. Each way runs in a process of
its own, whose largest resident memory is printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAIRLOOM = """
import sys
from pathlib import Path
from pipeline.listing import write_list
from stages.sample import Config, parts
folder = Path(sys.argv[1])
config = Config(urls=str(folder / "list.csv"), rows_per_shard=10_000)
write_list(parts(config, folder / "sample"), config, folder / "data", redo=False, plain=True)
"""
PANDAS = """
import sys
import pandas
print(len(pandas.read_csv(sys.argv[1] + "/list.csv")), file=sys.stderr)
"""


def write_csv(file: Path, rows: int) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.write("url,caption\n")
        for number in range(rows):
            text = f'"a photograph of thing {number % 977}, beside thing {number % 31}"'
            stream.write(f"http://host-{number % 5003}.example/pictures/{number}.jpg,{text}\n")


def measure(name: str, code: str, folder: Path) -> None:
    """Print a process's seconds and its largest resident memory."""
    timed = f"{code}\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", timed, str(folder)], stdout=subprocess.PIPE, text=True, check=True)
    print(f"{name}: {time.monotonic() - start:.0f} s, {int(done.stdout.split()[-1]) / 1024:.0f} MiB at most")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=10_000_000)
    rows = options.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "list.csv", rows)
        print(f"{rows:,} rows, {(Path(folder) / 'list.csv').stat().st_size / 1e6:.0f} MB")
        measure("pandas.read_csv, all in memory", PANDAS, Path(folder))
        measure("pairloom, into table urls", PAIRLOOM, Path(folder))


if __name__ == "__main__":
    main()
