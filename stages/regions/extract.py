"""The engine: pictures through the network in batches of one size, and their regions in the order of the input.

A batch is decided by the rows alone, in their order: never by time, threads or memory, but for the one exception that
a GPU runs out of memory. The last bits of a float may depend on how large its batch was, so this is what makes the
bytes of a shard the same for any number of workers. (When the executor runs part of a shard, to find a row that makes
the stage fail, the part's batches are its own, and so may be the last bits of the rows that it keeps.)
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import torch
from PIL import Image
from torch import Tensor

from stages import rows_done
from stages.regions.contract import Detections, Network
from stages.regions.pictures import Prepared, Unreadable, ahead, prepare
from stages.regions.select import Policy
from stages.regions.stored import Storage, StoredRegions, regions_of

WAITING_BYTES = 256 << 20  # prepared pictures that wait for others of their size
BATCHES_AT_ONCE = 3  # on a GPU


@dataclass(frozen=True)
class Engine:
    """A network, and how it is driven. All but `threads` may change the last bits."""

    network: Network
    policy: Policy
    storage: Storage
    device: str = "cpu"
    batch: int = 1  # pictures of one size that are detected at once
    threads: int = 1  # that decode and resize


def extract(bodies: Sequence[Callable[[], bytes]], engine: Engine) -> list[StoredRegions | Unreadable]:
    """What is seen in each picture, in their order. `bodies` read their encoded bytes, one that cannot says why."""
    network, results = engine.network, dict[int, StoredRegions | Unreadable]()
    readable = _only_prepared(ahead(lambda item: prepare(*item, network), enumerate(bodies), engine.threads), results)
    batches, look = by_size(readable, engine.batch), Look(engine)
    # On a CPU one batch keeps all threads busy, and the next would only crowd it out.
    for regions in ahead(look, batches, BATCHES_AT_ONCE, waiting=0) if on_gpu(engine) else map(look, batches):
        results |= regions
        rows_done.add(len(regions))
    return [results[row] for row in range(len(bodies))]


def _only_prepared(
    pictures: Iterable[Prepared | Unreadable], results: dict[int, StoredRegions | Unreadable]
) -> Iterator[Prepared]:
    for picture in pictures:
        if isinstance(picture, Unreadable):
            results[picture.row] = picture
        else:
            yield picture


def by_size(pictures: Iterable[Prepared], batch: int, limit: int = WAITING_BYTES) -> Iterator[list[Prepared]]:
    """Batches of one size each: as soon as one is full, or when more than `limit` bytes wait, the size met first.

    Pictures of different sizes are never padded to one: a feature would then depend on its neighbours.
    """
    waiting: dict[torch.Size, list[Prepared]] = {}
    held = 0
    for picture in pictures:
        shape = picture.image.shape
        waiting.setdefault(shape, []).append(picture)
        held += picture.image.nbytes
        while waiting and (len(waiting.get(shape, ())) == batch or held > limit):
            full = waiting.pop(shape if len(waiting.get(shape, ())) == batch else next(iter(waiting)))
            held -= sum(one.image.nbytes for one in full)
            yield full
    yield from waiting.values()


class Look:
    """Detects and selects a batch: {row: regions}.

    On a GPU in a stream of its own: what one batch waits for, such as how many boxes suppression left, others fill.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.most = engine, engine.batch
        if on_gpu(engine):
            torch.cuda.synchronize(engine.device)  # the weights were made ready in the default stream

    def __call__(self, batch: list[Prepared]) -> dict[int, StoredRegions]:
        """A batch that the GPU cannot hold is halved, and so are those after it."""
        regions, rest = dict[int, StoredRegions](), batch
        with torch.inference_mode(), own_stream(self.engine):
            while rest:
                part = rest[: self.most]
                found = self._detect(part)
                if found is not None:
                    regions |= self._regions(part, found)
                    rest = rest[len(part) :]
                    continue
                self.most = min(self.most, len(part) // 2)
                said = f"out of memory with {len(part)} pictures at once; the batch size is now {self.most}"
                print(f"regions: {said}", file=sys.stderr)
        return regions

    def _detect(self, batch: list[Prepared]) -> list[Detections] | None:
        """The network's answers, or None if there is not the memory for so many pictures at once."""
        images = stacked([picture.image for picture in batch], self.engine)
        try:
            return self.engine.network.detect(images, [picture.size for picture in batch])
        except torch.OutOfMemoryError:
            if len(batch) == 1:  # not this picture's fault: the executor tries another worker, and then stops
                raise
        torch.cuda.empty_cache()  # outside of `except`, where the error's frames still hold what they had
        return None

    def _regions(self, batch: list[Prepared], found: list[Detections]) -> dict[int, StoredRegions]:
        network, policy, storage = self.engine.network, self.engine.policy, self.engine.storage
        return {
            picture.row: regions_of(one, picture.size, network, policy, storage)
            for picture, one in zip(batch, found, strict=True)
        }


@contextmanager
def own_stream(engine: Engine) -> Iterator[None]:
    """On a GPU, one of the streams that are free. All that was queued in it is done in the end."""
    if not on_gpu(engine):
        yield
        return
    free = streams(engine.device)
    stream = free.get()
    try:
        with torch.cuda.stream(stream):
            yield
        stream.synchronize()
    finally:
        free.put(stream)


@functools.cache
def streams(device: str) -> SimpleQueue[torch.cuda.Stream]:
    """This process's streams; few, since memory that was used in one is used again in that one alone."""
    free = SimpleQueue[torch.cuda.Stream]()
    for _ in range(BATCHES_AT_ONCE + 1):
        free.put(torch.cuda.Stream(device))
    return free


def stacked(images: list[Tensor], engine: Engine) -> Tensor:
    """(N, 3, H, W) on the device. To a GPU from page-locked memory, so that nothing waits for the copy."""
    if not on_gpu(engine):
        # One picture is taken as it lies, channels last as convolutions want it: a copy takes longer than decoding.
        return images[0][None] if len(images) == 1 else torch.stack(images)
    shape = (len(images), *images[0].shape)
    together = torch.stack(images, out=torch.empty(shape, dtype=images[0].dtype, pin_memory=True))
    return together.to(engine.device, non_blocking=True)


def on_gpu(engine: Engine) -> bool:
    return engine.device.startswith("cuda")


def extract_one(picture: Image.Image, engine: Engine) -> StoredRegions:
    """The regions of one RGB picture in memory."""
    with torch.inference_mode():
        return Look(engine)([Prepared(0, (picture.height, picture.width), engine.network.prepare(picture))])[0]
