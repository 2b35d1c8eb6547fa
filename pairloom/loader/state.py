"""What a loader's state says beside its step: of which order of which rows the step is one."""

from __future__ import annotations

from collections.abc import Mapping

from pairloom.errors import ConfigError
from pairloom.loader import packing
from pairloom.loader.order import ENDS, random_number
from pairloom.loader.prepare import Prepare
from pairloom.store.folder import sha256_of


def order_of(prepare: Prepare) -> dict[str, int]:
    """Seed, batch size and end. 63 bits of the order's arithmetic, and 63 of the shards' SHA-256."""
    order = prepare.stream.fingerprint()
    if prepare.options.max_tokens is not None:
        order = random_number(order, prepare.options.max_tokens, packing.VERSION) >> 1
    entries = (entry for part in prepare.stream.parts for entry in part.shards)
    return {
        "seed": prepare.seed,
        "batch_size": prepare.steps.batch_size,
        "order": order,
        "shards": int(sha256_of(entries)[:16], 16) >> 1,
        "end": ENDS.index(prepare.steps.end),
    }


def refuse_other_order(state: Mapping[str, int], here: Mapping[str, int]) -> None:
    """Raises ConfigError if the state is one of another order."""
    known = [key for key in here if key in state]  # earlier releases knew neither shards nor end
    other = {key: (state[key], here[key]) for key in known if state[key] != here[key]}
    if other:
        raise ConfigError(
            f"the state belongs to another order: {', '.join(f'{k} {a}, here {b}' for k, (a, b) in other.items())}",
            where="the loader's state",
            fix="resume with the same shards, mixture, seed, batch_size, window and end, on any ranks and workers",
        )
