"""`pairloom import FEATURES --as LAYOUT`: what is done with region features that others extracted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from formats.features import names
from pairloom.errors import ConfigError
from pairloom.store import afar
from pipeline.verbs.common import Outcome, local

ROWS_PER_SHARD = 256  # a hundred regions of 2,048 float32 each are 200 MB
SHARDS = ("curate", "tags", "negatives", "shards")  # the stages that are left once regions are there


def add_options(verb: argparse.ArgumentParser) -> None:
    """Those of `pairloom import` that are of features alone."""
    group = verb.add_argument_group("features of regions, --as " + ", ".join(names()))
    group.add_argument("--captions", type=local, help="COCO's or Karpathy's JSON, or a list with image_id and caption")
    group.add_argument("--captions-as", metavar="FORMAT", help="flickr30k, vg, … where --captions are of a data set")
    group.add_argument("--image-col", default="image_id", help="the list's column of pictures' keys")
    group.add_argument(
        "--objects", type=local, help="names of classes, a line each (default: objects_vocab.txt beside)"
    )
    group.add_argument("--attributes", type=local, help="names of attributes (default: attributes_vocab.txt beside)")
    group.add_argument("--floats", choices=("float16", "float32", "float64"), default="float32", help="of base64")
    group.add_argument("--class-probs", type=int, help="most probable classes kept of each region (default: all)")
    group.add_argument("--shards", action="store_true", help="go on to shards: curate, tags, negatives, shards")


def take(arguments: argparse.Namespace) -> Outcome:
    """The tables, and with --shards all that comes after them."""
    from pipeline.features import incoming, joining

    afar.refresh_all(arguments.out)
    asked = asked_of(arguments)
    joined = joining.joins(arguments.out)
    if joined and arguments.captions:
        what = "this dataset has pictures with captions already"
        raise ConfigError(what, f"--out {arguments.out}", "leave --captions out, or name another folder")
    taken = (joining if joined else incoming).take(asked)
    facts = {
        "images": taken.images,
        "captions": taken.captions,
        "rejected": taken.rejected,
        "shards": taken.shards,
        "feature_width": taken.form.feature_width,
        "feature_dtype": taken.form.feature_dtype,
        "unknown": list(taken.form.unknown),
        **{name: str(path) for name, path in taken.tables.items()},
    }
    lines = [describe(taken)]
    if arguments.shards and (joined or asked.captions is not None):
        lines += go_on(arguments)
    return Outcome(facts, "\n".join(lines))


def asked_of(arguments: argparse.Namespace) -> Any:
    """What the command line says. Raises InputError where the captions or names can't be read."""
    from formats.features.lines import FLOATS
    from formats.features.record import Vocabularies
    from pipeline.features import incoming, words

    return incoming.Asked(
        layout=arguments.format,
        path=Path(arguments.data),
        out=arguments.out,
        source=arguments.name or arguments.format,
        captions=_captions(arguments),
        captions_from=str(arguments.captions or ""),
        floats=FLOATS[arguments.floats],
        prob_width=arguments.class_probs,
        words=Vocabularies(
            classes=words.read(arguments.objects) if arguments.objects else (),
            attributes=words.read(arguments.attributes) if arguments.attributes else (),
        ),
        rows_per_shard=arguments.rows_per_shard or ROWS_PER_SHARD,
        redo=arguments.redo,
        quiet=arguments.quiet,
    )


def _captions(arguments: argparse.Namespace) -> Any:
    """Those that are named. None where none are."""
    from formats.features import captions
    from formats.lists.captions import Columns

    if not arguments.captions:
        return None
    if arguments.captions_as:
        return captions.of_dataset(arguments.captions, arguments.captions_as)
    columns = Columns(image_id=arguments.image_col, caption=arguments.caption_col or "caption")
    return captions.read(arguments.captions, columns)


def describe(taken: Any) -> str:
    reasons = ", ".join(f"{reason} {count}" for reason, count in taken.rejected.items())
    left = f", {sum(taken.rejected.values())} in quarantine ({reasons})" if taken.rejected else ""
    unknown = f"; the files do not say {', '.join(taken.form.unknown)}" if taken.form.unknown else ""
    kind = {"<f2": "float16", "<f4": "float32"}[taken.form.feature_dtype]
    return (
        f"import: {taken.images} pictures with {taken.captions} captions{left}; "
        f"features of {taken.form.feature_width} {kind}{unknown}\n"
        + "\n".join(f"{name}: {path}" for name, path in taken.tables.items())
    )


def go_on(arguments: argparse.Namespace) -> list[str]:
    """The stages after the regions. What --params and --set do not say has its default."""
    from pipeline.cards import one_thread_a_worker
    from pipeline.config import RunConfig
    from pipeline.executor import Options, run_stage
    from pipeline.params import Params, check_sections, read_params, with_settings
    from pipeline.verbs.dataset import describe as describe_stage

    one_thread_a_worker()
    out = arguments.out
    params = read_params(arguments.params) if arguments.params else Params({}, "the command line")
    params = params.with_section("shards", **{"features": stored_as(out), **params.section("shards")})
    params = with_settings(params, arguments.settings)
    check_sections(params)
    options = Options(RunConfig(cluster="inline"), arguments.redo, arguments.quiet)
    done = [run_stage(name, params.of_stage(name), out, options) for name in SHARDS]
    return [*map(describe_stage, done), f"shards: {out / 'shards'}"]


def stored_as(out: Path) -> str:
    """The type in which the regions' features lie: shards keep it, so that no bit is lost."""
    from pairloom.layout import FEATURE_DTYPE
    from pairloom.store.folder import open_folder

    folder = open_folder(out / "regions")
    return {"<f2": "float16", "<f4": "float32"}[folder.metadata(folder.shards[0].name)[FEATURE_DTYPE]]
