"""Examples as a Batch: one tensor of each kind of value, padded where rows differ in length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pairloom.loader.batch import (
    IGNORE,
    ITSELF,
    Batch,
    Example,
    Pixels,
    RegionBatch,
    Regions,
    Unwritten,
    WordBatch,
    Words,
    map_tensors,
)
from pairloom.loader.buffers import SMALL, Empty
from pairloom.loader.stored import Stored, read_rows
from pairloom.table import Array


def collate(examples: Sequence[Example], pad_id: int, empty: Empty = np.empty, dtype: str | None = None) -> Batch:
    """Examples as a Batch, in their order. All must have the same kind of units.

    empty gives the memory of the large tensors. dtype: numpy's name, of the features; None leaves them as stored.
    Raises reading.DamagedError where features that still lie in a shard are not what was written.
    """
    numbers: dict[bytes, int] = {}
    units = [example.units for example in examples]
    regions = [unit for unit in units if isinstance(unit, Regions)]
    pixels = [unit.values_3SS for unit in units if isinstance(unit, Pixels)]
    assert not (regions and pixels), "one batch, one kind of units"
    return Batch(
        image_ids=tuple(example.image_id for example in examples),
        caption_index_B=torch.tensor([example.caption_index for example in examples]),
        image_number_B=torch.tensor([numbers.setdefault(example.image_id, len(numbers)) for example in examples]),
        mismatch_B=torch.tensor([example.mismatch for example in examples]),
        words=collate_words([example.words for example in examples], pad_id),
        regions=collate_regions(regions, empty, dtype) if regions else None,
        pixels_B3SS=collate_pixels(pixels, empty) if pixels else None,
        pixel_mask_BSS=pixel_mask(pixels),
        targets={name: collate_target([example.targets[name] for example in examples]) for name in examples[0].targets},
        causal=examples[0].causal,
        others=_others([example.others for example in examples], pad_id),
        strings={name: tuple(example.strings[name] for example in examples) for name in examples[0].strings},
    )


def collate_pixels(pixels: Sequence[Array | Unwritten], empty: Empty) -> Tensor:
    """(B, 3, S, S), as large as the largest in each direction; 0, the mean colour, fills up the others."""
    height, width = (max(values.shape[axis] for values in pixels) for axis in (1, 2))
    padded = empty((len(pixels), 3, height, width), np.dtype(np.float32))
    for place, values in zip(padded, pixels, strict=True):
        inside = place[:, : values.shape[1], : values.shape[2]]
        if isinstance(values, np.ndarray):
            inside[...] = values
        else:
            values.write(inside)
        place[:, values.shape[1] :] = 0
        place[:, : values.shape[1], values.shape[2] :] = 0
    return torch.from_numpy(padded)


def pixel_mask(pixels: Sequence[Array | Unwritten]) -> Tensor | None:
    """(B, S, S) bool, where there is picture and no filling; None if all pictures are of one size."""
    if len({values.shape for values in pixels}) <= 1:
        return None
    heights, widths = (torch.tensor([values.shape[axis] for values in pixels]) for axis in (1, 2))
    rows_BS = torch.arange(int(heights.max())) < heights[:, None]
    columns_BS = torch.arange(int(widths.max())) < widths[:, None]
    return rows_BS[:, :, None] & columns_BS[:, None, :]


def collate_target(rows: Sequence[Array]) -> Tensor:
    """One number a row, or as many as the longest has."""
    if rows[0].ndim == 0:
        return torch.from_numpy(np.stack(rows))
    filling = {"i": IGNORE, "b": False}.get(rows[0].dtype.kind, 0)
    return pad(rows, filling)


def _others(texts: Sequence[tuple[Words, ...]], pad_id: int) -> WordBatch | None:
    """The further texts of each row, padded to the longest of all."""
    count = len(texts[0])
    if not count:
        return None
    flat = collate_words([words for row in texts for words in row], pad_id)
    return map_tensors(flat, lambda tensor: tensor.unflatten(0, (len(texts), count)))


def collate_words(words: Sequence[Words], pad_id: int) -> WordBatch:
    there = filled([len(word.ids_T) for word in words])
    return WordBatch(
        input_ids_BT=pad([word.ids_T for word in words], pad_id, there=there),
        attention_mask_BT=torch.from_numpy(there),
        word_ids_BT=pad([word.word_ids_T for word in words], -1, there=there),
        labels_BT=pad([word.labels_T for word in words], IGNORE, there=there),
        segments_BT=pad([word.segments_T for word in words], 0, there=there),
    )


def collate_regions(regions: Sequence[Regions], empty: Empty = np.empty, dtype: str | None = None) -> RegionBatch:
    there = filled([len(region.boxes_R7) for region in regions])

    def optional(name: str, dtype: torch.dtype, filling: int = 0) -> Tensor | None:
        if getattr(regions[0], name) is None:
            return None
        return pad([getattr(region, name) for region in regions], filling, there=there).to(dtype)

    return RegionBatch(
        features_BRD=pad([region.features_RD for region in regions], 0, empty, dtype),
        boxes_BR7=pad([region.boxes_R7 for region in regions], 0, there=there),
        mask_BR=torch.from_numpy(there),
        masked_BR=pad([region.masked_R for region in regions], False, there=there),
        shown_BR=optional("shown_R", torch.int64, ITSELF),
        class_ids_BR=optional("class_ids_R", torch.int64),
        class_scores_BR=optional("class_scores_R", torch.float32),
        attribute_ids_BR=optional("attribute_ids_R", torch.int64),
        attribute_scores_BR=optional("attribute_scores_R", torch.float32),
        prob_ids_BRK=optional("prob_ids_RK", torch.int64),
        prob_values_BRK=optional("prob_values_RK", torch.float32),
    )


def pad(
    rows: Sequence[Array | Stored],
    value: float,
    empty: Empty = np.empty,
    dtype: str | None = None,
    there: Array | None = None,
) -> Tensor:
    """Rows of differing length as one tensor of their dtype (or this one), filled up with `value` at the end.

    there: `filled` of the rows' lengths, where that is known.
    """
    first, lengths = rows[0], [len(row) for row in rows]
    padded = empty((len(rows), max(lengths), *first.shape[1:]), dtype or first.dtype)
    if isinstance(first, Stored):
        read_rows(rows, padded)  # from the file to their places, nothing in between
        fill_up(padded, lengths, value)
    elif first.nbytes > SMALL:
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = row
        fill_up(padded, lengths, value)
    elif min(lengths) == len(padded[0]):
        np.concatenate(rows, out=padded.reshape(-1, *first.shape[1:]))
    else:  # many small ones: a loop over rows would cost more than the copy
        padded[...] = value
        padded[filled(lengths) if there is None else there] = np.concatenate(rows)
    return torch.from_numpy(_signed(padded))


def fill_up(padded: Array, lengths: Sequence[int], value: float) -> None:
    """Write `value` where rows have ended."""
    for number in np.flatnonzero(np.array(lengths) < padded.shape[1]).tolist():
        padded[number, lengths[number] :] = value


def filled(lengths: Sequence[int]) -> Array:
    """(rows, longest) bool, False is padding."""
    there: Array = np.arange(max(lengths)) < np.array(lengths)[:, None]
    return there


def _signed(array: Array) -> Array:
    """torch has few operations on uint16."""
    return array.astype(np.int64) if array.dtype.kind == "u" else array
