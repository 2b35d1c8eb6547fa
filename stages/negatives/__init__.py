"""Stage `negatives`: for each caption the most similar captions of other images below a ceiling, exactly.

docs/explanation/negatives.md explains the rule. `mine` does it for plain lists of captions, without images or a
dataset. Nothing here needs more than numpy, numba and pyarrow.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.table import metadata
from schemas.negatives import NEGATIVE, NEGATIVES
from stages import rows_done
from stages.contract import Before, Corpus, Scope
from stages.gathered import opened
from stages.negatives import building, growth, stored
from stages.negatives.beside import Beside
from stages.negatives.captions import Array, captions_of, of_language, one_chunk
from stages.negatives.growth import Earlier
from stages.negatives.hubs import FirstPass, Limits, as_table, limits, of_index
from stages.negatives.inverted import Index, open_index
from stages.negatives.kept import Told, mine_kept
from stages.negatives.lists import Lists, together, union
from stages.negatives.mining import Neighbours, mine_captions
from stages.negatives.rule import Config
from stages.negatives.standalone import mine
from stages.negatives.summary import COUNTED, VETOED, Seen, counted_in, described, seen_in
from stages.negatives.table import lookup, negatives_at, offsets
from stages.negatives.veto import Kept
from stages.negatives.veto_score import pictures_of, refuse_without
from stages.negatives.veto_tags import Tags, tags_of, words_of

INPUTS = ("curate",)
ASKS = ("score", "tags")
ASKING = ("scorer", "veto")
OUTPUT = NEGATIVES
VERSION = 5
COLUMNS = {
    "curate": ("image_id", "captions"),
    "score": ("image_id", "image_embedding"),  # of texts the index has them
    "tags": ("image_id", "tags"),
}
SCOPE: Scope = "all"
WORDS = "words.json"  # in the index: those of all tags
LIMITS = "limits"  # there: of each language, which lists may keep captions that many lists have
TAKES = {name: f"shards.{name}" for name in ("seed", "val_share", "split_from")}  # by which images are held out

__all__ = [
    "ASKING",
    "ASKS",
    "COLUMNS",
    "INPUTS",
    "OUTPUT",
    "SCOPE",
    "TAKES",
    "VERSION",
    "Beside",
    "Config",
    "grow",
    "index",
    "inputs",
    "mine",
    "process",
    "setup",
    "summary",
    "wants_gpu",
]


@dataclass(frozen=True)
class Tools:
    """The settings, the opened index of each language by folder order, and the lists of an earlier run."""

    config: Config
    indexes: dict[str | None, Index]
    earlier: Earlier
    words: pa.Array | None = None  # of all tags there are
    limits: Mapping[str | None, Limits] = field(default_factory=dict)  # of each language, where lists are limited


def inputs(config: Config) -> tuple[str, ...]:
    """With `score` where the rule asks for its vectors, with `tags` where a veto asks for them."""
    asked = {"score": "score" in config.vetoes or config.scorer == "embedding", "tags": "tags" in config.vetoes}
    return (*INPUTS, *(name for name in ASKS if asked[name]))


def wants_gpu(config: Config) -> bool:
    """For vectors, unless the settings say that it computes on the CPU."""
    return config.scorer == "embedding" and config.device != "cpu"


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Let workers read all captions and write, language by language, what `setup` opens.

    Raises InputError if an image is there twice, or stage `score` stored no vectors that the rule asks for.
    """
    building.write(corpus, config, folder)
    if "score" in config.vetoes:
        for _, score in corpus.tables("score", ["image_embedding"]):
            refuse_without(score, "image_embedding")
            break
    if "score" in inputs(config):
        stored.place(corpus, folder, building.languages_in(folder), to_search=config.scorer == "embedding")
    if "tags" in config.vetoes:
        tags = (pc.list_flatten(table["tags"]) for _, table in corpus.tables("tags", ["tags"]))
        texts = (one_chunk(pc.struct_field(each, "text")).unique() for each in tags)
        words = {word for each in texts for word in words_of(each, config).to_pylist()}
        (folder / WORDS).write_text(json.dumps(sorted(words)), encoding="utf-8")
    if config.max_lists is not None:
        _limit_lists(corpus, config, config.max_lists, folder)


def _limit_lists(corpus: Corpus, config: Config, most: int, folder: Path) -> None:
    """Let workers mine all captions once, for what a limit of lists must know of all."""
    asked = {name: COLUMNS[name] for name in inputs(config)}
    files = corpus.answers(asked, first_lists, dict.fromkeys(corpus.sizes("curate"), FirstPass(config, folder)))
    tables = [opened(path) for path in files.values()]
    for number, own in enumerate(setup(config, folder).indexes.values()):
        limits([of_index(table, number) for table in tables], len(own.ranks), most).save(folder / f"{LIMITS}-{number}")


def first_lists(curate: pa.Table, *others: pa.Table, argument: FirstPass) -> pa.Table:
    """The lists of a shard as `limits` wants them, language by language."""
    tools, captions = setup(argument.config, argument.folder), captions_of(curate)
    told = _told(captions, others, tools)
    found = [as_table(0, np.empty(0, np.int64), Neighbours.nothing(0))]
    for number, (lang, own) in enumerate(tools.indexes.items()):
        for part, _, numbers, kept in _kept(captions, told, lang, own, tools.config, None):
            found.append(as_table(number, own.ranks[own.bases[part] + numbers], kept.found))
    return pa.concat_tables(found)


def grow(corpus: Corpus, config: Config, folder: Path, before: Before) -> bool:
    """`index` where a finished run went before and shards were added only. False where that can't be exact."""
    if config.scorer == "embedding" or config.vetoes or config.max_lists is not None:
        return False
    return growth.grow(corpus, config, folder, before)


def summary(corpus: Corpus) -> dict[str, Any]:
    """How similar the negatives are, how many captions are short, which come most often, and what vetoes took."""
    seen = Seen.together(corpus.grouped("negatives", [*COUNTED, "short"], seen_in, None))
    return described(
        seen,
        lambda buckets: corpus.grouped("negatives", COUNTED, counted_in, buckets),
        lambda: (table for _, table in corpus.tables("negatives", ["negatives"])),
    )


def setup(config: Config, folder: Path) -> Tools:
    """Map the indexes that `index` wrote into memory."""
    langs = building.languages_in(folder)
    indexes = {lang: open_index(folder / str(number), config) for number, lang in enumerate(langs)}
    words = None
    if "tags" in config.vetoes:
        words = pa.array(json.loads((folder / WORDS).read_text(encoding="utf-8")), pa.large_string())
    places = {lang: folder / f"{LIMITS}-{number}" for number, lang in enumerate(langs)}
    last = {lang: Limits.open(place) for lang, place in places.items() if place.exists()}
    return Tools(config, indexes, Earlier.open(folder), words=words, limits=last)


def process(curate: pa.Table, *others_and_tools: Any) -> pa.Table:
    """For each image and each of its captions the hard negatives, best first, and how many are missing to top_k.

    others_and_tools: the further tables of `inputs`, and the Tools.
    """
    *others, tools = others_and_tools
    captions = captions_of(curate)
    rows_done.expect(len(captions))
    vetoed: Counter[str] = Counter()
    told = _told(captions, others, tools)
    lists = together(list(_lists(curate, captions, told, tools, vetoed)), len(captions), NEGATIVE)
    short = (tools.config.top_k - pc.list_value_length(lists).to_numpy()).astype(np.uint16)
    of_image = offsets(pc.list_value_length(curate["captions"]).to_numpy())
    return NEGATIVES.table(
        metadata={VETOED: json.dumps(vetoed)} if tools.config.vetoes else None,
        image_id=curate["image_id"],
        negatives=pa.ListArray.from_arrays(of_image, lists),
        short=pa.ListArray.from_arrays(of_image, pa.array(short)),
    )


def _told(captions: pa.Table, others: Sequence[pa.Table], tools: Tools) -> Told:
    """What a veto knows of these captions' images. others: the tables of `inputs` after the first."""
    beside = dict(zip(inputs(tools.config)[1:], others, strict=True))
    tags = None if tools.words is None else Tags(tags_of(captions, beside["tags"]), tools.words)
    return Told(tags, pictures_of(captions, beside["score"]) if "score" in tools.config.vetoes else None)


def _lists(curate: pa.Table, captions: pa.Table, told: Told, tools: Tools, vetoed: Counter[str]) -> Iterator[Lists]:
    before = tools.earlier.of(metadata(curate).get("shard", ""), curate)
    known = np.zeros(len(captions), np.bool_)
    known[before.rows] = True
    for number, (lang, own) in enumerate(tools.indexes.items()):
        for _, rows, _, kept in _kept(captions, told, lang, own, tools.config, tools.limits.get(lang), ~known):
            vetoed.update({name: int(counts.sum()) for name, counts in kept.vetoed.items()})
            yield Lists(rows, kept.found.counts, negatives_at(own, kept.found.places, kept.found.similarities))
        for part, rows, numbers in _placed(captions, lang, own, known):
            lists_before = before.of(np.searchsorted(before.rows, rows))
            yield _grown(own, part, lists_before, numbers, tools.config, tools.earlier.fresh.get(number))


def _kept(
    captions: pa.Table,
    told: Told,
    lang: str | None,
    own: Index,
    config: Config,
    last: Limits | None,
    chosen: Array | None = None,
) -> Iterator[tuple[int, Array, Array, Kept]]:
    """(part, rows, numbers there, their lists) of the captions of a language, all or the chosen ones, bool."""
    for part, rows, numbers in _placed(captions, lang, own, chosen):
        yield part, rows, numbers, mine_kept(own, part, numbers, config, told.take(rows), limits=last)


def _placed(
    captions: pa.Table, lang: str | None, own: Index, chosen: Array | None
) -> Iterator[tuple[int, Array, Array]]:
    """(part, rows, numbers there) of the captions of a language in its index."""
    rows = of_language(captions, lang)
    rows = rows if chosen is None else rows[chosen[rows]]
    parts, numbers = lookup(own, captions.take(pa.array(rows)))
    for part in np.unique(parts).tolist():
        yield part, rows[parts == part], numbers[parts == part]


def _grown(index: Index, part: int, before: Lists, numbers: Array, config: Config, fresh: int | None) -> Lists:
    """Lists of an earlier run with what the parts from `fresh` on add to them; None: the language has no new ones."""
    if fresh is None:
        return before
    into = range(fresh, len(index.parts))
    found = mine_captions(index, part, numbers, config, into=into, known=before.last(config.top_k))
    added = Lists(before.rows, found.counts, negatives_at(index, found.places, found.similarities))
    return union(before, added, config.top_k, config.distinct)
