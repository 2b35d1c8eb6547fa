"""Each rule by itself, the profiles, and what is to be kept away from."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists, text
from PIL import Image

from pairloom.errors import ConfigError, InputError
from pairloom.phash import phash
from pairloom.typed import build
from schemas.quarantine import REASONS
from stages import curate
from stages.curate import rules
from stages.curate.config import Config, profile_names
from stages.curate.duplicates import near_any
from stages.curate.rules import Facts, judge
from stages.curate.text import _once, clean
from tests.stages.curate.test_curate import reasons, row, run, texts
from tests.stages.download.hostile import scene

GOOD = Facts(width=400, height=300)


def reason(caption: str, lang: str | None = None, facts: Facts = GOOD, **settings: Any) -> str | None:
    return judge(facts, [{"text": caption, "original": caption, "lang": lang}], Config(**settings)).reason


def test_every_rule_has_a_reason_of_the_vocabulary() -> None:
    assert {name for name, _ in (*rules.IMAGE_RULES, *rules.CAPTION_RULES)} <= set(REASONS)


@pytest.mark.parametrize(
    ("caption", "settings", "wanted"),
    [
        ("a cat", {}, None),
        ("a cat", {"min_chars": 6}, "caption-length"),
        ("dog food, Dog bed, dog", {"max_repetition": 0.3}, "caption-repetition"),
        ("dog food, Dog bed, dog", {"max_repetition": 0.4}, None),  # 2 of 5 words
        ("猫猫猫猫", {"max_repetition": 0.5}, "caption-repetition"),
        ("...", {"max_repetition": 0.0, "min_words": 0}, None),
        ("12 34 cat", {"min_letters": 0.5}, "caption-letters"),
        ("12 34 cats", {"min_letters": 0.5}, None),
        ("हिन्दी में", {"min_letters": 1.0}, None),  # vowel signs belong to their letters
        ("see http://a.example/x", {"allow_markup": False}, "caption-markup"),
        ("IMG_0012.JPG", {"allow_markup": False}, "caption-markup"),
        ("mail me@host.example", {"allow_markup": False}, "caption-markup"),
        ("a {caption}", {"allow_markup": False}, "caption-markup"),
        ("a cat, 3.5 kg, by night", {"allow_markup": False}, None),
        ("ein Hund läuft über die Straße", {"languages": ("en",)}, "caption-language"),
        ("a dog runs across the street", {"languages": ("en",)}, None),
    ],
)
def test_a_caption_rule_objects_to_what_it_is_for(caption: str, settings: dict[str, Any], wanted: str | None) -> None:
    assert reason(caption, **settings) == wanted


def test_the_language_that_the_list_gives_counts() -> None:
    assert reason("a dog runs across the street", "de-AT", languages=("en",)) == "caption-language"
    assert reason("xyzzy", "en-GB", languages=("en",)) is None


def test_blocked_words_are_whole_words_in_any_case(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("# a comment\nCat\nbad  dog\n", encoding="utf-8")
    blocked: dict[str, Any] = {"blocked_words": str(listed)}
    assert reason("A CAT!", **blocked) == reason("a bad dog", **blocked) == "caption-blocked"
    assert reason("a category", **blocked) is reason("a dog", **blocked) is None


def test_a_blocked_word_is_whole_with_its_marks(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("बस\ncafe\u0301\n", encoding="utf-8")
    blocked: dict[str, Any] = {"blocked_words": str(listed)}
    assert reason("लाल बस", **blocked) == reason("a Caf\u00e9", **blocked) == "caption-blocked"
    assert reason("लाल बसें", **blocked) is None


@pytest.mark.parametrize(
    ("facts", "settings", "wanted"),
    [
        (Facts(400, 300, bytes=10), {"min_bytes": 11}, "image-bytes"),
        (Facts(400, 300, captions=3), {"max_image_captions": 2}, "image-captions"),
        (Facts(400, 300, score=0.2), {"score_column": "clip", "min_score": 0.3}, "low-score"),
        (Facts(400, 300, score=0.3), {"score_column": "clip", "min_score": 0.3}, None),
        (Facts(400, 300), {"score_column": "clip", "min_score": 0.3}, "low-score"),
        (Facts(400, 300, score=1.0, score_floor=2.0), {"score_column": "clip", "top_share": 0.3}, "low-score"),
    ],
)
def test_an_image_rule_objects_to_what_it_is_for(facts: Facts, settings: dict[str, Any], wanted: str | None) -> None:
    assert reason("a cat", facts=facts, **settings) == wanted


REPEATING: dict[str, Any] = {"max_repeats": 1, "max_distance": None}


def test_a_caption_of_too_many_images_goes_from_all_shards(tmp_path: Path) -> None:
    shards = [[row(1, "same", "one")], [row(2, "same"), row(3, "same", "three")]]
    [(first, dropped), (second, rejects)] = run(tmp_path, shards, **REPEATING)
    assert texts(first[0]) == ["one"]
    assert [texts(item) for item in second] == [["three"]]
    assert reasons(dropped) == ["caption-dropped"]
    assert reasons(rejects) == ["caption-repeated", "caption-dropped"]


@pytest.mark.parametrize("profile", ["align", "coyo"])
def test_published_limits_of_repeats_are_of_the_corpus(profile: str, tmp_path: Path) -> None:
    free: dict[str, Any] = {"min_words": 0, "min_bytes": 0, "min_chars": 1, "languages": [], "profile": profile}
    config = build(Config, free, "test")
    settings = {name: getattr(config, name) for name in Config.__dataclass_fields__}
    shards = [[row(number, "a stock photo", f"number {number}", number=number)] for number in range(11)]
    for kept, _ in run(tmp_path, shards, **settings):
        assert len(texts(kept[0])) == 1
    for kept, _ in run(tmp_path, shards[:10], **settings):
        assert len(texts(kept[0])) == 2


def test_an_image_with_too_many_captions_goes_from_all_shards(tmp_path: Path) -> None:
    shards = [[row(1, "one", "two"), row(2, "other")], [row(1, "three")]]
    [(first, rejects), (second, more)] = run(tmp_path, shards, max_image_captions=2)
    assert [texts(item) for item in first] == [["other"]]
    assert second == []
    assert reasons(rejects) == reasons(more) == ["image-captions"]
    [(first, _), (_, more)] = run(tmp_path, shards, max_image_captions=2, counted="so-far")
    assert len(first) == 2
    assert reasons(more) == ["image-captions"]


@pytest.mark.parametrize(
    "settings",
    [{"max_repeats": 9}, {"max_repeat_share": 0.1}, {"max_image_captions": 9}, {"top_share": 0.1, "score_column": "s"}],
)
def test_a_rule_that_counts_the_corpus_makes_every_shard_depend_on_all(settings: dict[str, Any]) -> None:
    assert curate.scope(Config(**settings)) == "all"
    assert curate.scope(Config(**settings, counted="so-far")) == curate.scope(Config()) == "before"


def test_a_caption_of_too_many_images_so_far_goes_from_there_on(tmp_path: Path) -> None:
    shards = [[row(1, "same", "one")], [row(2, "same"), row(3, "same", "three")]]
    [(first, _), (second, rejects)] = run(tmp_path, shards, **REPEATING, counted="so-far")
    assert texts(first[0]) == ["same", "one"]
    assert [texts(item) for item in second] == [["three"]]
    assert reasons(rejects) == ["caption-repeated", "caption-dropped"]


def test_scores_are_read_from_the_lists_own_column(tmp_path: Path) -> None:
    rows = [row(n, f"caption {n}", extra=[("clip", str(n / 10))]) for n in range(1, 5)] + [row(9, "none")]
    [(kept, rejects)] = run(tmp_path, [rows], score_column="clip", top_share=0.5, max_distance=None)
    assert [item["image_id"][0] for item in kept] == [3, 4]
    assert reasons(rejects) == ["low-score"] * 3


def test_images_to_keep_away_from_are_found_by_bytes_and_by_looks(tmp_path: Path) -> None:
    shown = phash(Image.fromarray(scene(64, 48, 5)))
    Image.fromarray(scene(64, 48, 5)).save(tmp_path / "test.png")
    hashes = pa.table({"sha256": pa.array([bytes([1]) * 32], pa.binary(32))})
    (tmp_path / "tables").mkdir()
    pq.write_table(hashes, tmp_path / "tables" / "hashes.parquet")
    rows = [row(1, "by bytes"), row(2, "by looks", phash=shown ^ 0b101), row(3, "other", phash=shown ^ 0b111)]
    exclude = (str(tmp_path / "test.png"), str(tmp_path / "tables"))
    (tmp_path / "index").mkdir()
    [(kept, rejects)] = run(tmp_path / "index", [rows], exclude=exclude, exclude_distance=2, max_distance=None)
    assert [item["image_id"][0] for item in kept] == [3]
    assert reasons(rejects) == ["excluded"] * 2
    config = curate.Config(exclude=exclude)
    assert {file.name for file in curate.resources(config)} == {"test.png", "hashes.parquet"}
    with pytest.raises(InputError, match="neither a table nor an image"):
        curate.resources(curate.Config(exclude=(str(tmp_path / "nowhere"),)))


@given(ours=lists(integers(0, 2**64 - 1), max_size=20), others=lists(integers(0, 2**64 - 1), max_size=20))
def test_no_excluded_image_within_the_distance_is_missed(ours: list[int], others: list[int]) -> None:
    near = [value ^ 0b1011 << 30 for value in others[:3]]  # three bits from one of them
    here = np.array(ours + near, np.uint64)
    found = near_any(here, np.array(others, np.uint64), 3)
    assert found.tolist() == [any((one ^ other).bit_count() <= 3 for other in others) for one in ours + near]


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_names_its_source_and_only_settings_that_exist(name: str) -> None:
    config = build(Config, {"profile": name}, "test")
    assert config.profile == name


@pytest.mark.parametrize(
    ("profile", "caption", "size", "wanted"),
    [
        ("align", "one two", (400, 300), "caption-length"),
        ("align", "a red bus", (400, 200), "image-size"),
        ("align", "a red bus", (400, 201), None),
        ("datacomp-basic", "a dog", (400, 200), "caption-length"),
        ("datacomp-basic", "a dog runs across the street", (600, 200), None),
        ("datacomp-basic", "a dog runs across the street", (601, 200), "image-aspect"),
        ("coyo", "a dog runs across the street", (400, 300), "image-bytes"),
        ("laion", "dogs", (4, 3), "image-bytes"),
        ("conceptual", "a dog on a street", (1000, 401), None),
        ("conceptual", "a dog on a street", (1000, 400), "image-size"),
        ("conceptual", "a dog on a street", (1003, 401), "image-aspect"),
        ("conceptual", "a dog on a street", (1002, 401), None),
        ("conceptual", "a dog and a cat and a bird", (1000, 401), "caption-repetition"),
        ("conceptual", "a dog", (1000, 401), "caption-length"),
        ("none", "x", (1, 1000), None),
    ],
)
def test_profiles_judge_as_published(profile: str, caption: str, size: tuple[int, int], wanted: str | None) -> None:
    config = build(Config, {"profile": profile}, "test")
    facts = Facts(*size, bytes=5000)
    assert judge(facts, [{"text": caption, "original": caption, "lang": None}], config).reason == wanted


@pytest.mark.parametrize(("profile", "stays"), [("coyo", True), ("datacomp-basic", True), ("align", False)])
def test_what_stands_between_spaces_is_a_word_where_it_was_so(profile: str, stays: bool) -> None:
    config = build(Config, {"profile": profile, "min_bytes": 0}, "test")
    for caption, wanted in (("dogs & cats", stays), ("dogs &cats", False), ("two dogs & cats", True)):
        verdict = judge(GOOD, [{"text": caption, "original": caption, "lang": None}], config)
        assert verdict.reason == (None if wanted else "caption-length")


def test_a_setting_counts_more_than_the_profile_and_an_unknown_profile_is_refused() -> None:
    assert build(Config, {"profile": "align", "min_side": 10}, "test").min_side == 10
    with pytest.raises(ConfigError, match="align, conceptual"):
        build(Config, {"profile": "nothing"}, "test")


@given(text(alphabet=string.printable + "é&<>", max_size=60))
def test_plain_ascii_is_cleaned_alike_without_ftfy(caption: str) -> None:
    slow = caption
    for _ in range(8):
        slow = _once(slow)
    assert clean(caption) == slow
