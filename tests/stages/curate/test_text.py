"""Caption cleaning, case by case and for any text."""

from __future__ import annotations

import string
import unicodedata
from html.entities import html5

import emoji
import pytest
from hypothesis import example, given
from hypothesis.strategies import characters, lists, sampled_from, text, tuples

from stages.curate.text import clean, words_of

ENGLAND = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
CASES = {
    "  two   words\n": "two words",
    "tab\tand\u00a0no-break\u3000wide\u2028line": "tab and no-break wide line",
    "<b>bold</b> H<sub>2</sub>O": "bold H2O",
    "one<br>two<br/>three<p class='x'>four</p>": "one two three four",
    '<a href="http://a.example/?q=1">link</a>': "link",
    "<script>alert('x')</script>seen<style>p{}</style>": "seen",
    "<!-- hidden -->seen<!-- unclosed": "seen",
    "I <3 you": "I <3 you",
    "a < b and c > d": "a < b and c > d",
    "<person> rides a horse": "<person> rides a horse",
    "fish &amp; chips": "fish & chips",
    "&amp;amp;lt;b&amp;amp;gt;bold": "bold",
    "&#x63;at &#100;og &copy; 5 &euro;": "cat dog © 5 €",
    "AT&T, R&D, a=1&copy=2": "AT&T, R&D, a=1&copy=2",
    "&notanentity; &copyright; &amp;ampere; &Amp;": "&notanentity; &copyright; &ampere; &Amp;",
    "&AMP; &#x1F600; &#128; &CounterClockwiseContourIntegral;": "& 😀 € ∳",
    "cafe\u0301": "caf\u00e9",
    "schÃ¶n": "schön",
    "Ð¿Ñ\x80Ð¸Ð²ÐµÑ\x82": "привет",
    "itâ€™s": "it\u2019s",
    "\u201cquoted\u201d \u2018text\u2019": "\u201cquoted\u201d \u2018text\u2019",
    "一只猫，在桌上！": "一只猫，在桌上！",
    "ze\u200bro wi\ufeffdth so\u00adft": "zero width soft",
    "bell\x07 null\x00 esc\x1b[31mred\x1b[0m": "bell null escred",
    "\u202ereversed\u202c": "reversed",
    "hidden\U000e0041\U000e0042tags": "hiddentags",
    f"{ENGLAND} won\U000e0041": f"{ENGLAND} won",
    f"{ENGLAND[:-1]} cut": "🏴 cut",
    f"cat{ENGLAND[1:]}": "cat",
    "می\u200cخواهم": "می\u200cخواهم",
    "क्\u200dष": "क्\u200dष",
    "👩\u200d🚀 in space": "👩\u200d🚀 in space",
    "la\u200ctin \u200d joiner\u200d": "latin joiner",
    "ﬁsh": "fish",
    "\ud83d broken": "\ufffd broken",
    "\ud83d\ude00": "😀",
    "": "",
    "&nbsp;\u200b<br>": "",
}


@pytest.mark.parametrize("given_text", CASES)
def test_a_caption_becomes_what_a_reader_would_see(given_text: str) -> None:
    assert clean(given_text) == CASES[given_text]


@given(text(alphabet=string.ascii_letters, min_size=2, max_size=12).filter(lambda name: name + ";" not in html5))
@example("notanentity")
@example("ampere")
def test_an_entity_that_html_does_not_know_stays(name: str) -> None:
    assert clean(f"a &{name}; b") == f"a &{name}; b"


def test_every_emoji_stays_as_it_is() -> None:
    assert [one for one in emoji.EMOJI_DATA if clean(f"a {one} b") != f"a {one} b"] == []


PIECES = sampled_from(
    [ENGLAND, ENGLAND[1:3], "\U000e007f",
     "&amp;", "amp;", "lt;", "&lt;", "gt;", "<", ">", "b", "<b>", "</b>", "<br>", "<p ", "<!--", "-->", "<script>",
     "</script", "\u200c", "\u200d", "\u200b", "Ã¶", "â€™", "\u0301", "e", "ö", "猫", "می", " ",
     "\x1b[", "31m", "&#38;", "#", "\u00ad", "\ud83d", "\ude00", "👩", "ﬁ", "\x85", "\u1100", "\u1161"]
)  # fmt: skip


@given(lists(PIECES, max_size=12).map("".join) | text())
@example("&&amp;amp;")
def test_cleaning_is_done_once_and_for_all(raw: str) -> None:
    once = clean(raw)
    assert clean(once) == once
    assert unicodedata.normalize("NFC", once) == once
    assert once == " ".join(once.split())
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Co") for c in once)
    once.encode()


@pytest.mark.parametrize(
    ("caption", "words"),
    [("", 0), ("...", 0), ("a cat", 2), ("it's 5 o'clock", 3), ("l'été, 3.14", 2), ("well-known AT&T", 4), ("___", 0),
     ("_a_ b_c", 2), ("一只猫。", 3), ("ねこ cat", 3), ("ビーチの夕日", 4), ("แมว", 3), ("น้ำ", 2), ("большая кошка", 2),
     ("고양이 한 마리", 3), ("सड़क पर लाल बस चल रही है", 7), ("حَافِلَةٌ حَمْرَاءُ فِي الشَّارِعِ", 4), ("தமிழ் மொழி", 2),
     ("می\u200cخواهم", 1), ("cafe\u0301", 1), ("👩\u200d🚀 🇩🇪 ❤️", 0)],
)  # fmt: skip
def test_words_are_counted_in_every_script(caption: str, words: int) -> None:
    assert len(words_of(caption)) == words


LETTERS = characters(categories=("Ll", "Lu"))
MARKS = characters(categories=("Mn", "Mc"), exclude_characters="\u200c\u200d")


@given(lists(tuples(LETTERS, lists(MARKS, max_size=3).map("".join)).map("".join), max_size=8))
def test_no_mark_splits_a_word(letters: list[str]) -> None:
    assert len(words_of("".join(letters))) == (1 if letters else 0)
    assert words_of(" ".join(letters)) == letters
