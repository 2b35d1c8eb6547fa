"""The veto by tags: of a caption of which all that can be checked is told of the image, by its captions and tags.

Checked are the words of all tags of the corpus, numbers and places. They are told if the image's captions or tags have
them, numbers also by how often things come among the tags. Checked words that stand side by side, such as "green bus"
or "two dogs", must be told together too: side by side in a caption, in one tag, or by a count. Else a green book and a
bus would tell a green bus. A number before a word that is not checked, such as "two things", counts the whole picture:
it is told by as many tags, or side by side in a caption.

Letters: V terms of the vocabulary. A pair of terms is one number, first · (V + 1) + second, where second is V for any
other word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import Array
from stages.negatives.captions import one_chunk
from stages.negatives.groups import ranges
from stages.negatives.inverted import Index
from stages.negatives.matching import document_texts
from stages.negatives.mining import Neighbours
from stages.negatives.rule import Config
from stages.negatives.text import normalised
from stages.negatives.tokens import tokenise
from stages.negatives.vectors import Statistics
from stages.negatives.veto import Veto
from stages.negatives.veto_words import told_by


@dataclass(frozen=True)
class Tags:
    """What `veto: tags` knows: the tags of each caption's image, and the words of all tags there are."""

    texts: pa.ListArray  # one a region: a tag comes as often as the image has it
    words: pa.Array  # large_string, as `words_of` gives them

    def take(self, rows: Array) -> Tags:
        return Tags(self.texts.take(pa.array(rows)), self.words)


def words_of(texts: pa.Array, config: Config) -> pa.Array:
    """The words of these texts (tags), each once, in order."""
    names = tokenise(normalised(texts.cast(pa.large_string())), config).names
    return names.take(pc.sort_indices(names))


def by_tags(index: Index, part: int, captions: Array, config: Config, tags: Tags) -> Veto:
    """`veto: tags` for the captions of these numbers in this part; tags: of their images."""
    source, statistics = index.parts[part].captions, index.statistics
    owners, first, image_of = np.unique(source.owners[captions], return_index=True, return_inverse=True)
    own = _Told.of(tags.texts.take(pa.array(first)), statistics, config)
    checked = _checked(statistics, tags.words, config)
    # `told_by` asks for the place of a caption, and here each image has one
    all_words = told_by(index, part, captions, ~checked, [(first[image], term) for image, term in own.words])
    width = (len(statistics.captions) + 1) ** 2
    low, high = (np.searchsorted(source.owners, owners, side) for side in ("left", "right"))
    texts = source.table["text"].take(pa.array(ranges(low, high))).combine_chunks()
    caption, said, _ = _side_by_side(texts, statistics, config, checked)
    image = np.repeat(np.arange(len(owners)), high - low)[caption]
    told = np.unique(np.concatenate([image * width + said, *(image * width + pair for image, pair in own.pairs)]))

    def veto(rows: Array, found: Neighbours) -> Array:
        stays = all_words(rows, found)
        doubtful = np.flatnonzero(~stays)
        images = np.repeat(image_of[rows], found.counts)[doubtful]
        for into, here, numbers in index.split(found.places[doubtful]):
            documents, which = np.unique(into.captions.documents[numbers], return_inverse=True)
            if not len(documents):
                continue
            texts = document_texts(into.captions, documents)
            document, *either = _side_by_side(texts, statistics, config, checked)
            low, high = (np.searchsorted(document, which, side) for side in ("left", "right"))
            of_image, at = np.repeat(images[here], high - low) * width, ranges(low, high)
            known = np.isin(of_image + either[0][at], told) | np.isin(of_image + either[1][at], told)
            untold = np.repeat(np.arange(len(here)), high - low)[~known]
            stays[doubtful[here[untold]]] = True
        return stays

    return veto


@dataclass(frozen=True)
class _Told:
    """(image, term) and (image, pair of terms) that tags tell."""

    words: list[tuple[Array, Array]]
    pairs: list[tuple[Array, Array]]

    @classmethod
    def of(cls, texts: pa.ListArray, statistics: Statistics, config: Config) -> _Told:
        """texts: the tags of each image."""
        vocabulary = len(statistics.captions)
        tokens = tokenise(normalised(pc.list_flatten(texts).cast(pa.large_string())), config)
        image_of = pc.list_parent_indices(texts).to_numpy().astype(np.int64)
        tag = np.repeat(np.arange(len(image_of)), np.diff(tokens.starts))
        forms = np.stack([_ranks(names, statistics) for names in (tokens.names, *_plurals(tokens.names))])
        numbers = _ranks(pa.array(config.veto_numbers, pa.large_string()), statistics)
        words = [(image_of[tag], form[tokens.terms]) for form in forms]
        of, term = (np.concatenate(each) for each in zip(*words, strict=True))
        own, pairs = _together(np.tile(tag, len(forms)), term)
        counted, word, number = _counts(image_of, tag, tokens.terms, len(tokens.names), numbers)
        whole, total = np.unique(image_of, return_counts=True)
        known = total <= len(numbers)
        found = [(of, term), (counted, number), (whole[known], numbers[total[known] - 1])]
        beside = [(counted, number, form[word]) for form in forms]
        anything = np.full(known.sum(), vocabulary)
        both = [(image_of[own], *pairs), *beside, (whole[known], numbers[total[known] - 1], anything)]
        return cls(
            [(image[term >= 0], term[term >= 0]) for image, term in found],
            [_as_pair(*each, vocabulary) for each in both],
        )


def _as_pair(image: Array, first: Array, second: Array, vocabulary: int) -> tuple[Array, Array]:
    known = (first >= 0) & (second >= 0)
    return image[known], first[known] * (vocabulary + 1) + second[known]


def _together(tag: Array, term: Array) -> tuple[Array, tuple[Array, Array]]:
    """(tag, (term, term)): each two terms of a tag, in both orders."""
    order = np.argsort(tag, kind="stable")
    tag, term = tag[order], term[order]
    low, high = (np.searchsorted(tag, tag, side) for side in ("left", "right"))
    first = np.repeat(np.arange(len(tag)), high - low)
    return tag[first], (term[first], term[ranges(low, high)])


def _counts(image_of: Array, tag: Array, word: Array, words: int, numbers: Array) -> tuple[Array, Array, Array]:
    """(image, word, term of the number): how many of an image's tags have the word, as far as there are numbers."""
    tagged = np.unique(tag * max(words, 1) + word)  # a word that a tag has twice counts once
    owner, word = np.divmod(tagged, max(words, 1))
    pairs, times = np.unique(image_of[owner] * max(words, 1) + word, return_counts=True)
    known = times <= len(numbers)
    image, word = np.divmod(pairs[known], max(words, 1))
    return image, word, numbers[times[known] - 1]


def _side_by_side(
    texts: pa.Array, statistics: Statistics, config: Config, checked: Array
) -> tuple[Array, Array, Array]:
    """(text, pair, pair) of words that follow each other in normalised or other texts and must be told together.

    Either pair tells it. They are the same but for a number before a word that is not checked.
    """
    tokens = tokenise(normalised(texts.cast(pa.large_string())), replace(config, ngram_range=(1, 1)))
    terms = _ranks(tokens.names, statistics)[tokens.terms]
    text = np.repeat(np.arange(len(texts)), np.diff(tokens.starts))
    vocabulary = len(checked)
    terms[terms < 0] = vocabulary
    counts = np.append(checked, False)[terms]
    named = (pa.array(words, pa.large_string()) for words in (config.veto_numbers, config.veto_partitives))
    number, partitive = (np.isin(terms, _ranks(words, statistics)) for words in named)
    whole = number[:-1] & ~counts[1:] & ~partitive[1:]
    at = np.flatnonzero(counts[:-1] & (counts[1:] | whole) & (text[:-1] == text[1:]))
    first, second = terms[at] * (vocabulary + 1), terms[at + 1]
    return text[at], first + second, first + np.where(whole[at], vocabulary, second)


def _ranks(names: pa.Array, statistics: Statistics) -> Array:
    """int64: the term of each name, or -1."""
    found: Array = pc.fill_null(pc.index_in(names, value_set=statistics.names), -1).to_numpy().astype(np.int64)
    return found


def _checked(statistics: Statistics, words: pa.Array, config: Config) -> Array:
    """bool of each term: whether it is a word of a tag, in singular or plural, or one of the settings."""
    own = pa.array([*config.veto_words, *config.veto_numbers], pa.large_string())
    named = pa.concat_arrays([words, *_plurals(words), own])
    found: Array = pc.is_in(statistics.names, value_set=named).to_numpy(zero_copy_only=False)
    return found


def _plurals(words: pa.Array) -> list[pa.Array]:
    """What English adds. A word of another language is none of its captions with an s, most likely."""
    nothing, *ends = (pa.scalar(text, pa.large_string()) for text in ("", "s", "es"))
    return [pc.binary_join_element_wise(words, end, nothing) for end in ends]


def tags_of(images: pa.Table, tags: pa.Table) -> pa.ListArray:
    """The texts of each image's tags, in the order of `images`, each as often as it was counted.

    images: image_id; tags: image_id and tags as in schemas.tags. An empty list where there are none.
    """
    places = pc.index_in(images["image_id"], value_set=one_chunk(tags["image_id"]))
    lists = one_chunk(tags["tags"])
    flat = lists.flatten()
    times = pc.struct_field(flat, "count").to_numpy().astype(np.int64)
    before = np.concatenate([[0], np.cumsum(times)])
    ends = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(lists), 0).to_numpy())])
    every = pc.struct_field(flat, "text").take(pa.array(np.repeat(np.arange(len(flat)), times)))
    texts = pa.ListArray.from_arrays(pa.array(before[ends], pa.int32()), every)
    found = texts.take(one_chunk(places) if isinstance(places, pa.ChunkedArray) else places)
    empty = pa.array([[]], texts.type)
    return pc.coalesce(found, empty[0])
