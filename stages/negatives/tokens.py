"""Cut whole columns of normalised captions into terms and number them, compiled: words.words in one pass."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.compiled import compiled
from stages.negatives.rule import Config
from stages.negatives.text import bytes_of
from stages.negatives.words import UNSPACED

Array = npt.NDArray[Any]

CHUNK = 1 << 15  # texts at a time: bounds the room that is kept for their terms
APART, WORD, PAIRED = 0, 1, 2  # classes of characters: between words, of a word, of a script without spaces


@dataclass(frozen=True)
class Tokens:
    """The terms of each text in order, with repetitions, numbered as they come."""

    starts: Array  # int64 (D + 1,)
    terms: Array  # int32: term numbers
    names: pa.Array  # large_string: each term


def tokenise(texts: pa.Array, config: Config) -> Tokens:
    """The terms of normalised texts (large_string without nulls)."""
    offsets, data = bytes_of(texts)
    classes = character_classes(config.unspaced == "bigrams")
    known = _nothing_known()
    counts, found = [np.zeros(1, np.int64)], [np.empty(0, np.int32)]
    for low in range(0, len(texts), CHUNK):
        part_counts, part, known = _scan(offsets[low : low + CHUNK + 1], data, classes, known)
        counts.append(part_counts)
        found.append(part)
    _, _, spans, number = known
    words = Tokens(np.cumsum(np.concatenate(counts)), np.concatenate(found), _names(data, spans[: number[0]]))
    return words if config.ngram_range == (1, 1) else _ngrams(words, config.ngram_range)


@functools.cache
def character_classes(bigrams: bool) -> Array:
    """APART, WORD or PAIRED for each code point, uint8 (1114112,). Words are what \\w matches."""
    characters = [chr(code) for code in range(0x110000)]
    classes = np.array([character.isalnum() for character in characters], np.uint8)
    classes[ord("_")] = WORD
    if bigrams:
        for run in UNSPACED.finditer("".join(characters)):
            classes[run.start() : run.end()] = PAIRED
    return classes


def _nothing_known() -> tuple[Array, Array, Array, Array]:
    """(hash table of term numbers, hash of each term, its span in the bytes, how many there are)."""
    return (
        np.full(1 << 16, -1, np.int32),
        np.zeros(1 << 15, np.uint64),
        np.zeros((1 << 15, 2), np.int64),
        np.zeros(1, int),
    )


def _names(data: Array, spans: Array) -> pa.Array:
    """The names at these spans of the bytes."""
    ends = np.concatenate([[0], np.cumsum(spans[:, 1] - spans[:, 0])]).astype(np.int64)
    copied = _copy(data, spans, ends)
    return pa.LargeStringArray.from_buffers(len(spans), pa.py_buffer(ends), pa.py_buffer(copied))


@compiled
def _copy(data: Array, spans: Array, ends: Array) -> Array:
    copied = np.empty(ends[-1], np.uint8)
    for name in range(len(spans)):
        copied[ends[name] : ends[name + 1]] = data[spans[name, 0] : spans[name, 1]]
    return copied


@compiled
def _scan(
    offsets: Array, data: Array, classes: Array, known: tuple[Array, Array, Array, Array]
) -> tuple[Array, Array, tuple[Array, Array, Array, Array]]:
    """(terms in each text, their numbers, what is known now)."""
    number = len(offsets) - 1
    counts, found = np.zeros(number, np.int64), np.empty(offsets[number] - offsets[0], np.int32)
    total = 0
    for text in range(number):
        at, end, before = offsets[text], offsets[text + 1], total
        while at < end:
            code, size = _character(data, at)
            kind = classes[code]
            start, previous, length = at, at, 0
            while kind != APART and classes[code] == kind:
                if kind == PAIRED and length > 0:
                    found[total], known = _number(data, previous, at + size, known)
                    total += 1
                length, previous = length + 1, at
                at += size
                if at >= end:
                    break
                code, size = _character(data, at)
            if kind == APART:
                at += size
            elif (kind == WORD) == (length > 1):  # one letter is no word. One sign is a term, more gave their pairs
                found[total], known = _number(data, start, at, known)
                total += 1
        counts[text] = total - before
    return counts, found[:total].copy(), known


@compiled
def _character(data: Array, at: int) -> tuple[int, int]:
    """(code point, bytes) of the UTF-8 character that starts here."""
    first = np.int64(data[at])
    if first < 0x80:
        return int(first), 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (data[at + 1] & 0x3F), 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | np.int64(data[at + 1] & 0x3F) << 6 | (data[at + 2] & 0x3F), 3
    high = (first & 0x07) << 18 | np.int64(data[at + 1] & 0x3F) << 12
    return high | np.int64(data[at + 2] & 0x3F) << 6 | (data[at + 3] & 0x3F), 4


@compiled
def _number(
    data: Array, begin: int, end: int, known: tuple[Array, Array, Array, Array]
) -> tuple[int, tuple[Array, Array, Array, Array]]:
    """The number of the term data[begin:end], a new one if it is new, and what is known now."""
    if known[3][0] == len(known[1]):
        known = _grown(*known)
    table, hashes, spans, number = known
    value = np.uint64(14695981039346656037)  # FNV-1a
    for at in range(begin, end):
        value = (value ^ np.uint64(data[at])) * np.uint64(1099511628211)
    value ^= value >> np.uint64(32)
    mask = len(table) - 1
    slot = np.int64(value & np.uint64(mask))
    while table[slot] >= 0:
        term = table[slot]
        if hashes[term] == value and _same(data, begin, end, spans[term, 0], spans[term, 1]):
            return term, known
        slot = (slot + 1) & mask
    term = number[0]
    table[slot], hashes[term], spans[term, 0], spans[term, 1] = term, value, begin, end
    number[0] += 1
    return term, known


@compiled
def _same(data: Array, begin: int, end: int, other: int, other_end: int) -> bool:
    size = end - begin
    if size != other_end - other:
        return False
    step = 0
    while step < size and data[begin + step] == data[other + step]:
        step += 1
    return step == size


@compiled
def _grown(table: Array, hashes: Array, spans: Array, number: Array) -> tuple[Array, Array, Array, Array]:
    """The same with twice the room."""
    room = np.full(2 * len(table), -1, np.int32)
    for term in range(number[0]):
        slot = np.int64(hashes[term] & np.uint64(len(room) - 1))
        while room[slot] >= 0:
            slot = (slot + 1) & (len(room) - 1)
        room[slot] = term
    more_hashes, more_spans = np.zeros(2 * len(hashes), np.uint64), np.zeros((2 * len(hashes), 2), np.int64)
    more_hashes[: len(hashes)], more_spans[: len(spans)] = hashes, spans
    return room, more_hashes, more_spans, number


def _ngrams(words: Tokens, sizes: tuple[int, int]) -> Tokens:
    """Runs of sizes[0] … sizes[1] words, with a space between."""
    text_of = np.repeat(np.arange(len(words.starts) - 1), np.diff(words.starts))
    grams, names = words.terms.astype(np.int64), words.names
    texts, terms = [], []
    all_names: list[pa.Array] = []
    for size in range(1, sizes[1] + 1):
        begins = np.flatnonzero(text_of[: len(text_of) - size + 1] == text_of[size - 1 :]) if size > 1 else None
        if begins is not None:
            last = words.terms[begins + size - 1].astype(np.int64)
            pairs, _, numbers = np.unique(grams[begins] * max(len(words.names), 1) + last, True, True)
            left, right = (pa.array(part) for part in np.divmod(pairs, max(len(words.names), 1)))
            names = pc.binary_join_element_wise(
                names.take(left), words.names.take(right), pa.scalar(" ", pa.large_string())
            )
            grams = np.full(len(text_of), -1)
            grams[begins] = numbers
        if size >= sizes[0]:
            there = np.flatnonzero(grams[: len(text_of) - size + 1] >= 0) if size > 1 else np.arange(len(text_of))
            texts.append(text_of[there])
            terms.append(grams[there] + sum(len(own) for own in all_names))
            all_names.append(names)
    order = np.argsort(np.concatenate(texts), kind="stable")
    starts = np.searchsorted(np.concatenate(texts)[order], np.arange(len(words.starts)))
    return Tokens(starts, np.concatenate(terms)[order].astype(np.int32), pa.concat_arrays(all_names))
