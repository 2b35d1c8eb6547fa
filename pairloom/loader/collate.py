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
    Unwritten,
    WordBatch,
    Words,
    map_tensors,
)
from pairloom.loader.buffers import SMALL, Empty
from pairloom.loader.examples import Examples, RegionColumns, united_words
from pairloom.loader.pictures import Picture, collate_pictures, shape_mask
from pairloom.loader.stored import Stored, read_rows
from pairloom.table import Array


def collate(
    examples: Examples | Sequence[Example], pad_id: int, empty: Empty = np.empty, dtype: str | None = None
) -> Batch:
    """Examples as a Batch, in their order. All must have the same kind of units.

    empty gives the memory of the large tensors. dtype: numpy's name, of the features. None leaves them as stored.
    Raises reading.DamagedError where features that still lie in a shard are not what was written.
    """
    rows = examples if isinstance(examples, Examples) else Examples.united(examples)
    numbers: dict[bytes, int] = {}
    units = () if isinstance(rows.units, RegionColumns) else rows.units
    pixels = [unit.values_3SS for unit in units if isinstance(unit, Pixels)]
    pictures = [unit for unit in units if isinstance(unit, Picture)]
    return Batch(
        image_ids=tuple(rows.image_ids),
        caption_index_B=_numbers(rows.caption_indices),
        image_number_B=_numbers([numbers.setdefault(image_id, len(numbers)) for image_id in rows.image_ids]),
        mismatch_B=_numbers(rows.mismatch),
        words=collate_words(rows.words, rows.word_counts, pad_id),
        regions=None if pixels or pictures else collate_regions(rows.regions(), empty, dtype),
        pixels_B3SS=collate_pixels(pixels, empty) if pixels else None,
        pixel_mask_BSS=pixel_mask(pixels),
        pictures=collate_pictures(pictures, empty) if pictures else None,
        targets={name: collate_target(values) for name, values in rows.targets.items()},
        causal=rows.causal,
        others=_others(rows.others, pad_id),
        strings={name: tuple(values) for name, values in rows.strings.items()},
        apart=tuple(collate(part, pad_id, empty, dtype) for part in rows.apart),
    )


def _numbers(values: Sequence[int]) -> Tensor:
    """int64; torch.tensor takes five times as long."""
    return torch.from_numpy(np.array(values, np.int64))


def collate_pixels(pixels: Sequence[Array | Unwritten], empty: Empty) -> Tensor:
    """(B, 3, S, S), as large as the largest in each direction. 0, the mean colour, fills up the others."""
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
    """(B, S, S) bool, where there is picture and no filling. None if all pictures are of one size."""
    return shape_mask([(values.shape[1], values.shape[2]) for values in pixels])


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
    every = [words for row in texts for words in row]
    flat = collate_words(united_words(every), [len(words.ids_T) for words in every], pad_id)
    return map_tensors(flat, lambda tensor: tensor.unflatten(0, (len(texts), count)))


def collate_words(words: Words, counts: Sequence[int], pad_id: int) -> WordBatch:
    """Texts of so many tokens each, one after the other."""
    there = filled(counts)
    return WordBatch(
        input_ids_BT=spread(words.ids_T, there, pad_id),
        attention_mask_BT=torch.from_numpy(there),
        word_ids_BT=spread(words.word_ids_T, there, -1),
        labels_BT=spread(words.labels_T, there, IGNORE),
        segments_BT=spread(words.segments_T, there, 0),
    )


def collate_regions(regions: RegionColumns, empty: Empty = np.empty, dtype: str | None = None) -> RegionBatch:
    there = filled(regions.counts)

    def optional(name: str, dtype: torch.dtype, filling: int = 0) -> Tensor | None:
        values = regions.columns.get(name)
        return None if values is None else spread(values, there, filling).to(dtype)

    return RegionBatch(
        features_BRD=pad(regions.features, 0, empty, dtype),
        boxes_BR7=spread(regions.columns["boxes_R7"], there, 0),
        mask_BR=torch.from_numpy(there),
        masked_BR=spread(regions.columns["masked_R"], there, False),
        shown_BR=optional("shown_R", torch.int64, ITSELF),
        class_ids_BR=optional("class_ids_R", torch.int64),
        class_scores_BR=optional("class_scores_R", torch.float32),
        attribute_ids_BR=optional("attribute_ids_R", torch.int64),
        attribute_scores_BR=optional("attribute_scores_R", torch.float32),
        prob_ids_BRK=optional("prob_ids_RK", torch.int64),
        prob_values_BRK=optional("prob_values_RK", torch.float32),
    )


def spread(values: Array, there: Array, filling: float) -> Tensor:
    """Values that lie row after row in the places that are `there` (rows, longest), the others filled up."""
    values = _signed(values)
    if len(values) == there.size and values.flags.writeable:
        return torch.from_numpy(values.reshape(*there.shape, *values.shape[1:]))
    padded: Array = np.full((*there.shape, *values.shape[1:]), filling, values.dtype)
    padded[there] = values
    return torch.from_numpy(padded)


def pad(rows: Sequence[Array | Stored], value: float, empty: Empty = np.empty, dtype: str | None = None) -> Tensor:
    """Rows of differing length as one tensor of their dtype (or this one), filled up with `value` at the end."""
    first, lengths = rows[0], [len(row) for row in rows]
    if not isinstance(first, Stored) and first.nbytes <= SMALL and dtype is None:
        return spread(np.concatenate(rows), filled(lengths), value)
    padded = empty((len(rows), max(lengths), *first.shape[1:]), dtype or first.dtype)
    if isinstance(first, Stored):
        read_rows(rows, padded)  # from the file to their places, nothing in between
    else:
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = row
    fill_up(padded, lengths, value)
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
