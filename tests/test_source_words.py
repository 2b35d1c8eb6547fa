"""Words of the source are counted where a reader meets them, and what is owed only shrinks."""

from __future__ import annotations

from tests.plain import INVERTED
from tests.source_words import count, lower, owed, prose_of, semicolons_of, sources

FILE = '''"""A module; it has a docstring."""

x = 1  # beside; it
# noqa; not prose
def f() -> str:
    """`a; b` is code."""
    return "SELECT 1; -- no message" + "it failed; see the log" + "a;b"
'''


def test_comments_docstrings_and_messages_count_and_code_does_not() -> None:
    assert semicolons_of(FILE, messages_too=True) == (3, 1)
    assert semicolons_of(FILE, messages_too=False) == (2, 1)


def test_twenty_sentences_may_have_a_semicolon() -> None:
    assert semicolons_of('"""' + "A claim. " * 60 + '"""', messages_too=False)[1] == 3


def test_an_inverted_comment_is_found() -> None:
    assert INVERTED.findall(prose_of("# A claim. Built are houses\n")[0]) == ["Built are"]
    assert not INVERTED.findall(prose_of("# Houses are built.\n")[0])


def test_what_is_owed_never_grows() -> None:
    counts = {"grown.py": (9, 1), "mended.py": (1, 1), "better.py": (3, 1)}
    assert lower(counts, {"grown.py": 5, "mended.py": 4, "better.py": 4, "gone.py": 2}) == {
        "grown.py": 5,
        "better.py": 3,
    }


def test_what_is_owed_is_of_files_that_there_are_and_that_have_it() -> None:
    worst = max(owed(), key=owed().__getitem__)
    found, few = count(worst)
    assert worst in sources()
    assert few < found <= owed()[worst]
