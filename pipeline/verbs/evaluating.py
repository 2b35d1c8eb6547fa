"""`pairloom evaluate`: a checkpoint on a test of papers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairloom.errors import ConfigError, InputError
from pipeline.advice import advised
from pipeline.progress import Progress
from pipeline.verbs.common import Outcome, add_verb, local, shards_place

if TYPE_CHECKING:  # the command line should not take the seconds that torch does
    from evaluation.gallery import Gallery
    from trainer.learner import Learner

TASKS = ("retrieval", "zeroshot", "winoground", "sugarcrepe", "vqa", "nlvr2", "refcoco")
FROM_FILES = ("winoground", "sugarcrepe", "nlvr2", "refcoco")
TEMPLATE = "a photo of a {}."  # CLIP's


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "evaluate",
        evaluate,
        "test a checkpoint as papers do: retrieval, zero-shot classes, Winoground, SugarCrepe, VQA, NLVR2, RefCOCO",
        "pairloom evaluate models/clip --task retrieval --shards data/shards --split test",
    )
    add_shared(verb, TASKS)
    verb.add_argument("--split", default="test", help="of the shards (default: test)")
    verb.add_argument(
        "--file", type=local, action="append", help="the test's own file; SugarCrepe's several: repeat the option"
    )
    add_referring(verb)
    verb.add_argument("--max-images", type=int, help="of the split, the first ones (default: all)")
    verb.add_argument("--captions-each", type=int, help="of an image, the first ones (default: all; papers: 5)")
    verb.add_argument("--fold", type=int, default=1000, help="retrieval: images of a fold (default: 1000)")
    verb.add_argument(
        "--folds-only", action="store_true", help="retrieval: score nothing across folds, which is less work"
    )
    verb.add_argument(
        "--shortlist", type=int, metavar="K", help="retrieval: score the K best of another checkpoint alone"
    )
    verb.add_argument("--shortlist-by", type=local, metavar="CHECKPOINT", help="that checkpoint: a dual encoder")
    verb.add_argument("--classes", type=local, help="zeroshot: a class a line")
    verb.add_argument("--templates", type=local, help=f"zeroshot: a text with {{}} a line (default: {TEMPLATE})")
    verb.add_argument("--label", default="label", help="zeroshot: key of `extra` with the class (default: label)")
    verb.add_argument("--metrics", type=local, help="a JSON file for the figures")


def add_referring(verb: argparse.ArgumentParser, part: str | None = None) -> None:
    default = "" if part is None else f" (default: {part})"
    verb.add_argument("--part", default=part, help=f"refcoco: of a published pickle, such as testA{default}")
    verb.add_argument("--instances", type=local, help="refcoco: its boxes (default: instances.json beside the pickle)")


def referring(arguments: argparse.Namespace, part: str | None) -> list[Any]:
    """What reads a file of refcoco beside its path and match."""
    from evaluation.referring import Published

    return [Published(arguments.instances, part)] if arguments.task == "refcoco" else []


def add_shared(verb: argparse.ArgumentParser, tasks: tuple[str, ...]) -> None:
    verb.add_argument("checkpoint", type=local, help="folder that training wrote")
    verb.add_argument("--task", required=True, choices=tasks)
    verb.add_argument(
        "--shards",
        type=shards_place,
        default=Path("data/shards"),
        help="folder of shards, or an address (default: data/shards)",
    )
    verb.add_argument(
        "--match",
        default="url",
        help="what a file calls an image: url (the name in it), or a key of `extra` (default: url)",
    )
    verb.add_argument("--beside", type=local, help="folder of your own modules, where the recipe names any")
    verb.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def evaluate(arguments: argparse.Namespace) -> Outcome:
    """The figures of one test, with what chance gives."""
    from evaluation.gallery import columns_of, open_gallery
    from systems import checkpoints
    from trainer.loop import pick_device

    check_files(arguments, several=arguments.task == "sugarcrepe")
    for name in ("max_images", "captions_each", "fold", "shortlist"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise ConfigError(f"{name} is {value}", f"--{name.replace('_', '-')}", "set 1 or more")
    _check_shortlist(arguments)
    learner, tokenizer = checkpoints.load(arguments.checkpoint, arguments.beside)
    beside = {"zeroshot": ("extra",), "vqa": ("qa",), "retrieval": ()}.get(arguments.task)
    gallery = open_gallery(
        arguments.shards,
        arguments.split,
        learner.recipe,
        tokenizer,
        beside=columns_of(arguments.match) if beside is None else beside,
        most=arguments.max_images,
        captions_each=arguments.captions_each,
    )
    found = _test(arguments, learner.to(pick_device(arguments.device)), gallery)
    facts = {"checkpoint": str(arguments.checkpoint), "task": arguments.task, "split": arguments.split, **found}
    if arguments.metrics is not None:
        arguments.metrics.parent.mkdir(parents=True, exist_ok=True)
        arguments.metrics.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return Outcome(facts, "\n".join(lines(found)))


def _check_shortlist(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for half of what a shortlist needs, and for one of another task."""
    asked = [name for name in ("shortlist", "shortlist_by") if getattr(arguments, name) is not None]
    if asked and arguments.task != "retrieval":
        raise ConfigError(f"task {arguments.task} has no shortlist", "--shortlist", "leave it out")
    if len(asked) == 1:
        fix = "give --shortlist K and --shortlist-by CHECKPOINT together"
        raise ConfigError("a shortlist needs its length and a dual encoder", f"--{asked[0].replace('_', '-')}", fix)


def _first(arguments: argparse.Namespace) -> Any:
    """The dual encoder that makes shortlists."""
    from evaluation.gallery import open_gallery
    from evaluation.shortlist import First
    from systems import checkpoints
    from trainer.loop import pick_device

    learner, tokenizer = checkpoints.load(arguments.shortlist_by, arguments.beside)
    most, each = arguments.max_images, arguments.captions_each
    gallery = open_gallery(arguments.shards, arguments.split, learner.recipe, tokenizer, most=most, captions_each=each)
    return First(learner.to(pick_device(arguments.device)), gallery, arguments.shortlist)


def check_files(arguments: argparse.Namespace, several: bool = False) -> None:
    """Raises ConfigError where a task lacks its file, before a model is opened."""
    given = arguments.file or []
    if arguments.task in FROM_FILES and not given:
        raise ConfigError(f"task {arguments.task} reads a file, and none is named", "--file", "name the test's file")
    if isinstance(given, list) and len(given) > 1 and not several:
        raise ConfigError(f"--file is given {len(given)} times", "--file", f"name one for {arguments.task}")


def _test(arguments: argparse.Namespace, learner: Learner, gallery: Gallery) -> dict[str, Any]:
    from evaluation import answering, examples, matching, records, shortlist

    task, files, match = arguments.task, arguments.file, arguments.match

    def counted(total: int, unit: str, test: Callable[..., dict[str, Any]], *further: Any) -> dict[str, Any]:
        with Progress(f"evaluate {task}", total, unit, arguments.quiet) as progress, advised():
            return test(learner, gallery, *further, advance=progress.advance)

    if task == "retrieval" and arguments.shortlist is not None:
        further = _first(arguments), arguments.fold, arguments.folds_only
        return counted(len(gallery), "images", shortlist.retrieval, *further)
    if task == "retrieval":
        return counted(len(gallery), "images", matching.retrieval, arguments.fold, arguments.folds_only)
    if task == "zeroshot":
        if arguments.classes is None:
            raise ConfigError("task zeroshot compares named classes", "--classes", "name a file with a class a line")
        classes = _text_lines(arguments.classes)
        templates = _text_lines(arguments.templates) if arguments.templates else [TEMPLATE]
        if without := [template for template in templates if "{}" not in template]:
            raise InputError(f"no {{}} in {without[0]!r}", str(arguments.templates), "write {} where the class stands")
        return counted(len(gallery), "images", matching.zeroshot, classes, templates, gallery.labels(arguments.label))
    if task == "winoground":
        sets = records.quads(files[0])
        return counted(len(sets), "sets", matching.winoground, sets, match)
    if task == "sugarcrepe":
        pairs = {file.stem: records.pairs(file) for file in files}
        return counted(sum(map(len, pairs.values())), "pairs", matching.sugarcrepe, pairs, match)
    if task == "vqa":
        asked = examples.of_vqa(gallery)
        return counted(len(asked), "questions", answering.vqa, asked)
    read, test = {
        "nlvr2": (examples.of_nlvr2, answering.nlvr2),
        "refcoco": (examples.of_refcoco, answering.refcoco),
    }[task]
    found = read(gallery, files[0], match, *referring(arguments, arguments.part))
    return counted(len(found), "examples", test, found)


def _text_lines(path: Path) -> list[str]:
    """The lines that say something. Raises InputError."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"it cannot be read: {error}", str(path), "check the path") from error
    if not found or len(set(found)) < len(found):
        raise InputError("it is empty" if not found else "a line is there twice", str(path), "write each once, a line")
    return found


def lines(found: dict[str, Any], indent: str = "") -> list[str]:
    """Figures for people, a line each, shares in percent."""
    told = []
    for name, value in found.items():
        if isinstance(value, dict):
            told += [f"{indent}{name}", *lines(value, indent + "  ")]
        elif isinstance(value, float) and "rank" not in name and "sum" not in name:
            told.append(f"{indent}{name:20} {100 * value:.2f} %")
        elif value is not None:
            told.append(f"{indent}{name:20} {value:.3f}" if isinstance(value, float) else f"{indent}{name:20} {value}")
    return told
