"""`pairloom checkpoint`: what training wrote, for other programs."""

from __future__ import annotations

import argparse
from typing import Any

from pairloom.errors import InputError
from pipeline.verbs.common import Outcome, add_verb, local


def add(verbs: Any) -> None:
    group = verbs.add_parser(
        "checkpoint",
        help="write a checkpoint for other programs",
        description="what training wrote, for other programs",
    )
    group = group.add_subparsers(required=True, metavar="COMMAND")
    verb = add_verb(
        group,
        "convert",
        convert,
        "write a checkpoint as the same model is published: a folder of transformers, or safetensors by its names",
        "pairloom checkpoint convert models/vilt vilt-transformers",
    )
    verb.add_argument("checkpoint", type=local, help="folder that training wrote")
    verb.add_argument("out", type=local, help="folder to write, new or empty")
    verb.add_argument(
        "--as", dest="layout", help="a layout of the recipe's model, such as BERT (default: the whole model's)"
    )
    verb.add_argument("--beside", type=local, help="folder of your own modules, where the recipe names any")


def convert(arguments: argparse.Namespace) -> Outcome:
    """Tells what has no place in the layout. Nothing is left out without a word."""
    from systems import checkpoints, exporting

    if arguments.out.exists() and (not arguments.out.is_dir() or any(arguments.out.iterdir())):
        raise InputError("there is something there", str(arguments.out), "name a folder that is new or empty")
    learner, tokenizer = checkpoints.load(arguments.checkpoint, arguments.beside)
    written = exporting.convert(learner, tokenizer, arguments.out, arguments.layout)
    given = written.given
    facts = {
        "layout": written.layout,
        "transformers": written.read_by,
        "tensors": {name: list(ours) for name, ours in given.sources.items()},
        "no_place": list(given.left_over),
        "differing": list(given.unequal),
    }
    return Outcome(facts, "\n".join(exporting.told(written)))
