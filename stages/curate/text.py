"""Clean a caption: undo broken encodings and markup, drop what cannot be seen, and set single spaces."""

from __future__ import annotations

import html.entities
import re
import unicodedata

import ftfy
import regex

# Undo mojibake, lone surrogates, terminal escapes and ligatures like "ﬁ". Curly quotes and the wide forms of Chinese
# and Japanese punctuation are right as they are.
REPAIR = ftfy.TextFixerConfig(
    unescape_html=False, uncurl_quotes=False, fix_character_width=False, normalization="NFC", explain=False
)
ROUNDS = 8  # what is still changing after so many rounds was made to be so. It stays as it is then
ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[0-9A-Za-z]{2,31});")
HIDDEN = re.compile(r"<!--.*?(?:-->|$)|<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)", re.DOTALL | re.IGNORECASE)
INLINE = (
    "a|abbr|acronym|b|bdi|bdo|big|cite|code|del|dfn|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|"
    "tt|u|var|wbr"
)
BLOCK = (
    "address|article|aside|blockquote|body|br|button|caption|center|col|dd|div|dl|dt|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|iframe|img|input|label|li|link|main|meta|nav|ol|option|p|picture|pre|script|section|"
    "select|source|style|table|tbody|td|tfoot|th|thead|title|tr|ul|video"
)
INLINE_TAG = re.compile(rf"</?(?:{INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)
BLOCK_TAG = re.compile(rf"</?(?:{BLOCK})(?:\s[^<>]*)?/?>", re.IGNORECASE)
# Controls (but white space), soft hyphen, zero-width space, word joiner and other invisible operators, byte-order mark,
# direction marks, tag characters, private use, surrogates and non-characters. Tags after a black flag, as in those of
# England and Texas, are group 1 and stay: the code of a region, and the tag that ends it (UTS 51, ED-14a).
UNSEEN = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f)|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufdd0-\ufdef\ufeff\ufff9-\ufffb\ufffe\uffff\ue000-\uf8ff\ud800-\udfff\U000e0000-\U000e0fff\U000f0000-\U0010ffff]"
)
# The joiners shape letters in Persian and Indic scripts and make up emoji. Next to Latin text, a space or an end they
# do nothing that can be seen.
JOINER = re.compile("(?<![^\x00-\u024f\\s])[\u200c\u200d]|[\u200c\u200d](?![^\x00-\u024f\\s])")
PLAIN = re.compile("[\t\n\r !-%'-;=?-~]*")  # ASCII without &, < and controls: nothing can be wrong but the spaces
# A word by Unicode's rules (UAX 29, word boundaries) that has a letter or a digit.
WORD = regex.compile(r"\b_*+[\p{L}\p{N}].*?\b", regex.VERSION1 | regex.WORD | regex.DOTALL)


def clean(text: str) -> str:
    """The caption as training should see it, in NFC. "" if nothing is left. Cleaning what is clean changes nothing.

    HTML tags by their names ("I <3 you" and "<person>" stay), comments, scripts, entities, mojibake, controls and
    zero-width characters go. Every run of white space becomes one space.
    """
    if PLAIN.fullmatch(text):
        return " ".join(text.split())
    for _ in range(ROUNDS):
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    text = ENTITY.sub(_unescaped, text)
    text = HIDDEN.sub(" ", text)
    text = BLOCK_TAG.sub(" ", INLINE_TAG.sub("", text))
    text = ftfy.fix_text(text, REPAIR)
    text = JOINER.sub("", UNSEEN.sub(r"\1", text))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _unescaped(entity: re.Match[str]) -> str:
    """What an entity stands for. One that HTML does not know stays (html.unescape makes &notanentity; begin with ¬)."""
    written = entity[0]
    return html.unescape(written) if written[1] == "#" else html.entities.html5.get(written[1:], written)


def words_of(text: str) -> list[str]:
    """Words by Unicode's rules (UAX 29): "it's" and "3.14" are one, and no combining mark splits any.

    In scripts without spaces every character is one (Chinese, Hiragana, Thai with its marks), but a run of Katakana is.
    """
    return WORD.findall(text)  # type: ignore[no-any-return]
