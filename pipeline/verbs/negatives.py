"""`pairloom negatives`: hard negatives of a file of captions, or of tag sets, without images, a dataset or torch."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pairloom.errors import InputError, StoreError
from pairloom.store import afar
from pairloom.store.folder import open_folder, origin_of, read_shard
from pairloom.store.kept import fetch
from pairloom.store.names import shard_name
from pairloom.store.scratch import remove
from pairloom.store.writing import replace_text, write_shard
from pairloom.typed import build
from pipeline.progress import Progress
from pipeline.verbs.common import Outcome, add_verb, on_folder, place

if TYPE_CHECKING:
    from stages.negatives.beside import Beside
    from stages.negatives.standalone import Mined

# Readers of Parquet folders skip what begins with _.
SUMMARY = "_summary.json"  # written last: a folder without it is unfinished
SETTINGS = (
    *("scorer", "against", "distinct", "veto", "veto_similarity", "max_lists", "top_k", "ceiling", "floor"),
    *("min_df", "max_df", "unspaced"),
)
STARTED = "_started.json"  # written first, removed last: what a killed run was about


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "negatives",
        on_folder(negatives, "out", "tags", "score"),
        "mine hard negatives for a list of captions",
        "pairloom negatives captions.csv --out mined --top-k 30 --ceiling 0.5",
    )
    verb.add_argument(
        "captions",
        help="list with the columns image_id, caption and lang: csv, tsv, txt (a caption a line), json, jsonl or "
        "parquet, also .gz, .bz2, .xz or .zst; a folder of lists, or a path of fsspec such as s3://bucket/captions.csv",
    )
    verb.add_argument("--out", type=place, required=True, help="folder or address of the result; a row a caption")
    verb.add_argument("--scorer", help="tfidf (default), bm25, or embedding, which needs --score")
    verb.add_argument(
        "--against", help="image (default): the largest similarity to its captions, caption, or interbert"
    )
    verb.add_argument(
        "--distinct", action=argparse.BooleanOptionalAction, help="of equal texts a list has one (default), or all"
    )
    verb.add_argument(
        "--veto",
        type=_names,
        help="none (default), or leave out what the image's captions say, too (captions), what they and its tags say "
        "(tags, needs --tags), or what a model finds in the picture (score, needs --score), or several (tags,score)",
    )
    verb.add_argument("--veto-similarity", type=float, help="of picture and caption, above which --veto score takes it")
    verb.add_argument("--max-lists", type=int, help="in how many lists one caption may stand (default: any number)")
    verb.add_argument("--tags", type=place, help="folder of a table tags; its image_id is the list's, in hex if bytes")
    verb.add_argument("--score", type=place, help="folder of a table score with vectors, of the list's texts")
    verb.add_argument("--top-k", type=int, help="negatives for each caption (default: 30)")
    verb.add_argument("--ceiling", type=float, help="leave out similarities of this and above (default: 0.5)")
    verb.add_argument("--floor", type=float, help="leave out similarities of this and below (default: 0)")
    verb.add_argument("--min-df", type=_number, help="leave out terms of fewer captions; whole number or share")
    verb.add_argument("--max-df", type=_number, help="leave out terms of more captions; whole number or share")
    verb.add_argument(
        "--ngrams", type=int, nargs=2, metavar=("FROM", "TO"), help="terms are runs of FROM to TO words (default: 1 1)"
    )
    verb.add_argument("--unspaced", help="scripts without spaces: bigrams (default) or words")
    verb.add_argument(
        "--images", action="store_true", help="CAPTIONS is a table of tags; find the closest images of each"
    )
    verb.add_argument("--image-column", default="image_id")
    verb.add_argument("--caption-column", default="caption")
    verb.add_argument("--lang-column", default="lang")
    verb.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads (default: one for each core)")
    verb.add_argument(
        "--audit",
        type=int,
        metavar="N",
        help="then mine N of the captions by brute force with scikit-learn or rank-bm25",
    )
    verb.add_argument("--explain", metavar="IMAGE_ID", help="then say which words make this image's negatives similar")
    verb.add_argument("--redo", action="store_true", help="replace what is in the folder")
    verb.add_argument("--quiet", action="store_true", help="print progress as plain lines")


def _names(text: str) -> str | list[str]:
    return text.split(",") if "," in text else text


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def negatives(arguments: argparse.Namespace) -> Outcome:
    """Mine a file of captions."""
    from formats.lists.captions import Columns, read_captions
    from formats.lists.files import sha256
    from pipeline.verbs.negatives_beside import tables_beside
    from stages.negatives.rule import Config
    from stages.negatives.standalone import Mined
    from stages.negatives.summary import summarise

    given = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    given |= {"ngram_range": arguments.ngrams} if arguments.ngrams else {}
    config = build(Config, given, "pairloom negatives")
    start, threads = time.monotonic(), max(arguments.threads, 1)
    if arguments.images:
        from stages.negatives.hard_images import OF_SETS

        _clear(arguments.out, arguments.redo)
        return _hard_images(arguments, build(Config, OF_SETS | given, "pairloom negatives"))
    columns = Columns(image_id=arguments.image_column, caption=arguments.caption_column, lang=arguments.lang_column)
    listed = read_captions(arguments.captions, columns)
    beside = tables_beside(arguments.tags, arguments.score, listed.ids, listed.texts)
    tables = {name: _named(getattr(arguments, name)) for name in ("tags", "score") if getattr(arguments, name)}
    _begin(arguments, {"captions": sha256(arguments.captions), **tables, **asdict(columns), **asdict(config)})
    with Progress("negatives", len(listed.ids), "captions", plain=arguments.quiet) as progress:
        mined = Mined.of_columns(listed.ids, listed.texts, listed.langs, config, beside, threads)
        written = _written(mined, threads, arguments.out, progress)
        facts = summarise(written, lambda: map(read_shard, _files(arguments.out, mined)))
    facts = {"out": str(arguments.out), **facts, "seconds": round(time.monotonic() - start, 2)}
    content = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    replace_text(arguments.out / SUMMARY, content)
    remove(arguments.out / STARTED)
    text = f"{facts['captions']} captions, {facts['negatives']} negatives, {facts['short_share']:.1%} of captions short"
    told = Outcome(facts, f"{text}: {arguments.out}")
    told = _explained(mined, arguments, told) if arguments.explain is not None else told
    return _audited(mined, arguments, told, beside) if arguments.audit else told


def _named(table: Path) -> str:
    """As it was named: a folder may stand for an address."""
    origin = origin_of(table)
    return str(table) if origin is None else origin.where("")


def _files(out: Path, mined: Mined) -> list[Path]:
    return [out / f"{shard_name(number)}.parquet" for number, _ in enumerate(mined.cuts())]


def _explained(mined: Mined, arguments: argparse.Namespace, told: Outcome) -> Outcome:
    """The outcome with the negatives of one image, word by word. Raises InputError if the list has no such image."""
    from stages.negatives.explain import explain

    ids = pc.cast(mined.captions["image_id"], pa.string())
    rows = np.flatnonzero(pc.equal(ids, arguments.explain).to_numpy())
    if not len(rows):
        fix = f"name an image_id of the list, such as {ids[0].as_py()!r}" if len(ids) else "give a list with captions"
        raise InputError(f"no caption is of image {arguments.explain!r}", str(arguments.captions), fix)
    lists = _lists_of(mined, arguments.out, rows)
    found = list(explain(mined, arguments.explain, dict(zip(rows.tolist(), lists, strict=True))))
    lines = [
        f"caption {one.caption_index}: {one.negative!r} is {one.similarity:.3f} to caption {one.nearest}, by "
        + (", ".join(f"{word} {share:.3f}" for word, share in one.words) or "its vector")
        + ("" if one.picture is None else f", and {one.picture:.3f} to the picture")
        for one in found
    ]
    facts = {**told.facts, "explained": [asdict(one) for one in found]}
    return Outcome(facts, "\n".join([told.text, *lines]))


def _lists_of(mined: Mined, out: Path, chosen: npt.NDArray[np.int64]) -> list[Any]:
    """The lists of these rows of the captions, ascending, from the files that were written."""
    lists: list[Any] = []
    for file, rows in enumerate(mined.cuts()):
        here = chosen[(chosen >= rows.start) & (chosen < rows.stop)] - rows.start
        written = read_shard(out / f"{shard_name(file)}.parquet", ["negatives"])["negatives"]
        lists += written.take(pa.array(here)).to_pylist()
    return lists


def _audited(mined: Mined, arguments: argparse.Namespace, told: Outcome, beside: Beside) -> Outcome:
    """The outcome with what brute force says of some captions. Exit code 1 where it differs."""
    from stages.negatives.audit import audit

    number = len(mined.captions)
    chosen = np.sort(np.random.default_rng(0).permutation(number)[: arguments.audit])
    lists = _lists_of(mined, arguments.out, chosen)
    differing = audit(mined.captions, mined.config, chosen.tolist(), lists, beside)
    facts = {**told.facts, "audited": len(chosen), "differing": [asdict(one) for one in differing]}
    lines = [f"image {one.image_id}, caption {one.caption_index}: {one.said}" for one in differing]
    agree = f"{len(chosen) - len(differing)} of {len(chosen)} lists are those of brute force"
    return Outcome(facts, "\n".join([told.text, *lines, agree]), exit_code=1 if differing else 0)


def _hard_images(arguments: argparse.Namespace, config: Any) -> Outcome:
    """For each image of a table of tags the images whose tags are closest without being equal."""
    from stages.negatives.hard_images import hard_images

    tags = [table.select(["image_id", "tags"]) for _, table in open_folder(Path(arguments.captions)).tables()]
    with Progress("negatives", sum(map(len, tags)), "images", plain=arguments.quiet) as progress:
        found = hard_images(pa.concat_tables(tags), config, max(arguments.threads, 1))
        write_shard(arguments.out, "00000", found)
        progress.advance(len(found))
    facts = {
        "out": str(arguments.out),
        "images": len(found),
        "short": pc.sum(pc.greater(found["short"], 0)).as_py() or 0,
    }
    replace_text(arguments.out / SUMMARY, json.dumps(facts, indent=1) + "\n")
    return Outcome(facts, f"{facts['images']} images, {facts['short']} of them short: {arguments.out}")


def _begin(arguments: argparse.Namespace, about: dict[str, Any]) -> None:
    """Note what the run is about, so that a killed one resumes with the same and with nothing else."""
    note, content = arguments.out / STARTED, json.dumps(about, indent=1) + "\n"
    fetch(note)
    if arguments.redo or not note.exists():
        _clear(arguments.out, arguments.redo)
        replace_text(note, content)
    elif note.read_text(encoding="utf-8") != content:
        raise StoreError(
            "a run with other captions or settings was not finished here",
            str(note),
            "give the same ones to resume, name another folder with --out, or add --redo to start again",
        )


def _clear(out: Path, redo: bool) -> None:
    """An empty folder. Raises StoreError if there is something in it that must not be replaced."""
    out.mkdir(parents=True, exist_ok=True)
    there = afar.files(out)
    if there and not redo:
        raise StoreError("the folder is not empty", str(out), "name another with --out, or add --redo to replace it")
    for name in there:
        if name in (SUMMARY, STARTED) or name.endswith(".parquet"):
            remove(out / name)


def _written(mined: Mined, threads: int, out: Path, progress: Progress) -> Iterator[pa.Table]:
    """Each slice, from its file if a killed run wrote it, and otherwise after it has been written as a shard."""
    there = set(afar.files(out))
    for number, rows in enumerate(mined.cuts()):
        file = out / f"{shard_name(number)}.parquet"
        if file.name in there:
            table = read_shard(file)
        else:
            table = mined.slice(rows, threads)
            write_shard(out, file.stem, table)
        progress.advance(len(table))
        yield table
