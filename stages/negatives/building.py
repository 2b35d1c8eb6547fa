"""The index of languages of which nothing is known: parts of a few million captions, each made by a worker.

A language with one part is one task. Of one with several the terms of each part are counted first, and what is known of
the language as a whole is put together of that. Then each part is weighed. No process holds more than a part's
captions and all terms. The process that waits holds neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pairloom.store.linking import link_tree
from stages.contract import Corpus
from stages.gathered import Listed
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
from stages.negatives.near import looks_like
from stages.negatives.parts import Lang, Part, by_language, columns_of, ranges, sorted_captions, write_table
from stages.negatives.rule import Config
from stages.negatives.vectors import Tally, measure

TALLY = "tally.arrow"
LANGUAGES, SHARDS, FRESH = "languages.json", "shards.json", "fresh.json"  # in an index


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
        cut = cut_into(corpus, config, files, counts, room, most)
        write_languages(corpus, config, {str(number): cut[lang] for number, lang in enumerate(counts)}, folder)
    note(folder, list(counts), corpus.hashes("curate"), {})


def cut_into(
    corpus: Corpus, config: Config, files: Mapping[str, Path], counts: Mapping[Lang, int], room: Path, most: int
) -> dict[Lang, list[Part]]:
    """The parts of each language, of about `most` captions. files: of `sorted_captions`; counts: what these have."""
    gathered = Listed.write(files.values(), room / "files")
    near = config.near_distance is not None
    looks = write_table(looks_like(corpus, config, room), room / "looks") if near else None
    return {
        lang: [Part(gathered, looks, lang, ids) for ids in ranges(captions, most)] for lang, captions in counts.items()
    }


def write_languages(corpus: Corpus, config: Config, cut: Mapping[str, list[Part]], folder: Path) -> None:
    """Let workers write the languages of these numbers below the folder."""
    terms = _terms(corpus, config, {number: parts for number, parts in cut.items() if len(parts) > 1})
    jobs = {number: Job(parts[0], config) for number, parts in cut.items() if number not in terms}
    for number, its in terms.items():
        jobs |= {f"{number}/{place}": Job(part, config, its) for place, part in enumerate(cut[number])}
    corpus.folders("indexing captions", build, jobs, folder)
    for number, its in terms.items():
        link_tree(its, folder / number, exist_ok=True)
        save_ranks(folder / number, folder / number)


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
        save_ranks(folder, folder)
    else:
        save_part(part, folder)


def languages_in(folder: Path) -> list[Lang]:
    """The languages of an index, in the order of their folders."""
    found: list[Lang] = json.loads((folder / LANGUAGES).read_text(encoding="utf-8"))
    return found


def note(folder: Path, langs: list[Lang], hashes: Mapping[str, str], fresh: Mapping[str, int]) -> None:
    """fresh: of each language that has grown, by its number, the first of its new parts."""
    for name, content in ((LANGUAGES, langs), (SHARDS, hashes), (FRESH, fresh)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
