"""The stage over a corpus of several shards, against the rules written out plainly."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import DrawFn, composite, integers, lists, sampled_from

from pairloom.errors import ConfigError, RunError
from pairloom.typed import build
from schemas.pairs import PAIRS
from schemas.quarantine import OF_A_PART, QUARANTINE
from stages import curate
from stages.contract import Counts
from stages.rejects import Reject, quarantine
from tests.stages.memory import InMemory

Row = dict[str, Any]


def corpus_of(shards: Sequence[Sequence[Row]]) -> InMemory:
    return InMemory("download", [table(rows, f"{number:05d}") for number, rows in enumerate(shards)])


def row(picture: int, *captions: str | tuple[str, str | None], number: int = 0, **changes: Any) -> Row:
    """A downloaded row. Pictures of different number differ in image_id and, by half their bits, in phash."""
    pairs = [caption if isinstance(caption, tuple) else (caption, "en") for caption in captions]
    return {
        "image_id": bytes([picture]) * 16,
        "image": f"picture {picture}".encode(),
        "format": "jpeg",
        "width": 320,
        "height": 240,
        "original_width": 640,
        "original_height": 480,
        "url": f"http://a.example/{number}.jpg",
        "sha256": bytes([picture]) * 32,
        "phash": picture * 0x0101010101010101,
        "licence": None,
        "source": "test",
        "captions": [{"text": text, "original": text, "lang": lang} for text, lang in pairs],
        "extra": [],
    } | changes


def table(rows: Sequence[Row], shard: str) -> pa.Table:
    columns: dict[str, Any] = {name: [item[name] for item in rows] for name in PAIRS.schema().names}
    return PAIRS.table({"shard": shard}, **columns)


def run(
    folder: Path, shards: Sequence[Sequence[Row]], scores: Sequence[pa.Table] = (), **settings: Any
) -> list[tuple[list[Row], list[Row]]]:
    """(rows that stay, rejects) of each shard. scores: the shards of table `score`."""
    config = config_of(settings)
    corpus, folder = corpus_of(shards), Path(tempfile.mkdtemp(dir=folder))
    if scores:
        corpus.others["score"] = dict(zip(corpus.shards, scores, strict=True))
    curate.index(corpus, config, folder)
    tools = curate.setup(config, folder)
    results = []
    for name, shard in corpus.shards.items():
        others = [corpus.others[stage][name] for stage in curate.inputs(config)[1:]]
        kept, rejects = curate.process(shard, *others, tools)
        PAIRS.check(kept, where="test")
        QUARANTINE.check(rejects, where="test")
        results.append((kept.to_pylist(), rejects.to_pylist()))
    return results


def config_of(settings: dict[str, Any]) -> curate.Config:
    return curate.Config(**{"min_chars": 2, "max_distance": 2, **settings})


def texts(kept: Row) -> list[str]:
    return [caption["text"] for caption in kept["captions"]]


def reasons(rejects: list[Row]) -> list[str]:
    return [reject["reason"] for reject in rejects]


def test_captions_are_cleaned_and_the_original_stays(tmp_path: Path) -> None:
    [(kept, rejects)] = run(tmp_path, [[row(1, "a  <b>cat</b> &amp; dog")]])
    wanted = {"text": "a cat & dog", "original": "a  <b>cat</b> &amp; dog", "lang": "en", "kind": None}
    assert kept[0]["captions"] == [wanted]
    assert kept[0]["image"] == b"picture 1"
    assert rejects == []


def test_each_rule_has_its_reason(tmp_path: Path) -> None:
    rows = [
        row(1, "good"),
        row(2, "good", original_width=63, original_height=100),
        row(3, "good", original_width=100, original_height=401),
        row(4),
        row(5, "<br>", " "),
        row(6, "x", "y" * 2000),
        row(7, "", "x"),
        row(8, "good", original_width=64, original_height=256),
    ]
    [(kept, rejects)] = run(tmp_path, [rows])
    assert [item["image_id"][0] for item in kept] == [1, 8]
    assert reasons(rejects) == ["image-size", "image-aspect", "no-caption", "no-caption"] + ["caption-length"] * 2
    assert [reject["key"] for reject in rejects] == [bytes([n] * 16).hex() for n in range(2, 8)]


def test_a_dropped_caption_is_recorded_although_its_image_stays(tmp_path: Path) -> None:
    [(kept, rejects)] = run(tmp_path, [[row(1, "a cat", "x", "<br>", "a cat", ("a cat", "de"))]])
    assert [(c["text"], c["lang"]) for c in kept[0]["captions"]] == [("a cat", "en"), ("a cat", "de")]
    assert reasons(rejects) == ["caption-dropped"] * 2
    assert [json.loads(reject["row"])["captions"][0]["text"] for reject in rejects] == ["x", "<br>"]


def test_words_are_limited_too(tmp_path: Path) -> None:
    [(kept, rejects)] = run(tmp_path, [[row(1, "one", "one two", "a b c d")]], min_words=2, max_words=3)
    assert texts(kept[0]) == ["one two"]
    assert [reject["detail"] for reject in rejects] == ["1 words, not 2 to 3", "4 words, not 2 to 3"]


def test_exact_duplicates_of_a_shard_give_their_captions_to_the_first(tmp_path: Path) -> None:
    rows = [row(1, "first", "same"), row(2, "other"), row(1, "same", ("zweite", "de"), "x", number=9)]
    [(kept, rejects)] = run(tmp_path, [rows])
    assert [texts(item) for item in kept] == [["first", "same", "zweite"], ["other"]]
    assert reasons(rejects) == ["caption-dropped", "duplicate"]
    assert rejects[1]["detail"] == f"of {'01' * 16}, which has its captions too"


TWICE = [[row(1, "first", "both")], [row(1, "second", "both", "x"), row(2, "other")], [row(1, "second", "third")]]


def test_captions_of_duplicates_in_other_shards_are_lost_one_by_one(tmp_path: Path) -> None:
    [(kept, _), (later, rejects), (_, last)] = run(tmp_path, TWICE)
    assert texts(kept[0]) == ["first", "both"]
    assert [texts(item) for item in later] == [["other"]]
    where = f"of {'01' * 16}, in shard 00000; captions of it are only here"
    assert [(reject["reason"], reject["detail"]) for reject in rejects] == [
        ("duplicate", where),
        ("caption-lost", where),
    ]
    assert lost(rejects) == ["second"]  # "both" is not lost, and "x" would go anyway
    assert lost(last) == ["third"]  # "second" is lost already


def test_captions_are_handed_over_in_the_whole_corpus_if_asked(tmp_path: Path) -> None:
    for wide in ({"unite_captions": "corpus"}, {"max_repeats": 9}):  # such a rule reads the corpus anyway
        [(kept, _), *others] = run(tmp_path, TWICE, **wide)
        assert texts(kept[0]) == ["first", "both", "second", "third"]
        assert [reasons(rejects) for _, rejects in others] == [["duplicate"]] * 2
        assert curate.scope(config_of(wide)) == "all"
    [(kept, _), *_] = run(tmp_path, TWICE, max_repeats=9, counted="so-far")
    assert texts(kept[0]) == ["first", "both"]
    assert curate.scope(config_of({"max_repeats": 9, "counted": "so-far"})) == "before"


def test_captions_of_near_duplicates_are_lost(tmp_path: Path) -> None:
    rows = [row(1, "here", "both", phash=0), row(2, "both", "gone", phash=1)]
    [(kept, rejects)] = run(tmp_path, [rows], max_distance=2, max_colour_distance=None, unite_captions="corpus")
    assert texts(kept[0]) == ["here", "both"]
    assert reasons(rejects) == ["near-duplicate", "caption-lost"]
    assert lost(rejects) == ["gone"]


def test_lost_captions_are_in_the_summary() -> None:
    folder = InMemory("curate", [table(shard, "") for shard in TWICE])
    rejected = [Reject("k", reason, "", {}) for reason in ("caption-lost", "duplicate", "caption-lost")]
    rejects = InMemory("quarantine", [quarantine("curate", rejected), QUARANTINE.empty()])

    class Both(InMemory):
        def tables(self, stage: str, columns: Sequence[str], shards: Any = None) -> Any:
            return (rejects if stage == "quarantine" else folder).tables(stage, columns, shards)

    assert curate.summary(Both("", [])) == {"captions": 8, "captions_lost": 2}


def lost(rejects: Sequence[Row]) -> list[str]:
    found = [json.loads(reject["row"]) for reject in rejects if reject["reason"] == "caption-lost"]
    return [caption["text"] for item in found for caption in item["captions"]]


def test_near_duplicates_go_by_distance_and_the_earliest_stays(tmp_path: Path) -> None:
    base = 0x0123456789ABCDEF
    rows = [row(n, f"caption {n}", phash=base ^ ((1 << n) - 1)) for n in (0, 2, 3, 5, 9)]
    [(kept, rejects)] = run(tmp_path, [rows], max_distance=2)
    # 2 is two bits from 0 and goes. 3 is three bits from 0 and stays, although 2 was one bit away. 5 is two from 3.
    assert [item["image_id"][0] for item in kept] == [0, 3, 9]
    assert reasons(rejects) == ["near-duplicate", "caption-lost"] * 2
    assert rejects[2]["detail"] == f"of {'03' * 16}, 2 bits apart"
    [(kept, rejects)] = run(tmp_path, [rows], max_distance=None)
    assert len(kept) == 5


def test_a_row_that_a_rule_rejects_hides_no_later_one(tmp_path: Path) -> None:
    [(kept, rejects)] = run(tmp_path, [[row(1, "x"), row(1, "a good caption")]])
    assert [texts(item) for item in kept] == [["a good caption"]]
    assert reasons(rejects) == ["caption-length"]


def test_the_same_line_in_two_shards_is_kept_once(tmp_path: Path) -> None:
    shard = [row(1, "a cat"), row(2, "a dog")]
    [(first, _), (second, rejects)] = run(tmp_path, [shard, shard])
    assert len(first) == 2
    assert second == []
    assert reasons(rejects) == ["duplicate"] * 2


def test_the_same_line_twice_in_a_shard_is_kept_once(tmp_path: Path) -> None:
    [(kept, rejects)] = run(tmp_path, [[row(1, "a cat")] * 3])
    assert [texts(item) for item in kept] == [["a cat"]]
    assert reasons(rejects) == ["duplicate"] * 2


@composite
def corpora(draw: DrawFn) -> list[list[Row]]:
    shards = []
    number = 0
    for size in draw(lists(integers(0, 6), min_size=1, max_size=4)):
        shard = []
        for _ in range(size):
            number += 1
            captions = draw(lists(sampled_from(["a cat", "ein Hund", "x", "", "<b>a</b> cat"]), max_size=3))
            bits = draw(sampled_from([0, 1, 7]))
            side = draw(sampled_from([240, 240, 240, 20]))
            picture = draw(integers(0, 4))
            phash = (picture * 0x0101010101010101) ^ bits  # an image_id goes with one phash
            identity = bytes([picture, bits]) * 8
            shard.append(row(picture, *captions, number=number, image_id=identity, phash=phash, original_height=side))
        shards.append(shard)
    return shards


@given(shards=corpora())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_conserved_and_judged_as_the_rules_say(tmp_path: Path, shards: list[list[Row]]) -> None:
    results = run(tmp_path, shards)
    seen: list[Row] = []  # rows that stay so far
    for shard, (kept, rejects) in zip(shards, results, strict=True):
        whole = [reject for reject in rejects if reject["reason"] not in OF_A_PART]
        assert len(kept) + len(whole) == len(shard)
        left = {json.loads(reject["row"])["url"]: reject["reason"] for reject in whole}
        stays = {item["url"]: item for item in kept}
        for item in shard:
            reason = left.get(item["url"])
            assert reason == expected(item, seen)
            if reason is None:
                seen.append(item)
                assert stays[item["url"]]["captions"], "a row that stays has a caption"
        united = {text for item in shard if left.get(item["url"]) in (None, "duplicate") for text in usable(item)}
        assert {text for item in kept for text in texts(item)} <= united
        for item in shard:  # no usable caption of this shard's images is lost
            first = next((one for one in kept if one["image_id"] == item["image_id"]), None)
            if first is not None and left.get(item["url"]) in (None, "duplicate"):
                assert set(usable(item)) <= set(texts(first))


def usable(item: Row) -> list[str]:
    """What is left of its captions after cleaning and the length rule."""
    left = {"a cat": "a cat", "<b>a</b> cat": "a cat", "ein Hund": "ein Hund", "x": None, "": None}
    return [text for caption in item["captions"] if (text := left[caption["text"]])]


def expected(item: Row, seen: list[Row]) -> str | None:
    if item["original_height"] < 64:
        return "image-size"
    if not usable(item):
        return "caption-length" if any(c["text"] == "x" for c in item["captions"]) else "no-caption"
    if any(item["image_id"] == other["image_id"] for other in seen):
        return "duplicate"
    if any((item["phash"] ^ other["phash"]).bit_count() <= 2 for other in seen):
        return "near-duplicate"
    return None


@given(shards=corpora(), reach=sampled_from(["shard", "corpus"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_usable_caption_of_an_image_stays_or_is_lost_once(
    tmp_path: Path, shards: list[list[Row]], reach: str
) -> None:
    results = run(tmp_path, shards, unite_captions=reach)
    alike = {}  # image of each row that passes the rules -> the image that stays
    for _, rejects in results:
        for reject in rejects:
            if reject["reason"] in ("duplicate", "near-duplicate"):
                alike[bytes.fromhex(reject["key"])] = bytes.fromhex(reject["detail"].split()[1].strip(","))
    wanted, found = set(), Counter[tuple[bytes, str]]()
    for item in (item for shard in shards for item in shard if expected(item, []) is None):
        wanted |= {(alike.get(item["image_id"], item["image_id"]), text) for text in usable(item)}
    for kept, rejects in results:
        found.update((item["image_id"], text) for item in kept for text in texts(item))
        for reject in rejects:
            if reject["reason"] == "caption-lost":
                found[bytes.fromhex(reject["detail"].split()[1].strip(",")), lost([reject])[0]] += 1
    assert found == dict.fromkeys(wanted, 1)


@given(shards=corpora(), more=corpora())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_added_to_the_list_change_no_earlier_shard(
    tmp_path: Path, shards: list[list[Row]], more: list[list[Row]]
) -> None:
    assert run(tmp_path, shards + more)[: len(shards)] == run(tmp_path, shards)


@given(shards=corpora(), cut=integers(0, 6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shard_in_parts_gives_the_same_rows(tmp_path: Path, shards: list[list[Row]], cut: int) -> None:
    corpus, tmp_path = corpus_of(shards), Path(tempfile.mkdtemp(dir=tmp_path))
    curate.index(corpus, curate.Config(), tmp_path)
    tools = curate.setup(curate.Config(), tmp_path)
    for shard in corpus.shards.values():
        whole = curate.process(shard, tools)
        parts = [curate.process(part, tools) for part in (shard.slice(0, cut), shard.slice(cut))]
        for found, together in zip(zip(*parts, strict=True), whole, strict=True):
            assert pa.concat_tables(found).to_pylist() == together.to_pylist()


def test_what_is_curated_stays_as_it_is_when_curated_again(tmp_path: Path) -> None:
    rows = [row(1, "a  cat", "x"), row(1, "again"), row(2, "<b>dog</b>"), row(3, "")]
    [(kept, _)] = run(tmp_path, [rows])
    [(again, rejects)] = run(tmp_path, [kept])
    assert again == kept
    assert rejects == []


def test_nothing_left_ends_the_run() -> None:
    curate.check(Counts(0, 0, {}), curate.Config())
    curate.check(Counts(5, 1, {"duplicate": 4}), curate.Config())
    with pytest.raises(RunError, match="none of 5 rows is left"):
        curate.check(Counts(5, 0, {"image-size": 5}), curate.Config())


@pytest.mark.parametrize("wrong", [{"min_side": 0}, {"max_aspect": 0.5}, {"min_chars": 0}, {"max_distance": 17}])
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^{next(iter(wrong))} is"):
        build(curate.Config, wrong, "params.yaml, section curate")
