"""Stage `shards`: join everything known of an image into training rows, shuffled by seed and split by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairloom import vectors
from pairloom.layout import FEATURE_DTYPE
from pairloom.table import Array, Blob, Column, metadata
from pairloom.typed import Positive, Share, check_ranges
from schemas.regions import REGIONS
from schemas.shards import JOINED, SHARDS
from stages import dealing
from stages.contract import ReadShard, Scope, Shards, Window
from stages.rejects import Reject, quarantine
from stages.split import Split
from stages.stand_ins import notes_on, stand_in

INPUTS = ("curate", "regions", "tags", "negatives")
ASKS = tuple(table.name for table in JOINED)
OUTPUT = SHARDS
VERSION = 7
SCOPE: Scope = "all"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `shards` of params.yaml."""

    seed: int = 0  # of the split and of the order of the rows
    val_share: Share = 0.01  # of the images that are held out as the split `val`
    # name in `extra` of the split that the list gives each image, such as `split` of Karpathy's: train and restval are
    # train, val and its like val, test is test. An image without goes by val_share; null: all go by it
    split_from: str | None = None
    shard_bytes: Positive = 256 << 20  # size aimed at. A shard ends with the row that reaches it
    shuffle_window: Positive = 8  # input shards whose rows are mixed. A shard holds rows of one window or a few
    features: vectors.Stored = "float16"  # how vectors are stored: docs/reference/shards.md has the error of each
    # bytes: pictures that the download linked are read into the shards; link: they stay where they are, and recipes of
    # pixels cannot be trained on them
    pictures: Literal["bytes", "link"] = field(default="bytes", metadata={"absent_at_default": True})
    # whether these tables are joined. CLIP reads none of them. Their stages run only if they are. Tags needs regions
    regions: bool = field(default=True, metadata={"absent_at_default": True})
    tags: bool = field(default=True, metadata={"absent_at_default": True})
    negatives: bool = field(default=True, metadata={"absent_at_default": True})
    patches: bool = False  # whether the table `patches` is joined, which `pairloom stage patches` makes
    qa: bool = False  # whether the table `qa` is joined, which `pairloom stage qa` makes
    similar: bool = False  # whether the table `similar` is joined, which `pairloom stage similar` makes
    # whether the table `neighbours` is joined, which `pairloom stage neighbours` makes
    neighbours: bool = field(default=False, metadata={"absent_at_default": True})

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def left_out(self) -> tuple[str, ...]:
        """The tables of INPUTS that are not joined; without regions there are no tags."""
        joined = {
            "regions": self.regions,
            "tags": self.tags and self.regions,
            "negatives": self.negatives,
        }
        return tuple(name for name in INPUTS if not joined.get(name, True))

    @property
    def split(self) -> Split:
        return Split(seed=self.seed, val_share=self.val_share, split_from=self.split_from)

    @property
    def drawing(self) -> dealing.Drawing:
        return dealing.Drawing(self.seed, self.shuffle_window, self.shard_bytes)


def inputs(config: Config) -> tuple[str, ...]:
    """The tables that are joined."""
    usual = (name for name in INPUTS if name not in config.left_out)
    return (*usual, *(table.name for table in JOINED if getattr(config, table.name)))


def reads_pictures(config: Config) -> bool:
    """Whether linked pictures are read."""
    return config.pictures == "bytes"


def plan(corpus: Shards, config: Config) -> Sequence[Window]:
    """Which input shards are dealt out to which output shards, each about config.shard_bytes.

    Input shards are put in random order and their rows mixed within config.shuffle_window shards. The loader shuffles
    again, over all shards.
    """
    sizes = [corpus.sizes(stage) for stage in inputs(config)]
    sources = [
        dealing.Source(name, config.split.numbers(table), sum(size[name] for size in sizes) / max(table.num_rows, 1))
        for name, table in corpus.tables("curate", config.split.columns)
    ]
    return list(dealing.windows(sources, config.drawing))


def deal(read: ReadShard, window: Window, config: Config) -> list[Array]:
    """Of each part of a window its rows in order: places in the window's input shards, one after the other."""
    pairs = [read("curate", name, config.split.columns) for name in window.shards]
    return dealing.dealt(window, [config.split.numbers(table) for table in pairs], config.drawing)


def setup(config: Config, folder: Path) -> Config:
    return config


def process(curate: pa.Table, *others_and_tools: Any) -> tuple[pa.Table, pa.Table]:
    """Join the tables by image in the order of `curate`. Rows that lack a part or hold a NaN are rejected.

    others_and_tools: the other tables of `inputs`, in their order, and the Config.
    """
    *rest, tools = others_and_tools
    others: dict[str, pa.Table] = dict(zip(inputs(tools)[1:], rest, strict=True))
    places = {
        stage: pc.index_in(curate["image_id"], table["image_id"].combine_chunks()) for stage, table in others.items()
    }
    lacks = [[stage for stage, found in places.items() if not found[row].is_valid] for row in range(curate.num_rows)]
    good = pa.array([not stages for stages in lacks], pa.bool_())
    rejects = [_missing(curate, row, stages) for row, stages in enumerate(lacks) if stages]
    joined = curate.filter(good)
    parts = {stage: table.take(places[stage].filter(good)) for stage, table in others.items()}
    parts |= {stage: stand_in(stage, joined) for stage in tools.left_out}
    notes = metadata(others["regions"]) if "regions" in others else {}
    notes |= _of_added(others) | notes_on(tools.left_out)
    bad = _unfit(parts["regions"], notes, tools)
    rejects += [_reject(joined, row, "bad-value", detail) for row, detail in bad.items()]
    sound = pa.array([row not in bad for row in range(joined.num_rows)], pa.bool_())
    whole = _join(
        joined.filter(sound),
        {stage: part.filter(sound) for stage, part in parts.items()},
        notes,
        tools,
    )
    return whole, quarantine("shards", rejects)


def _of_added(others: Mapping[str, pa.Table]) -> dict[str, str]:
    """What the file says of its patches, answers, similar captions and similar images, if it has any."""
    notes = [(table, metadata(others[table.name])) for table in JOINED if table.name in others]
    return {key: said[key] for table, said in notes for key in table.metadata if key in said}


def _join(curate: pa.Table, parts: dict[str, pa.Table], notes: Mapping[str, str], config: Config) -> pa.Table:
    columns = {name: table[name] for table in (*parts.values(), curate) for name in table.column_names}
    columns["split"] = pa.array(list(config.split.of_rows(curate)), pa.string())
    columns["image"] = pc.fill_null(curate["image"], b"")
    columns["features"], columns["feature_scales"] = _pack(parts["regions"], notes, config)
    kept = {key: value for key, value in notes.items() if key not in ("pairloom", "shard")}
    kept[FEATURE_DTYPE] = vectors.NUMPY[config.features]
    return SHARDS.table(metadata=kept, **{column.name: columns.get(column.name) for column in SHARDS.columns})


def _pack(regions: pa.Table, notes: Mapping[str, str], config: Config) -> tuple[pa.Array | pa.ChunkedArray, pa.Array]:
    """(features, feature_scales) as the settings ask; as they are where that is how they came."""
    kind = REGIONS.column("features").type
    assert isinstance(kind, Blob)
    if kind.number(notes) == np.dtype(vectors.NUMPY[config.features]):
        return regions["features"], pa.nulls(regions.num_rows, pa.large_binary())
    packed = [vectors.pack(features, config.features) for features in _features(regions, notes)]
    numbers, scales = zip(*packed, strict=True) if packed else ((), ())
    return pa.array(numbers, pa.large_binary()), pa.array(scales, pa.large_binary())


def _features(regions: pa.Table, notes: Mapping[str, str]) -> list[Array]:
    """(R, D) of each row."""
    kind = REGIONS.column("features").type
    assert isinstance(kind, Blob)
    rows = zip(kind.unpack(regions["features"], notes), regions["num_regions"].to_pylist(), strict=True)
    return [values.reshape(count, -1 if count else 0) for values, count in rows]


def _unfit(regions: pa.Table, notes: Mapping[str, str], config: Config) -> dict[int, str]:
    """row -> what is wrong with its numbers, naming the region: NaN, infinite, or too large to be stored."""
    found = {}
    for column in REGIONS.columns:
        if column.name == "features" or not isinstance(column.type, Blob) or column.type.number(notes).kind != "f":
            continue
        for row, values in enumerate(column.type.unpack(regions[column.name], notes)):
            if not np.isfinite(values).all():
                place = int(np.flatnonzero(~np.isfinite(values))[0])
                found[row] = (
                    f"{_where(regions, row, column, place, len(values))} has {values[place]:g} in {column.name}"
                )
    for row, features in enumerate(_features(regions, notes)):
        if (detail := vectors.unfit(features, config.features)) is not None:
            found[row] = detail
    return found


def _where(regions: pa.Table, row: int, column: Column, place: int, length: int) -> str:
    """Which region a number of a blob belongs to. The grid belongs to the whole image."""
    assert isinstance(column.type, Blob)
    if column.type.shape[0] != "num_regions":
        return "the image"
    return f"region {place * regions['num_regions'][row].as_py() // length}"


def _missing(curate: pa.Table, row: int, stages: Sequence[str]) -> Reject:
    return _reject(curate, row, "missing-input", f"no row for this image in {', '.join(stages)}; see their quarantine")


def _reject(table: pa.Table, row: int, reason: str, detail: str) -> Reject:
    (content,) = table.select(["image_id", "url", "captions"]).slice(row, 1).to_pylist()
    return Reject(content["image_id"].hex(), reason, detail, content)
