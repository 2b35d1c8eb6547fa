"""Which codes of a caption's language are codes: BCP 47 by their form, those of two letters by ISO 639-1."""

from __future__ import annotations

import re

# ISO 639-1, and what it had before, which collections still have: bh, iw, in, ji, jw, mo and sh.
CODES = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik in io is it iu iw ja ji jv jw
ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mo mr ms mt my na nb nd ne ng
nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv
sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
TWO_LETTERS = frozenset(CODES.split())
# Language, script, region, variants, private use (RFC 5646). There are thousands of languages of three letters, which
# are taken as they are.
FORM = re.compile(
    r"([a-z]{2,3})(-[a-z]{3}){0,3}(-[a-z]{4})?(-([a-z]{2}|\d{3}))?(-([a-z\d]{5,8}|\d[a-z\d]{3}))*(-x(-[a-z\d]{1,8})+)?",
    re.IGNORECASE,
)


def is_language(code: str) -> bool:
    found = FORM.fullmatch(code)
    return found is not None and (len(found[1]) == 3 or found[1].lower() in TWO_LETTERS)
