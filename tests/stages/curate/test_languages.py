"""Languages of short captions: alt texts as the web has them, one to seven words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pairloom.errors import ConfigError
from stages.curate.config import Config
from stages.curate.languages import other_language
from tests.stages.curate.test_rules import reason

ALT_TEXTS = [
    (language, text)
    for language, text in (
        line.split("\t") for line in Path(__file__).with_name("alt_texts.tsv").read_text(encoding="utf-8").splitlines()
    )
]
MARGIN = Config().language_margin


def kept(texts: list[str], wanted: tuple[str, ...], margin: float = MARGIN) -> float:
    """The share of the texts that is not taken for another language."""
    return sum(other_language(text, wanted, margin) is None for text in texts) / len(texts)


@pytest.mark.parametrize("written", [str, str.title, str.upper, str.lower])
def test_nine_of_ten_short_english_captions_stay(written: Callable[[str], str]) -> None:
    english = [written(text) for language, text in ALT_TEXTS if language == "en"]
    assert kept(english, ("en",)) >= 0.9
    assert kept(english, ("en",), margin=0) < 0.75  # py3langid's own guess, py3langid#17


def test_hardly_a_caption_in_another_language_stays() -> None:
    assert kept([text for language, text in ALT_TEXTS if language != "en"], ("en",)) <= 0.06


@pytest.mark.parametrize("wanted", ["de", "fr", "es", "it", "pt", "nl"])
def test_captions_of_other_languages_stay_where_those_are_wanted(wanted: str) -> None:
    assert kept([text for language, text in ALT_TEXTS if language == wanted], (wanted,)) >= 0.9


def test_one_of_several_languages_is_enough() -> None:
    both = [text for language, text in ALT_TEXTS if language in ("de", "fr")]
    assert kept(both, ("de", "fr")) >= 0.9
    assert kept(both, ("ja", "zh")) == 0


@pytest.mark.parametrize("text", ["2019", "x", "!!!"])
def test_a_text_that_tells_nothing_stays(text: str) -> None:
    assert other_language(text, ("en",), MARGIN) is None


def test_the_margin_is_a_setting_and_the_reason_names_the_language() -> None:
    assert reason("golden retriever puppy", languages=("en",)) is None
    assert reason("golden retriever puppy", languages=("en",), language_margin=0.0) == "caption-language"
    assert other_language("ein Hund läuft über die Straße", ("en", "fr"), MARGIN) == "de"


def test_a_language_unknown_to_the_model_has_no_probability() -> None:
    assert other_language("ein Hund läuft über die Straße", ("xx",), MARGIN) == "de"


@pytest.mark.parametrize("code", ["english", "en-US", "EN", ""])
def test_what_can_never_be_a_language_code_is_refused(code: str) -> None:
    with pytest.raises(ConfigError, match=r"curate\.languages has"):
        Config(languages=("de", code))
