"""Stage `regions`: objects, attributes and features of each image, by a Faster R-CNN, best region first."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pyarrow as pa

from pairloom.errors import ConfigError
from pairloom.typed import Range, Share, check_ranges
from schemas.regions import REGIONS
from stages.contract import A_PATH, IS_PATH
from stages.pixels import stored_bytes
from stages.regions import catalogue
from stages.regions.numbers import Nms, applied
from stages.regions.select import POLICIES, Policy
from stages.rejects import Reject, quarantine

if TYPE_CHECKING:  # torch and detectron2 take seconds to import: only `setup` and `process` do
    from stages.regions.contract import Family, Network
    from stages.regions.extract import Engine
    from stages.regions.pictures import Unreadable
    from stages.regions.stored import StoredRegions

INPUTS = ("curate",)
OUTPUT = REGIONS
VERSION = 5
ASKED_BY = {"prob_": "regions.class_probs: 64"}
DTYPES = {"float16": "<f2", "float32": "<f4"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `regions` of params.yaml. docs/reference/regions.md says what each choice costs."""

    # a file of stages/regions/detectors
    detector: str = field(default="starter", metadata={IS_PATH: catalogue.is_own})
    # the detector's weights. Null is the file that comes with it
    checkpoint: str | None = field(default=None, metadata=A_PATH)
    selection: str | None = None  # a policy of stages/regions/select.py. Null is the detector's own
    faithful: bool = False  # keep the published code's oddities of that policy
    # kept even if their score is below min_score. Null is the detector's own, or max_regions if that is less
    min_regions: Annotated[int, Range(0, 100)] | None = None
    # kept, the best first. Null is the detector's own, or min_regions if that is more
    max_regions: Annotated[int, Range(1, 100)] | None = None
    min_score: Share | None = None  # detector confidence. Null is the detector's own
    # IoU above which the worse of two regions goes, or a list of steps for agnostic-stepped and detectron2. Null is the
    # detector's own
    nms: Nms = None
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"  # of the detector's arithmetic
    feature_dtype: Literal["float16", "float32"] = "float16"  # as which the features are stored
    # most probable classes kept. Null is the detector's own
    class_probs: Annotated[int, Range(1, 65535)] | Literal["full", "none"] | None = None
    proposals: bool = False  # keep the boxes that were pooled, before regression
    grid_side: Annotated[int, Range(0, 64)] = 0  # cells a side of the grid features of the whole image, 0 for none
    # pictures of one size detected at once. Null is 1 on a CPU, 4 on a GPU
    batch: Annotated[int, Range(1, 1024)] | None = None
    # threads that decode pictures. Null is 2, or 8 for a GPU
    threads: Annotated[int, Range(1, 256)] | None = field(default=None, metadata={"affects_output": False})
    device: str = "auto"  # cpu, cuda, cuda:1, …; auto is cuda where there is one

    def __post_init__(self) -> None:
        check_ranges(self)
        self.policy()  # which raises if the numbers do not fit each other

    def policy(self) -> Policy:
        """The selection, with what the detector's file and then this sets in place of its own numbers.

        The file's numbers are of its own selection: another one that is named here starts from its own.
        """
        entry = catalogue.load(self.detector)
        name = self.selection or entry.selection
        if name not in POLICIES:
            raise ConfigError(f"there is no selection {name!r}", "regions.selection", f"name one of {list(POLICIES)}")
        policy = replace(POLICIES[name], faithful=self.faithful)
        if name == entry.selection:
            policy = applied(policy, entry, f"detector {self.detector}")
        return applied(policy, self, "params.yaml, section regions")


@dataclass(frozen=True)
class Tools:
    """The loaded detector and what its shards say about themselves."""

    engine: Engine
    metadata: Mapping[str, str]


def checkpoint_file(config: Config) -> Path:
    """The weights that this configuration uses."""
    if config.checkpoint is not None:
        return Path(config.checkpoint)
    return family(config).checkpoint_file(catalogue.load(config.detector))


def family(config: Config) -> Family:
    """The module that knows this detector's family."""
    module: Any = importlib.import_module(f"stages.regions.{catalogue.load(config.detector).family}")
    found: Family = module
    return found


def resources(config: Config) -> tuple[Path, ...]:
    """The files that decide the result: the detector's settings, its checkpoint, and what its family adds."""
    spec = catalogue.load(config.detector)
    return (*catalogue.files(config.detector), *family(config).files(spec, checkpoint_file(config)))


def wants_gpu(config: Config) -> bool:
    """Unless the settings say that it computes on the CPU."""
    return config.device != "cpu"


def setup(config: Config, folder: Path) -> Tools:
    """Load the detector. Raises InputError when its checkpoint is missing or does not fit."""
    spec = catalogue.load(config.detector)
    network: Network = family(config).load(spec, checkpoint_file(config))
    return tools_of(network, spec.name, config, spec.prob_width)


def tools_of(network: Network, name: str, config: Config, prob_width: int) -> Tools:
    """The tools around a loaded network. `prob_width` is what class_probs null stands for."""
    from stages.regions.extract import Engine
    from stages.regions.stored import Storage

    placed = device(config.device)
    network.place(placed, config.precision)
    chosen = prob_width if config.class_probs is None else config.class_probs
    widths = {"full": len(network.classes), "none": 0}
    width = min(widths[chosen] if isinstance(chosen, str) else chosen, len(network.classes))
    storage = Storage(width, DTYPES[config.feature_dtype], config.proposals, config.grid_side)
    policy, gpu = config.policy(), placed.startswith("cuda")
    batch, threads = config.batch or (4 if gpu else 1), config.threads or (8 if gpu else 2)
    notes = {
        "detector": name,
        "checkpoint": network.sha256,
        "selection": config.selection or catalogue.load(config.detector).selection,
        "precision": config.precision,
        "order": "published" if policy.faithful and policy.argmax_class else "score",
        "feature_width": str(network.feature_width),
        "feature_dtype": storage.feature_dtype,
        "prob_width": str(width),
        "grid_side": str(config.grid_side),
        "grid_dtype": storage.feature_dtype,
        "classes": json.dumps(network.classes),
        "attributes": json.dumps(network.attributes),
    }
    return Tools(Engine(network, policy, storage, placed, batch, threads), notes)


def device(name: str) -> str:
    """The torch device of this name. Raises ConfigError if it is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"regions.device is {name!r}: {str(error).splitlines()[0]}", where="params.yaml", fix="set auto or cpu"
        ) from error
    return name


def process(pairs: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """Each image's regions, in the order of the input. What cannot be read, found or stored is left out by name."""
    rows = pairs.select(["image_id", "url", "source"]).to_pylist()
    return look(rows, [partial(stored_bytes, image) for image in pairs["image"]], tools)


def look(
    rows: Sequence[dict[str, Any]], bodies: Sequence[Callable[[], bytes]], tools: Tools
) -> tuple[pa.Table, pa.Table]:
    """Table and rejects for these rows (image_id, source), whose pictures' bytes `bodies` read or raise OSError."""
    from stages.regions.extract import extract
    from stages.regions.stored import as_columns

    kept: list[tuple[dict[str, Any], StoredRegions]] = []
    rejects: list[Reject] = []
    for row, seen in zip(rows, extract(bodies, tools.engine), strict=True):
        problem = why_not(seen, tools)
        if problem:
            rejects.append(Reject(row["image_id"].hex(), *problem, row))
        else:
            kept.append((row, seen))  # type: ignore[arg-type]  # what is unreadable has a problem
    columns = as_columns([regions for _, regions in kept], tools.engine.storage.feature_dtype)
    own = {name: [row[name] for row, _ in kept] for name in ("image_id", "source")}
    return REGIONS.table(metadata=tools.metadata, **own, **columns), quarantine("regions", rejects)


def why_not(seen: StoredRegions | Unreadable, tools: Tools) -> tuple[str, str] | None:
    """(reason, detail) for the quarantine, if this picture's row cannot be stored."""
    from stages.regions.pictures import Unreadable
    from stages.regions.stored import bad_value

    if isinstance(seen, Unreadable):
        return seen.reason, seen.detail
    if not len(seen.boxes):
        return "no-regions", f"none of the proposals passes selection {tools.metadata['selection']}"
    problem = bad_value(seen, tools.engine.storage.feature_dtype)
    return ("bad-value", problem) if problem else None
