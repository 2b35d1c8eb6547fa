"""A full build of the index: of each language parts of a few million captions, each made by a worker.

A language with one part is one task. Of one with several the terms of each part are counted first, and what is known of
the language as a whole is put together of that. Then each part is weighed. No process holds more than a part's
captions and all terms. The process that waits holds neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pairloom.store.linking import link_tree
from stages.contract import Corpus
from stages.gathered import Listed
from stages.negatives.growth import looks_file, note
from stages.negatives.inverted import (
    PART,
    count,
    finish,
    open_statistics,
    read,
    save_part,
    save_ranks,
    save_statistics,
)
from stages.negatives.parts import Part, by_language, columns_of, ranges, sorted_captions
from stages.negatives.rule import Config
from stages.negatives.vectors import Tally, measure

TALLY = "tally.arrow"


@dataclass(frozen=True)
class Job:
    """A part of the index for a worker to make."""

    part: Part
    config: Config
    terms: Path | None = None  # the folder of the language's statistics. None: it has no other part


@dataclass(frozen=True)
class Counted:
    """What there is to know of a language with several parts."""

    tallies: tuple[Path, ...]  # folders of `count_part`
    config: Config


def write(corpus: Corpus, config: Config, folder: Path, most: int = PART) -> None:
    """Let workers write parts of about `most` captions."""
    with TemporaryDirectory(dir=folder) as name:
        room = Path(name)
        files = corpus.gathered({"curate": columns_of(config)}, sorted_captions, config)
        counts = by_language(files)
        gathered, looks = Listed.write(files.values(), room / "files"), looks_file(corpus, config, room)
        cut = {
            str(number): [Part(gathered, looks, lang, ids) for ids in ranges(captions, most)]
            for number, (lang, captions) in enumerate(counts.items())
        }
        terms = _terms(corpus, config, {number: parts for number, parts in cut.items() if len(parts) > 1})
        jobs = {number: Job(parts[0], config) for number, parts in cut.items() if number not in terms}
        for number, its in terms.items():
            jobs |= {f"{number}/{place}": Job(part, config, its) for place, part in enumerate(cut[number])}
        corpus.folders("indexing captions", build, jobs, folder)
    for number, its in terms.items():
        link_tree(its, folder / number, exist_ok=True)
        save_ranks(folder / number)
    note(folder, list(counts), corpus.hashes("curate"), {})


def _terms(corpus: Corpus, config: Config, cut: Mapping[str, list[Part]]) -> dict[str, Path]:
    """Of each of these languages a folder with its statistics."""
    jobs = {f"{number}-{place}": Job(part, config) for number, parts in cut.items() for place, part in enumerate(parts)}
    tallies = corpus.folders("counting terms", count_part, jobs)
    counted = {
        number: Counted(tuple(tallies[f"{number}-{place}"] for place in range(len(parts))), config)
        for number, parts in cut.items()
    }
    return corpus.folders("putting terms together", put_together, counted)


def count_part(job: Job, folder: Path) -> None:
    count(job.part.read(), job.config).save(folder / TALLY)


def put_together(counted: Counted, folder: Path) -> None:
    tallies = (Tally.opened(each / TALLY) for each in counted.tallies)
    save_statistics(measure(tallies, counted.config), folder)


def build(job: Job, folder: Path) -> None:
    """Write a part, or a whole language with one."""
    captions = job.part.read()
    known = None if job.terms is None else open_statistics(job.terms)
    ready = read(captions, job.config, max(len(captions), 1), known)
    (part,) = finish(ready, job.config)
    if job.terms is None:
        save_statistics(ready.statistics, folder)
        save_part(part, folder / "0")
        save_ranks(folder)
    else:
        save_part(part, folder)
