"""Captions that come later: with frozen idf, growing gives the bytes of a full run, at a fraction of its work."""

from __future__ import annotations

import json
from collections import Counter
from functools import wraps
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from pairloom.store.folder import open_folder
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from stages.contract import Before
from stages.negatives import Config, building, growth
from stages.negatives.inverted import open_index, open_statistics, read
from stages.negatives.summary import MOST
from stages.negatives.words import normalise
from tests.pipeline.helpers import hashes
from tests.stages.negatives.corpus import curated, shard

INLINE = Options(RunConfig(cluster="inline"))


def lists(data: Path) -> list[list[list[tuple[bytes, int, float]]]]:
    """(image_id, caption index, similarity) of all negatives."""
    rows = [row for _, table in open_folder(data / "negatives").tables() for row in table["negatives"].to_pylist()]
    return [[[(n["image_id"], n["caption_index"], n["similarity"]) for n in own] for own in row] for row in rows]


def similarities_of_the_first(data: Path, first: range, shards: range) -> tuple[list[str], np.ndarray]:
    """English captions and their cosines by scikit-learn's vectors, fitted on the first shards alone."""
    every = [[c for row in shard(n)["captions"].to_pylist() for c in row if c["lang"] == "en"] for n in shards]
    texts = [normalise(caption["text"]) for own in every for caption in own]
    fitted = TfidfVectorizer(dtype=np.float64).fit(texts[: sum(len(own) for own in every[: len(first)])])
    vectors = fitted.transform(texts)
    return texts, (vectors @ vectors.T).toarray()


@pytest.mark.parametrize("scorer", ["tfidf", "bm25"])
def test_growing_twice_gives_the_lists_of_a_full_run_by_the_same_idf(
    tmp_path: Path, scorer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(scorer=scorer, top_k=5, idf="frozen")  # type: ignore[arg-type]  # one of the two literals
    grown, full = tmp_path / "grown", tmp_path / "full"
    for shards in (range(4), range(5), range(7)):
        curated(grown, shards)
        run_stage("negatives", config, grown, INLINE)
    (index,) = (grown / ".index" / "negatives").iterdir()
    english = open_index(index / "1", config)
    assert [len(part.captions.images) > 0 for part in english.parts] == [True, True, True]
    known = {lang: open_statistics(index / str(number)) for number, lang in enumerate(["de", "en"])}

    curated(full, range(7))
    langs = iter(["de", "en"])
    monkeypatch.setattr(building, "read", lambda captions, config, *_: read(captions, config, known=known[next(langs)]))
    run_stage("negatives", config, full, INLINE)
    assert lists(grown) == lists(full)
    assert hashes(grown / "negatives") == hashes(full / "negatives")


def test_what_is_added_in_parts_and_interrupted_gives_the_bytes_of_one_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(top_k=5, idf="frozen")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for data in (whole, parts):
        curated(data, range(3))
        run_stage("negatives", config, data, INLINE)
        curated(data, range(6))
    run_stage("negatives", config, whole, INLINE)
    made: list[str] = []

    @wraps(building.build)
    def stopping(job: building.Job, folder: Path) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        build(job, folder)
        made.append(f"{job.part.lang} {job.part.ids}")

    build = building.build
    monkeypatch.setattr(growth.grow, "__defaults__", (60,))
    monkeypatch.setattr(growth, "build", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_stage("negatives", config, parts, INLINE)
    first, made[:] = list(made), ["", "", ""]
    run_stage("negatives", config, parts, INLINE)
    assert not set(first) & set(made)
    (index,) = (parts / ".index" / "negatives").iterdir()
    assert [len(open_index(index / str(number), config).parts) for number in (0, 1)] == [2, 5]
    assert len(made) == 3 + (1 + 4) - 2
    assert hashes(parts / "negatives") == hashes(whole / "negatives")


def test_frozen_idf_is_that_of_scikit_learn_fitted_on_the_first_captions(tmp_path: Path) -> None:
    config = Config(top_k=3, idf="frozen", against="caption", distinct=False)
    for shards in (range(3), range(5)):
        curated(tmp_path, shards)
        run_stage("negatives", config, tmp_path, INLINE)
    texts, cosines = similarities_of_the_first(tmp_path, range(3), range(5))
    table = pa.concat_tables([table for _, table in open_folder(tmp_path / "negatives").tables()])
    captions = pa.concat_tables([shard(number) for number in range(5)])["captions"].to_pylist()
    row = 0
    for own, found in zip(captions, table["negatives"].to_pylist(), strict=True):
        for caption, negatives in zip(own, found, strict=True):
            if caption["lang"] == "en":
                for negative in negatives:
                    truth = cosines[row, texts.index(normalise(negative["text"]))]
                    assert negative["similarity"] == pytest.approx(truth, abs=1e-6)
                row += 1


@given(
    had=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("01"), min_size=1),
    has=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("01")),
)
def test_shards_are_new_if_and_only_if_all_that_were_there_are_as_they_were(
    had: dict[str, str], has: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("index")
    (folder / building.SHARDS).write_text(json.dumps(had))
    new = growth.new_shards(has, Before(folder, folder))
    grown = set(had.items()) <= set(has.items())
    assert set(new) == (set(has) - set(had) if grown else set())


def test_the_summary_of_a_table_counts_what_its_lists_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.negatives.frequent.ROOM", 100)  # so that the counts are put together now and then
    curated(tmp_path, range(4))
    facts = run_stage("negatives", Config(top_k=5), tmp_path, INLINE).summary
    rows = [row for _, table in open_folder(tmp_path / "negatives").tables() for row in table.to_pylist()]
    found = [
        (one["image_id"], one["caption_index"], one["text"]) for row in rows for own in row["negatives"] for one in own
    ]
    most = sorted(Counter(found).items(), key=lambda item: (-item[1], item[0]))[:MOST]
    wanted = [{"image_id": i.hex(), "caption_index": at, "text": t, "times": n} for (i, at, t), n in most]
    assert facts["most_frequent"] == wanted
    assert facts["negatives"] == sum(facts["similarity_bins"].values()) == len(found)
    assert facts["short"] == sum(missing > 0 for row in rows for missing in row["short"])


def test_with_recomputed_idf_growing_is_a_full_run(tmp_path: Path) -> None:
    config = Config(top_k=5)
    for shards in (range(3), range(4)):
        curated(tmp_path / "grown", shards)
        run_stage("negatives", config, tmp_path / "grown", INLINE)
    curated(tmp_path / "full", range(4))
    run_stage("negatives", config, tmp_path / "full", INLINE)
    assert hashes(tmp_path / "grown" / "negatives") == hashes(tmp_path / "full" / "negatives")


def test_a_changed_old_shard_makes_a_full_build(tmp_path: Path) -> None:
    config = Config(top_k=5, idf="frozen")
    curated(tmp_path / "one", range(3))
    run_stage("negatives", config, tmp_path / "one", INLINE)
    curated(tmp_path / "one", range(1, 5))
    run_stage("negatives", config, tmp_path / "one", INLINE)
    curated(tmp_path / "two", range(1, 5))
    run_stage("negatives", config, tmp_path / "two", INLINE)
    assert hashes(tmp_path / "one" / "negatives") == hashes(tmp_path / "two" / "negatives")
