"""Tasks that pairloom's pool gives to workers by name (pipeline/dask_pool.py), against Dask's own placing.

python -m benchmarks.tasks [--tasks 300] [--workers 2] [--rounds 3]

Dask gets all tasks at once (`Client.map`), which is the fastest it can be, or as many as there are workers
(`as_completed`), as pairloom did before. The median of rounds in which the three take turns, on local workers.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

LENGTHS_S = (0.0, 0.005, 0.05)


@dataclass(frozen=True)
class Pause:
    """A task that only waits."""

    label: str
    seconds: float


def wait(task: Pause) -> str:
    time.sleep(task.seconds)
    return task.label


def by_name(client: Any, tasks: list[Pause]) -> int:
    from pipeline.crew import Crew
    from pipeline.dask_pool import DaskPool
    from pipeline.stalls import Watch

    pool = DaskPool(client, Crew(client), Watch("tasks", "local"))
    return len(list(pool.run(wait, deque(tasks))))


def all_at_once(client: Any, tasks: list[Pause]) -> int:
    from distributed import as_completed

    return len([future.result() for future in as_completed(client.map(wait, tasks, pure=False))])


def one_a_worker(client: Any, tasks: list[Pause]) -> int:
    from distributed import as_completed

    waiting = iter(tasks)
    width = len(client.scheduler_info(n_workers=-1)["workers"])
    finished = as_completed([client.submit(wait, task, pure=False) for task in islice(waiting, width)])
    ended = 0
    for future in finished:
        future.result()
        ended += 1
        if (task := next(waiting, None)) is not None:
            finished.add(client.submit(wait, task, pure=False))
    return ended


WAYS: dict[str, Callable[[Any, list[Pause]], int]] = {
    "pairloom": by_name,
    "Dask, all at once": all_at_once,
    "Dask, one a worker": one_a_worker,
}


def main() -> None:
    from distributed import Client, LocalCluster

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        LocalCluster(
            n_workers=options.workers,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            memory_limit=0,
        ) as cluster,
        Client(cluster) as client,
    ):
        for seconds in LENGTHS_S:
            tasks = [Pause(f"pause-{number:05d}", seconds) for number in range(options.tasks)]
            took: dict[str, list[float]] = {name: [] for name in WAYS}
            for _ in range(options.rounds):
                for name, way in WAYS.items():
                    start = time.perf_counter()
                    assert way(client, tasks) == options.tasks
                    took[name].append(time.perf_counter() - start)
            ours, *peers = (statistics.median(times) for times in took.values())
            ratios = ", ".join(
                f"{name} {peer:.2f} s: {peer / ours:.2f} ×" for name, peer in zip(list(WAYS)[1:], peers, strict=True)
            )
            print(f"{options.tasks} tasks of {seconds * 1000:.0f} ms: pairloom {ours:.2f} s, {ratios}")


if __name__ == "__main__":
    main()
