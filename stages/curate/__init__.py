"""Stage `curate`: clean the captions, and leave out images that are too small, too narrow or there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import RunError
from pairloom.table import metadata
from schemas.pairs import CAPTION, PAIRS
from stages.contract import Corpus, Counts, Scope
from stages.curate import exclude
from stages.curate.config import Config
from stages.curate.deciding import decide
from stages.curate.decisions import NOTHING, Decisions, image_sizes, keys
from stages.curate.rules import Verdict, judge
from stages.rejects import Reject, quarantine

__all__ = [
    "DISTINCT",
    "INPUTS",
    "OUTPUT",
    "SCOPE",
    "VERSION",
    "Config",
    "check",
    "index",
    "process",
    "reads_pictures",
    "resources",
    "scope",
    "setup",
    "summary",
]

INPUTS = ("download",)
OUTPUT = PAIRS
VERSION = 4
SCOPE: Scope = "before"
DISTINCT = True  # equal pictures are merged


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the settings and what was decided over the whole corpus."""

    config: Config
    decisions: Decisions


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Find the duplicates among all rows that pass the rules."""
    decide(corpus, config, folder)


def scope(config: Config) -> Scope:
    """All shards, if a rule counts or captions are handed over in the whole corpus; else rows know of earlier ones."""
    return "all" if config.reads_corpus else SCOPE


def resources(config: Config) -> list[Path]:
    """The files of `exclude` and `blocked_words`."""
    return exclude.files(config)


def reads_pictures(config: Config) -> bool:
    """Whether linked pictures are read: a rule counts their bytes. Colours are looked up by `index` alone."""
    return config.min_bytes > 0


def setup(config: Config, folder: Path) -> Tools:
    return Tools(config, Decisions(folder))


def process(pairs: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """Rows that stay, with clean captions; all others, and every caption that is dropped or lost, as rejects.

    pairs: rows of one shard, whose name is in the metadata `shard`. A caption equal to another of its image (same text
    and language) is left out without a reject, since nothing is lost.
    """
    shard = metadata(pairs)["shard"]
    decisions = tools.decisions.of(shard)
    rows = pairs.drop_columns(["image"]).to_pylist()
    kept: list[int] = []
    captions: list[list[dict[str, Any]]] = []
    rejects: list[Reject] = []
    sizes = image_sizes(pairs, tools.config)
    for position, (key, row, size) in enumerate(zip(keys(rows), rows, sizes, strict=True)):
        decision = decisions.get(key, NOTHING)
        facts = tools.decisions.facts(row, shard, tools.config, size)
        verdict = judge(facts, [*row["captions"], *decision.captions], tools.config)
        reason, detail = (verdict.reason, verdict.detail) if verdict.reason else (decision.reason, decision.detail)
        if reason:
            rejects.append(Reject(row["image_id"].hex(), reason, detail, row))
            if not verdict.reason:
                rejects += lost_captions(row, [verdict.captions[place] for place in decision.lost], detail)
        else:
            kept.append(position)
            captions.append(verdict.captions)
            rejects += dropped_captions(row, verdict)
    table = pairs.take(pa.array(kept, pa.int64())).replace_schema_metadata(None)
    place = table.schema.get_field_index("captions")
    table = table.set_column(place, PAIRS.column("captions").field(), pa.array(captions, pa.list_(CAPTION)))
    return table, quarantine("curate", rejects)


def dropped_captions(row: dict[str, Any], verdict: Verdict) -> list[Reject]:
    """One reject for each caption that was dropped although its image stays."""
    return [_of_caption("caption-dropped", row, caption, why) for caption, why in verdict.dropped]


def lost_captions(row: dict[str, Any], captions: Iterable[Mapping[str, Any]], why: str) -> list[Reject]:
    """One reject for each caption that went with a duplicate."""
    return [_of_caption("caption-lost", row, caption, why) for caption in captions]


def _of_caption(reason: str, row: dict[str, Any], caption: Mapping[str, Any], why: str) -> Reject:
    return Reject(row["image_id"].hex(), reason, why, {"url": row["url"], "captions": [caption]})


def summary(corpus: Corpus) -> dict[str, Any]:
    """How many captions there are, and how many went with duplicates though no image that stays has them."""
    captions = lost = 0
    for _, table in corpus.tables("curate", ["captions"]):
        captions += int(pc.sum(pc.list_value_length(table["captions"])).as_py() or 0)
    for _, rejects in corpus.tables("quarantine", ["reason"]):
        lost += int(pc.sum(pc.equal(rejects["reason"], "caption-lost")).as_py() or 0)
    return {"captions": captions, "captions_lost": lost}


def check(counts: Counts, config: Config, rejects: Iterable[pa.Table] = ()) -> None:
    """Raise RunError if there were rows and none is left."""
    if counts.rows_in and not counts.rows_out:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in sorted(counts.rejected.items()))
        raise RunError(
            f"none of {counts.rows_in} rows is left ({reasons})",
            where="stage curate, table quarantine/curate",
            fix="loosen the rules in section curate of params.yaml, or look at what the list holds",
        )
