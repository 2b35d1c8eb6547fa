"""Files of features to the tables `regions` and, with captions, `pairs`, one shard in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from formats import features
from formats.features.captions import Captions
from formats.features.keys import Seen
from formats.features.record import Bad, BrokenError, Record, Vocabularies
from formats.features.tables import Form, check, table_of, unknown_of
from formats.locators import is_name
from pairloom.errors import ConfigError, InputError, RunError
from pairloom.store.folder import Entry, Header, is_table, open_folder
from pairloom.store.names import shard_name
from pairloom.store.writing import Writer, only_writer, write_shard
from pipeline.features.bare import Row, image_id, pairs_of
from pipeline.features.words import words_for
from pipeline.fingerprints import refuse_mixture
from pipeline.planning import of_quarantine
from pipeline.progress import Progress
from pipeline.task import write_rejects
from schemas.pairs import PAIRS
from schemas.regions import REGIONS
from stages.rejects import Reject, quarantine

NAME = "import"  # of the stage in headers and quarantine
VERSION = 1
FLOATS = {"<f2": "<f2", "<f4": "<f4", "<f8": "<f4"}  # as which features of a type are stored


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an import was asked for."""

    layout: str
    path: Path
    out: Path
    source: str  # of the collection: with the key it makes an image's id
    captions: Captions | None = None  # None: the table regions alone
    captions_from: str = ""
    floats: str = "<f4"  # type of the files' numbers, where a layout does not say it
    prob_width: int | None = None  # most probable classes kept; None: all
    words: Vocabularies = field(default_factory=Vocabularies)  # given by the user. What is empty is looked for
    rows_per_shard: int = 256
    redo: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if not is_name(self.source):
            raise ConfigError(f"the collection's name is {self.source!r}", "--name", "take small letters, digits and -")

    def settings(self) -> dict[str, Any]:
        """What decides the tables."""
        files = [self.path] if self.path.is_file() else sorted(each for each in self.path.iterdir() if each.is_file())
        return {
            "layout": self.layout,
            "source": self.source,
            "captions": self.captions_from,
            "floats": self.floats,
            "prob_width": self.prob_width,
            "rows_per_shard": self.rows_per_shard,
            "bytes": sum(file.stat().st_size for file in files),
        }


@dataclass(frozen=True)
class Taken:
    """What an import did."""

    images: int
    captions: int
    rejected: dict[str, int]
    shards: int
    form: Form
    tables: dict[str, Path]


@dataclass
class _Tables:
    """The tables in the making. A shard that is there from a run that was interrupted is not written again."""

    regions: Writer
    pairs: Writer | None
    rejects: Writer
    counts: Counter[str] = field(default_factory=Counter)
    images: int = 0
    captions: int = 0

    @classmethod
    def open(cls, asked: Asked) -> _Tables:
        header = Header(REGIONS.name, REGIONS.version, NAME, VERSION, asked.settings(), pairloom=version("pairloom"))
        target = asked.out / "regions"
        if is_table(target) and not asked.redo:
            refuse_mixture(open_folder(target).header, header, target)
        of_pairs = replace(header, table=PAIRS.name, table_version=PAIRS.version)
        # beside the first of the tables, as any stage's. So what goes into `regions` is all that is in `pairs`
        folder = asked.out / "quarantine" / ("download" if asked.captions is not None else "regions")
        pairs = Writer.open(asked.out / "download", of_pairs) if asked.captions is not None else None
        found = cls(Writer.open(target, header), pairs, Writer.open(folder, of_quarantine(header)))
        kept = [] if asked.redo else [name for name in found.regions.done if pairs is None or name in pairs.done]
        for writer in found.writers():
            writer.begin([name for name in kept if name in writer.done])
        return found

    def writers(self) -> list[Writer]:
        return [writer for writer in (self.rejects, self.pairs, self.regions) if writer is not None]

    def write(self, rows: list[Row], bad: list[Bad], asked: Asked, form: Form) -> None:
        """One shard, and what was left out between its rows."""
        name = shard_name(len(self.seen))
        self.seen.append(name)
        self.images, self.captions = self.images + len(rows), self.captions + sum(len(said) for _, _, said in rows)
        self.counts.update(one.reason for one in bad)
        if name in self.regions.done:
            return
        reasons = dict(sorted(Counter(one.reason for one in bad).items()))
        left_out = quarantine(self.rejects.folder.name, map(reject_of, bad))
        entry = write_rejects(self.rejects.folder, name, left_out)
        if entry.rows:
            self.rejects.record(entry)
        made = replace(Entry(name, 0, 0, ""), rows_in=len(rows) + len(bad), rejected=reasons)
        if self.pairs is not None:
            pairs = write_shard(self.pairs.folder, name, pairs_of(rows, asked.source))
            self.pairs.record(replace(pairs, rows_in=made.rows_in, rejected=made.rejected))
        table = table_of([one for one, _, _ in rows], [image_id for _, image_id, _ in rows], form, asked.layout)
        regions = write_shard(self.regions.folder, name, table)
        of_regions = replace(made, rows_in=len(rows), rejected={}) if self.pairs is not None else made
        self.regions.record(replace(regions, rows_in=of_regions.rows_in, rejected=of_regions.rejected))

    def __post_init__(self) -> None:
        self.seen: list[str] = []


def _reject(one: Bad) -> Reject:
    return Reject(one.key or one.place, one.reason, one.detail, {"key": one.key, "place": one.place})


def reject_of(one: Bad) -> Reject:
    """A row of the quarantine for an entry of a file."""
    return Reject(one.key or one.place, one.reason, one.detail, {"key": one.key, "place": one.place})


def take(asked: Asked) -> Taken:
    """Make the tables. Raises InputError where the files can't be read, RunError where no picture is left."""
    layout = features.load(asked.layout)
    form = form_of(first_of(layout.read(asked.path, asked.floats), asked), asked)
    with only_writer(asked.out, NAME):
        tables = _Tables.open(asked)
        with Progress(NAME, None, "pictures", asked.quiet) as progress:
            rows: list[Row] = []
            bad_ones: list[Bad] = []
            for one in _joined(layout.read(asked.path, asked.floats), asked, form):
                (bad_ones if isinstance(one, Bad) else rows).append(one)  # type: ignore[arg-type]
                progress.advance(1)
                if len(rows) == asked.rows_per_shard:
                    tables.write(rows, bad_ones, asked, form)
                    rows, bad_ones = [], []
            if rows or bad_ones or not tables.seen:
                tables.write(rows, bad_ones, asked, form)
        for writer in tables.writers():
            writer.finish()
    if not tables.images:
        raise RunError(
            f"none of {sum(tables.counts.values())} entries became a picture: {dict(tables.counts)}",
            where=str(tables.rejects.folder),
            fix="see there why; do --captions name their pictures as the features do?",
        )
    made = {"regions": tables.regions.folder} | ({"pairs": tables.pairs.folder} if tables.pairs else {})
    return Taken(tables.images, tables.captions, dict(sorted(tables.counts.items())), len(tables.seen), form, made)


def first_of(found: Iterator[Record | Bad], asked: Asked) -> Record:
    """The first picture that can be read. Raises InputError where there is none."""
    bad: Bad | None = None
    for one in found:
        if isinstance(one, Record) and len(one.boxes):
            return one
        bad = one if bad is None and isinstance(one, Bad) else bad
    said = f": {bad.place}: {bad.detail}" if bad else ""
    raise InputError(f"no picture in it can be read as {asked.layout}{said}", str(asked.path), "check --as")


def form_of(first: Record, asked: Asked) -> Form:
    """What the first picture says of all."""
    words = words_for(first, asked.layout, asked.path, asked.words)
    classes = 0 if first.probs is None else first.probs.shape[1] - 1
    width = classes if asked.prob_width is None else min(asked.prob_width, classes)
    sized = first.width is not None or (asked.captions is not None and bool(asked.captions.sizes))
    unknown = tuple(name for name in unknown_of(first) if not (name == "width" and sized))
    return Form(first.features.shape[1], FLOATS[first.features.dtype.str], width, words, unknown)


def _joined(found: Iterator[Record | Bad], asked: Asked, form: Form) -> Iterator[Row | Bad]:
    """Each picture with its id and captions. What can't be one is Bad."""
    seen = Seen()
    for one in found:
        if isinstance(one, Bad):
            if one.key:
                _known(asked, one.key)
            yield one
            continue
        try:
            yield _row(one, seen, asked, form)
        except BrokenError as error:
            yield Bad(one.key, str(asked.path), error.reason, str(error))
    if asked.captions is not None:
        for key in asked.captions.unasked():
            yield Bad(key, asked.captions_from, "no-features", "the captions name this picture, the features have none")


def _known(asked: Asked, key: str) -> tuple[list[tuple[str, str | None]], tuple[int, int] | None]:
    return asked.captions.of(key) if asked.captions is not None else ([], None)


def _row(one: Record, seen: Seen, asked: Asked, form: Form) -> Row:
    if not seen.first(one.key):
        raise BrokenError("an earlier entry has the same key; that one is kept", "doubled-key")
    said, size = _known(asked, one.key)
    if one.width is None and size is not None:
        sides = [size[0], size[1]] * 2
        one = replace(one, width=size[0], height=size[1], boxes=one.boxes * sides)
    check(one, form)
    if asked.captions is not None and not said:
        raise BrokenError(f"{asked.captions_from} has no caption of this picture", "no-caption")
    return one, image_id(asked.source, one.key), said
