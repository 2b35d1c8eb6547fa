"""What a loader may do otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pairloom.loader.order import End
from pairloom.loader.texts import Texts
from pairloom.typed import Positive, Range, check_ranges

Captions = Literal["each", "one"]
Resize = Literal["loader", "device"]
Strings = Literal["captions", "tags", "negatives"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a loader may do otherwise. order.Steps explains `end`, docs/reference/loader.md all of it."""

    end: End = "join"  # what becomes of an epoch's last rows: docs/reference/loader.md, "What it promises"
    shuffle: Literal["window", "full"] = "window"  # full: single rows in any order, for shards on a local disk
    window: Positive = 8  # row groups whose rows are mixed with each other
    max_tokens: Positive | None = None  # of a batch: rows × its longest row's; batch_size rows make several
    captions: Captions = "each"  # a row is an image with each of its captions, or with one drawn every epoch
    on_damage: Literal["refuse", "skip"] = "refuse"  # skip: another row of the batch takes a damaged row's place
    damage_budget: Annotated[int, Range(0)] = 3  # damaged row groups and rows that `skip` bears, of all ranks
    dtype: Literal["float16", "float32", "bfloat16"] | None = None  # of the features; None: as stored
    pin: bool = False  # page-locked batches, for copies to a GPU that run beside the computing
    augment: bool = True  # pictures are cropped and changed at random as the recipe says, else as in evaluation
    resize: Resize = "loader"  # device: batches carry pictures as decoded, which Batch.to resizes and augments
    ahead: Positive = 2  # batches that each worker has in work or ready, on average: more take more memory
    cache: Path | None = None  # folder for copies of remote shards; None: ~/.cache/pairloom
    cache_bytes: Positive = 20 << 30  # of these copies, which all processes of a machine share
    patience_s: Annotated[float, Range(0)] = 120.0  # that a server may fail before training ends
    split: str = "train"  # whose rows are read
    strings: tuple[Strings, ...] = ()  # that a plan's batches hold, too (Batch.strings)
    texts: Texts | None = None  # without images (texts.open_texts), for rows of text alone

    def __post_init__(self) -> None:
        check_ranges(self)
