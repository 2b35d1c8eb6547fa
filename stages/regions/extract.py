"""The engine: pictures through the network in batches of one size, and their regions in the order of the input.

A batch is decided by the rows alone, in their order: never by time, threads or memory, but for the one exception that
a GPU runs out of memory. The last bits of a float may depend on how large its batch was, so this is what makes the
bytes of a shard the same for any number of workers. (When the executor runs part of a shard, to find a row that makes
the stage fail, the part's batches are its own, and so may be the last bits of the rows that it keeps.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from stages.regions.found import Found, Network
from stages.regions.pictures import Prepared, Unreadable, ahead, behind, prepare
from stages.regions.select import Policy
from stages.regions.stored import Regions, Storage, regions_of

WAITING_BYTES = 256 << 20  # prepared pictures that wait for others of their size


@dataclass(frozen=True)
class Engine:
    """A network, and how it is driven; all but `threads` may change the last bits."""

    network: Network
    policy: Policy
    storage: Storage
    device: str = "cpu"
    batch: int = 1  # pictures of one size that are detected at once
    threads: int = 1  # that decode and resize


def extract(bodies: Sequence[Callable[[], bytes]], engine: Engine) -> list[Regions | Unreadable]:
    """What is seen in each picture, in their order; `bodies` read their encoded bytes, one that cannot says why."""
    network, results = engine.network, dict[int, Regions | Unreadable]()
    readable = _only_prepared(ahead(lambda item: prepare(*item, network), enumerate(bodies), engine.threads), results)
    batches = _detected(by_size(readable, engine.batch), engine)
    with torch.inference_mode():
        for regions in behind(lambda detected: _regions(detected, engine), batches):
            results |= regions
    return [results[row] for row in range(len(bodies))]


def _only_prepared(
    pictures: Iterable[Prepared | Unreadable], results: dict[int, Regions | Unreadable]
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


@dataclass(frozen=True)
class Detected:
    """A batch's answers; on a GPU they are there once `ready` is."""

    batch: list[Prepared]
    found: list[Found]
    ready: torch.cuda.Event | None


def _detected(batches: Iterable[list[Prepared]], engine: Engine) -> Iterator[Detected]:
    """Each batch's answers; a batch that the GPU cannot hold is halved, and so are those after it."""
    most = engine.batch
    for batch in batches:
        rest = batch
        while rest:
            part = rest[:most]
            found = _detect(part, engine)
            if found is not None:
                yield Detected(part, found, torch.cuda.current_stream().record_event() if _on_gpu(engine) else None)
                rest = rest[most:]
                continue
            most = len(part) // 2
            print(f"regions: out of memory with {len(part)} pictures at once, going on with {most}", file=sys.stderr)


def _detect(batch: list[Prepared], engine: Engine) -> list[Found] | None:
    """The network's answers, or None if there is not the memory for so many pictures at once."""
    images = _stacked([picture.image for picture in batch], engine)
    try:
        return engine.network.detect(images, [picture.size for picture in batch])
    except torch.OutOfMemoryError:
        if len(batch) == 1:  # the guard puts this picture in quarantine and goes on
            raise
    torch.cuda.empty_cache()  # outside of `except`, where the error's frames still hold what they had
    return None


def _stacked(images: list[Tensor], engine: Engine) -> Tensor:
    """(N, 3, H, W) on the device; to a GPU from page-locked memory, so that nothing waits for the copy."""
    if not _on_gpu(engine):
        return torch.stack(images)
    shape = (len(images), *images[0].shape)
    together = torch.stack(images, out=torch.empty(shape, dtype=images[0].dtype, pin_memory=True))
    return together.to(engine.device, non_blocking=True)


def _on_gpu(engine: Engine) -> bool:
    return engine.device.startswith("cuda")


def _regions(detected: Detected, engine: Engine) -> dict[int, Regions]:
    """The stored regions of a batch, by row; on a GPU in a stream of its own, so that it waits for this batch only."""
    with torch.inference_mode(), _own_stream(detected.ready, engine.device):
        return {
            picture.row: regions_of(one, picture.size, engine.network, engine.policy, engine.storage)
            for picture, one in zip(detected.batch, detected.found, strict=True)
        }


def _own_stream(ready: torch.cuda.Event | None, device: str) -> torch.cuda.StreamContext | nullcontext[None]:
    if ready is None:
        return nullcontext()
    stream = torch.cuda.Stream(device)
    stream.wait_event(ready)
    return torch.cuda.stream(stream)


def extract_one(picture: Image.Image, engine: Engine) -> Regions:
    """The regions of one RGB picture in memory."""
    prepared = Prepared(0, (picture.height, picture.width), engine.network.prepare(picture))
    with torch.inference_mode():
        (detected,) = _detected([[prepared]], engine)
        return _regions(detected, engine)[0]
