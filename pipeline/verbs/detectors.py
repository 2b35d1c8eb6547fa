"""`pairloom detector add`, `list`, `show` and `verify`: the published detectors, and the weights that a user has."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, InputError
from pairloom.typed import build
from pipeline.verbs.common import Outcome, add_selection_options, add_verb, local, selection_options

AGREES = 0.98  # share of regions that must be found again and agree in each column


def add(verbs: Any) -> None:
    group = verbs.add_parser("detector", help="published detectors: add their weights, list, show, verify")
    kinds = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    verb = add_verb(
        kinds,
        "add",
        add_file,
        "convert a published checkpoint, once, for `regions.detector` and `pairloom extract`",
        "pairloom detector add butd-r101 resnet101_faster_rcnn_final.caffemodel --objects objects_vocab.txt",
    )
    verb.add_argument("name", help="a detector of `pairloom detector list`, a .yaml file, or detectron2:CONFIG")
    verb.add_argument("file", type=local, help="the checkpoint as published")
    verb.add_argument("--objects", type=local, help="class names (default: the published file beside the checkpoint)")
    verb.add_argument("--attributes", type=local, help="attribute names (default: the same)")
    add_verb(kinds, "list", list_all, "list every detector, and which have weights here", "pairloom detector list")
    verb = add_verb(
        kinds, "show", show, "show one detector: files, addresses, rules", "pairloom detector show vinvl-x152c4"
    )
    verb.add_argument("name")
    verb = add_verb(
        kinds,
        "verify",
        verify,
        "check the stored weights, and with --golden compare with what the original code wrote",
        "pairloom detector verify butd-r101 --golden features/ --pictures val2014/",
    )
    verb.add_argument("name")
    verb.add_argument("--golden", type=local, help="folder of .tsv (BUTD, LXMERT) or .npz (MILVLG) files")
    verb.add_argument("--pictures", type=local, help="folder of the pictures (default: that of --golden)")
    add_selection_options(verb)
    verb.add_argument("--limit", type=int, default=20, help="pictures to compare (default: 20)")
    verb.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, … (default: cuda where there is one)")


def add_file(arguments: argparse.Namespace) -> Outcome:
    """Convert a published checkpoint."""
    from stages.regions.importing import adding

    print(f"reading {arguments.file} …", file=sys.stderr)
    spec = _published(arguments.name)
    asked = str(Path(arguments.name).resolve()) if arguments.name.endswith((".yaml", ".yml")) else arguments.name
    stored = adding.add(spec, arguments.file, arguments.objects, arguments.attributes, asked)
    facts = _stored_facts(stored) | {"detector": spec.name, "path": str(stored.path)}
    text = f"{spec.name}: {stored.source} ({stored.layout}) is now {stored.path}"
    if not stored.named:
        usual = ", ".join(dict.fromkeys(filter(None, (spec.vocabulary.objects, spec.vocabulary.attributes))))
        text += f"\nWithout {usual} its classes have numbers for names; add it again with --objects and --attributes."
    return Outcome(facts, text)


def list_all(arguments: argparse.Namespace) -> Outcome:
    """Every detector of the catalogue, and the user's own: those with weights here, and files of the working folder."""
    from stages.regions import catalogue
    from stages.regions.published import store

    rows = [_row(name) for name in (*catalogue.names(), *_own())]
    width = max(len(str(row["name"])) for row in rows)
    lines = [f"{row['name']:{width}}  {'ready' if row['ready'] else '-':5}  {row['about']}" for row in rows]
    lines.append(f"{'detectron2:CONFIG':{width}}  {'':5}  a Faster or Mask R-CNN of detectron2's model zoo")
    return Outcome({"detectors": rows, "folder": str(store.folder())}, "\n".join(lines))


def _row(name: str) -> dict[str, Any]:
    """What the list says of a detector. One whose settings cannot be loaded is not ready, and says why."""
    from stages.regions import catalogue
    from stages.regions.published import store
    from stages.regions.published.settings import FasterRCNN

    shown = os.path.relpath(name) if Path(name).parent == Path.cwd() else name
    try:
        if name.endswith(".safetensors"):
            store.read(Path(name), with_tensors=False)
        spec = catalogue.load(name)
        path = store.file(spec.name)
        source = store.read(path, with_tensors=False).source if path.is_file() else None
    except (ConfigError, InputError) as error:
        return {"name": shown, "about": f"not usable: {error.args[0]}", "ready": False, "source": None}
    if not isinstance(spec, FasterRCNN):
        return {"name": shown, "about": "comes with pairloom", "ready": True, "source": None}
    return {"name": shown, "about": spec.about, "ready": source is not None, "source": source}


def _own() -> list[str]:
    """The detectors that are not of the catalogue: paths of their settings, or detectron2:CONFIG."""
    from stages.regions import catalogue
    from stages.regions.published import store

    added = [_asked(path) for path in sorted(store.folder().glob("*.safetensors"))]
    here = [str(path.resolve()) for path in sorted(Path().glob("*.y*ml")) if catalogue.is_detector(path)]
    return [name for name in dict.fromkeys((*here, *added)) if name not in catalogue.names()]


def _asked(path: Path) -> str:
    """By which name the detector of a stored checkpoint is loaded. The file's own path where it is no checkpoint."""
    from stages.regions.published import store

    try:
        return store.read(path, with_tensors=False).asked
    except InputError:
        return str(path)


def show(arguments: argparse.Namespace) -> Outcome:
    """One detector."""
    import yaml

    from stages.regions import catalogue
    from stages.regions.published import store

    spec = catalogue.load(arguments.name)
    path = store.file(spec.name)
    stored = store.read(path, with_tensors=False) if path.is_file() else None
    facts = asdict(spec) | {"weights": _stored_facts(stored) | {"path": str(path)} if stored else None}
    text = yaml.safe_dump(_plain(facts), sort_keys=False, allow_unicode=True, width=120).rstrip()
    return Outcome(facts, text)


def verify(arguments: argparse.Namespace) -> Outcome:
    """Check a detector's weights, or its regions against the original code's."""
    from stages.regions import Config, setup

    section = {"detector": arguments.name, "faithful": True, "feature_dtype": "float32", "class_probs": "none"}
    section |= selection_options(arguments) | {"device": arguments.device}
    config = build(Config, section, "the command line")
    engine = setup(config, Path()).engine
    if arguments.golden is None:
        return _verify_weights(arguments.name, engine)
    return _verify_golden(arguments, engine)


def _verify_weights(name: str, engine: Any) -> Outcome:
    """Every tensor is there and finite (or it would not have opened), and a picture of noise gives finite values."""
    import numpy as np
    from PIL import Image

    from stages.regions.extract import extract_one
    from stages.regions.stored import bad_value

    noise = np.random.default_rng(0).integers(0, 256, (8, 10, 3), np.uint8)
    seen = extract_one(Image.fromarray(noise).resize((320, 256)), engine)
    problem = bad_value(seen, "<f4")
    facts = {"detector": name, "checkpoint": engine.network.sha256, "regions": len(seen.boxes), "problem": problem}
    text = problem or f"{name}: weights are whole, {len(seen.boxes)} finite regions on a picture of noise"
    return Outcome(facts, text, exit_code=1 if problem else 0)


def _verify_golden(arguments: argparse.Namespace, engine: Any) -> Outcome:
    from inspection.agreement import columns, differences

    found, regions, names = [], 0, []
    for golden, ours in _compared(arguments, engine):
        found.append(differences(golden, ours))
        regions += len(golden.boxes)
        names.append(golden.image_id)
        print(f"{len(names)}: {golden.image_id}", file=sys.stderr)
    table = columns(found)
    matched = len(found[0]["rows"]) if len(found) == 1 else sum(len(each["rows"]) for each in found)
    share = matched / regions if regions else 0.0
    good = share >= AGREES and all(column.equal >= AGREES for column in table)
    lines = [f"{arguments.name}: {matched} of {regions} regions of {len(names)} pictures found again"]
    lines += [f"{'column':12} {'regions':>8} {'equal':>8} {'mean diff':>12} {'largest':>12}"]
    lines += [f"{c.name:12} {c.regions:8} {c.equal:8.1%} {c.mean:12.6g} {c.largest:12.6g}" for c in table]
    lines += ["agrees" if good else "does not agree: check --selection, the file, and docs/reference/detectors.md"]
    facts = {"pictures": names, "regions": regions, "matched": matched, "columns": [asdict(each) for each in table]}
    return Outcome(facts | {"agrees": good}, "\n".join(lines), exit_code=0 if good else 1)


def _compared(arguments: argparse.Namespace, engine: Any) -> Iterator[tuple[Any, Any]]:
    """Each golden image with what the detector says about its picture."""
    from formats.golden import read
    from inspection.agreement import Ours
    from stages.regions.extract import extract_one
    from stages.regions.pictures import decode

    folder = arguments.pictures or arguments.golden
    pictures = {path.stem: path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES}
    numbered = {_number(stem): path for stem, path in pictures.items() if _number(stem) is not None}
    for count, golden in enumerate(read(arguments.golden)):
        if count == arguments.limit:
            return
        path = pictures.get(Path(golden.image_id).stem) or numbered.get(_number(golden.image_id))
        if path is None:
            raise InputError(
                f"there is no picture of image {golden.image_id}", where=str(folder), fix="name its folder (--pictures)"
            )
        seen = extract_one(decode(path.read_bytes()), engine)
        own = {"objects_id": seen.class_ids, "objects_conf": seen.class_scores}
        own |= {"attrs_id": seen.attribute_ids, "attrs_conf": seen.attribute_scores}
        yield golden, Ours(seen.boxes, seen.features, own)


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def _number(stem: str) -> int | None:
    """The number that COCO's file names end in, which BUTD's files have as image_id."""
    last = stem.rpartition("_")[2]
    return int(last) if last.isdecimal() else None


def _published(name: str) -> Any:
    from stages.regions import catalogue
    from stages.regions.published.settings import FasterRCNN

    spec = catalogue.load(name)
    if not isinstance(spec, FasterRCNN):
        raise ConfigError(
            f"detector {name} brings its own weights", where="detector add", fix="there is nothing to add"
        )
    return spec


def _stored_facts(stored: Any) -> dict[str, Any]:
    return {
        "source": stored.source,
        "source_sha256": stored.source_sha256,
        "layout": stored.layout,
        "classes": len(stored.classes),
        "attributes": len(stored.attributes),
        "named": stored.named,
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple | list) else value
