"""Shards in pieces for several processes: a row group each, made into what a layout's writer takes, in order."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from pairloom.errors import RunError
from pairloom.store.folder import Entry, Folder, group_sizes, read_group
from pipeline.features.kinds import Kind

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Piece:
    """A row group of a shard."""

    shard: str
    file: Path
    group: int
    keys: Sequence[str]  # of its pictures
    last: bool  # of its shard


@dataclass(frozen=True)
class Made:
    """What was made of a piece."""

    piece: Piece
    items: list[Any]
    rows: int
    left_out: int  # rows that the layout has no place for


def pieces(folder: Folder, shards: Iterable[Entry], keys: Mapping[str, Sequence[str]]) -> Iterator[Piece]:
    """Those of these shards; keys: of the pictures of each shard."""
    for shard in shards:
        file, start = folder.here(shard.name), 0
        sizes = group_sizes(file)
        for group, rows in enumerate(sizes):
            own = keys[shard.name][start : start + rows]
            yield Piece(shard.name, file, group, own, last=group == len(sizes) - 1)
            start += rows


def entries(kind: Kind, piece: Piece) -> Made:
    """What the layout's writer takes."""
    return _made(kind, piece, kind.entry)


def sums(kind: Kind, piece: Piece) -> Made:
    """(key, what is wanted of it) of each picture, to compare with what is read back."""
    return _made(kind, piece, kind.sums().of)


def back(kind: Kind, part: Path) -> list[Any]:
    """What was read back of each picture in a part of a folder."""
    return list(map(kind.sums().seen, kind.read(part)))


def _made(kind: Kind, piece: Piece, make: Callable[[Any], Any]) -> Made:
    table = read_group(piece.file, piece.group, kind.columns)
    found = [make(one) for one in kind.rows(table, piece.keys) if kind.takes(one)]
    return Made(piece, found, len(table), len(table) - len(found))


def _start() -> None:
    """In each process: Ctrl-C is the affair of the one that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Processes:
    """Does things in this process, or in so many others, and gives the results in the order of the tasks."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        # A fork of a process that has threads may hang.
        context = get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, context, initializer=_start) if workers > 1 else None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """One result a task. A few are made ahead. Raises RunError where a process dies."""
        if self._pool is None:
            yield from map(function, tasks)
            return
        try:
            waiting = deque[Any]()
            for task in tasks:
                waiting.append(self._pool.submit(function, task))
                if len(waiting) > self._workers + 1:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            fix = "run the same command again, with fewer --workers if memory ran out"
            raise RunError(f"a worker process died: {error}", "export", fix) from error
