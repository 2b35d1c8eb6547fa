"""The lists of the rule's settings: mined by words or by vectors, less what a veto takes and a limit of lists."""

from __future__ import annotations

from dataclasses import dataclass

from pairloom.table import Array
from stages.negatives.embedding import mine_vectors
from stages.negatives.hubs import DEPTH, Limits
from stages.negatives.inverted import Index
from stages.negatives.mining import Neighbours, mine_captions
from stages.negatives.rule import Config
from stages.negatives.veto import Kept, Veto, mine_all_kept
from stages.negatives.veto_score import by_score
from stages.negatives.veto_tags import Tags, by_tags
from stages.negatives.veto_words import by_captions


@dataclass(frozen=True)
class Told:
    """What a veto knows of the image of each caption beside its captions, as far as the settings ask for it."""

    tags: Tags | None = None
    pictures: Array | None = None  # as veto_score.by_score wants them

    def take(self, rows: Array) -> Told:
        tags = None if self.tags is None else self.tags.take(rows)
        return Told(tags, None if self.pictures is None else self.pictures[rows])


def mine_kept(
    index: Index,
    part: int,
    captions: Array,
    config: Config,
    told: Told | None = None,
    threads: int = 1,
    limits: Limits | None = None,
) -> Kept:
    """The hard negatives of the captions of these numbers in this part, in their order. told: of these captions.

    limits: of hubs.py. Without them lists are cut to top_k, or are those of the first pass where there is a limit.
    """

    def mine(rows: Array, most: int) -> Neighbours:
        if config.scorer == "embedding":
            return mine_vectors(index, part, captions[rows], config, most)
        return mine_captions(index, part, captions[rows], config, threads, most=most)

    most = config.top_k if config.max_lists is None else DEPTH * config.top_k
    kept = mine_all_kept(mine, len(captions), _vetoes(index, part, captions, config, told or Told()), most)
    if limits is None:
        return kept
    asking = index.ranks[index.bases[part] + captions]
    return Kept(limits.kept(asking, kept.found, config.top_k), kept.vetoed)


def _vetoes(index: Index, part: int, captions: Array, config: Config, told: Told) -> dict[str, Veto]:
    found: dict[str, Veto] = {}
    if "captions" in config.vetoes:
        found["captions"] = by_captions(index, part, captions, config)
    if "tags" in config.vetoes:
        assert told.tags is not None
        found["tags"] = by_tags(index, part, captions, config, told.tags)
    if "score" in config.vetoes:
        assert told.pictures is not None
        assert config.veto_similarity is not None
        found["score"] = by_score(index, part, captions, told.pictures, config.veto_similarity)
    return found
