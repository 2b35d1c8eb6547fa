"""What a loader opens and checks before its first batch: rows, tokenizer, columns, budget, and where it runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xxhash
from torch.utils.data import get_worker_info

from pairloom.errors import ConfigError
from pairloom.loader import tokenizer as tokenizers
from pairloom.loader.columns import ColumnMake
from pairloom.loader.drawing import Draw
from pairloom.loader.needs import check_columns
from pairloom.loader.options import Options
from pairloom.loader.plan import Plan
from pairloom.loader.reading import Clock
from pairloom.loader.rows import KEPT_FROM, Rows, open_rows
from pairloom.loader.tokenizer import Tokenizer
from pairloom.store.folder import sha256_of
from pairloom.store.kept import kept

SAMPLED = 1024  # row groups, evenly spread, whose captions a tokenizer is trained on: some hundred thousand captions


def refuse_data_loader() -> None:
    """Raise ConfigError in a worker of torch's DataLoader: each of several would give every batch."""
    inside = get_worker_info()
    if inside is not None and inside.num_workers > 1:
        what = f"it is iterated in {inside.num_workers} workers of a torch DataLoader, which give every batch each"
        raise ConfigError(what, "the loader", "iterate it itself; Loader(..., workers=N) has processes of its own")


def opened_rows(
    shards: Path | str | Rows,
    columns: tuple[str, ...],
    languages: tuple[str, ...],
    options: Options,
    draw: tuple[Draw, ...] = (),
) -> Rows:
    """The rows of a folder, or rows that are open already, to be read from their beginning."""
    columns = tuple(dict.fromkeys(columns))
    skip = options.on_damage == "skip"
    if isinstance(shards, Rows):
        check_columns(shards.source, shards.shards[0], columns, shards.metadata)
        return replace(
            shards, columns=columns, captions=options.captions, skip=skip, clock=Clock(), _readers={}, _open={}
        )
    return open_rows(shards, options.split, columns, languages, options, draw)


def column_make(columns: Sequence[str], options: Options) -> ColumnMake:
    """Raises ConfigError where no column is named, or an option needs a plan."""
    if not columns:
        raise ConfigError("neither a plan nor columns are given", "the loader", "pass a recipe, or columns=(...)")
    if isinstance(columns, str):
        raise ConfigError(f"columns is the text {columns!r}", "the loader", f"pass columns=({columns!r},)")
    if options.max_tokens is not None or options.texts is not None:
        raise ConfigError("max_tokens and texts need tokens", "the loader of columns", "leave them out, or pass a plan")
    if options.strings:
        raise ConfigError(f"strings is {options.strings}", "the loader of columns", "name them among the columns")
    return ColumnMake(tuple(columns))


def trained_tokenizer(parts: Sequence[Rows], plan: Plan, options: Options) -> Tokenizer:
    """The plan's tokenizer, trained on captions of SAMPLED row groups of each folder at most. Kept for large ones."""
    alone = options.texts.all(SAMPLED) if options.texts else ()

    def train() -> Tokenizer:
        return tokenizers.train(itertools.chain(*(part.texts(SAMPLED) for part in parts), alone), plan.text)

    if max(len(part.shards) for part in parts) < KEPT_FROM:
        return train()
    read = [(sha256_of(part.shards), part.languages, "qa" in part.columns, part.draw) for part in parts]
    others = options.texts and (options.texts.sha256, options.texts.languages)
    key = xxhash.xxh3_128_hexdigest(repr((read, others, plan.text, SAMPLED, tokenizers.VERSION)).encode())
    content = kept(parts[0].source.beside / f"tokenizer-{key}", lambda: train().backend.to_str().encode())
    return tokenizers.of_json(content.decode(), plan.text)


def fewest_rows(options: Options, plan: Plan, ranks: int) -> int:
    """Rows that a batch of so many tokens has in any case: half as many as fit, were all as long as can be.

    It does not depend on the ranks. Raises ConfigError where these are more.
    """
    if options.max_tokens is None:
        return 1
    most = getattr(plan.units.module, "most", None)  # pixels have none
    longest = plan.text.max_tokens + (0 if most is None else most(plan.units.settings))
    if options.max_tokens < 2 * ranks * longest or options.end != "join":
        raise ConfigError(
            f"max_tokens is {options.max_tokens} and end {options.end}",
            where=f"the loader of {ranks} ranks, with rows of up to {longest} tokens",
            fix=f"set max_tokens from {2 * ranks * longest} on (it counts all ranks), and end to join",
        )
    return options.max_tokens // longest // 2


def refuse_resizing(plan: Plan, options: Options) -> None:
    """Raises ConfigError where the device is to resize pictures, and the plan has none or reads their pixels."""
    if options.resize == "loader":
        return
    where, fix = "the loader's resize: device", "set resize to loader"
    if not hasattr(plan.units.module, "load_unresized"):
        raise ConfigError(f"recipe {plan.name} has no pictures that could be resized", where, fix)
    parts = {name: part for step in plan.steps().values() for name, part in step.items()}
    readers = [name for name, part in parts.items() if getattr(part.module, "READS_PIXELS", False)]
    if readers:
        what = f"objective {readers[0]} of recipe {plan.name} works with pixels before a batch is made"
        raise ConfigError(what, where, fix)
