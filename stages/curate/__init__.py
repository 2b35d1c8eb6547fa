"""Stage `curate`: clean the captions, and leave out images that are too small, too narrow or there already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import RunError
from pairloom.table import metadata
from schemas.pairs import CAPTION, PAIRS
from stages import rows_done
from stages.contract import Corpus, Counts, Scope
from stages.curate import exclude
from stages.curate.config import Config
from stages.curate.deciding import decide
from stages.curate.decisions import NOTHING, Decisions, image_sizes, keys
from stages.curate.rules import Verdict, judge, with_passed
from stages.rejects import Reject, quarantine
from stages.score import lookup

__all__ = [
    "ASKS",
    "COLUMNS",
    "DISTINCT",
    "INPUTS",
    "OUTPUT",
    "SCOPE",
    "VERSION",
    "Config",
    "check",
    "index",
    "inputs",
    "process",
    "reads_pictures",
    "resources",
    "scope",
    "setup",
    "summary",
]

INPUTS = ("download",)
ASKS = ("score",)
COLUMNS = {"score": lookup.COLUMNS}
OUTPUT = PAIRS
VERSION = 4
SCOPE: Scope = "before"
DISTINCT = True  # equal pictures are merged


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the settings and what was decided over the whole corpus."""

    config: Config
    decisions: Decisions


def inputs(config: Config) -> tuple[str, ...]:
    """With `score` where a rule asks for what it says."""
    return (*INPUTS, *(ASKS if config.scored else ()))


def index(corpus: Corpus, config: Config, folder: Path) -> None:
    """Find the duplicates among all rows that pass the rules, which workers judge."""
    decide(corpus, config, folder)


def scope(config: Config) -> Scope:
    """All shards, if a rule counts or captions are handed over in the whole corpus, else rows know of earlier ones."""
    return "all" if config.reads_corpus else SCOPE


def resources(config: Config) -> list[Path]:
    """The files of `exclude` and `blocked_words`."""
    return exclude.files(config)


def reads_pictures(config: Config) -> bool:
    """Whether linked pictures are read: a rule counts their bytes. Colours are looked up by `index` alone."""
    return config.min_bytes > 0


def setup(config: Config, folder: Path) -> Tools:
    return Tools(config, Decisions(folder))


def process(pairs: pa.Table, *score_and_tools: Any) -> tuple[pa.Table, pa.Table]:
    """Rows that stay, with clean captions. All others, and every caption that is dropped or lost, as rejects.

    pairs: rows of one shard, whose name is in the metadata `shard`. score_and_tools: the same shard of `score`, if the
    settings ask for it, and the Tools. A caption equal to another of its image (same text
    and language) is left out without a reject, since nothing is lost.
    """
    *score, tools = score_and_tools
    said = lookup.said(*score)
    shard = metadata(pairs)["shard"]
    decisions = tools.decisions.of(shard)
    rows = pairs.drop_columns(["image"]).to_pylist()
    kept: list[int] = []
    captions: list[list[dict[str, Any]]] = []
    rejects: list[Reject] = []
    sizes = image_sizes(pairs, tools.config)
    for position, (key, row, size) in enumerate(zip(keys(rows), rows, sizes, strict=True)):
        decision = decisions.get(key, NOTHING)
        facts = tools.decisions.facts(row, shard, tools.config, size, said)
        verdict = judge(with_passed(facts, decision.captions), [*row["captions"], *decision.captions], tools.config)
        reason, detail = (verdict.reason, verdict.detail) if verdict.reason else (decision.reason, decision.detail)
        if reason:
            rejects.append(Reject(row["image_id"].hex(), reason, detail, row))
            if not verdict.reason:
                rejects += lost_captions(row, [verdict.captions[place] for place in decision.lost], detail)
        else:
            kept.append(position)
            captions.append(verdict.captions)
            rejects += dropped_captions(row, verdict)
        rows_done.add()
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
    captions = sum(corpus.grouped("curate", ["captions"], _num_captions, None))
    lost = sum(corpus.grouped("quarantine", ["reason"], _num_rejects, "caption-lost"))
    return {"captions": captions, "captions_lost": lost}


def _num_captions(tables: Iterator[pa.Table], argument: None) -> int:
    return sum(int(pc.sum(pc.list_value_length(table["captions"])).as_py() or 0) for table in tables)


def _num_rejects(tables: Iterator[pa.Table], argument: str) -> int:
    return sum(int(pc.sum(pc.equal(table["reason"], argument)).as_py() or 0) for table in tables)


def check(counts: Counts, config: Config, rejects: Iterable[pa.Table] = ()) -> None:
    """Raise RunError if there were rows and none is left."""
    if counts.rows_in and not counts.rows_out:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in sorted(counts.rejected.items()))
        raise RunError(
            f"none of {counts.rows_in} rows is left ({reasons})",
            where="stage curate, table quarantine/curate",
            fix="loosen the rules in section curate of params.yaml, or look at what the list holds",
        )
