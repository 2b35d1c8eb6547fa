"""Counts what can be counted of plain English in the source: comments, docstrings and messages.

A file may have a semicolon for each twenty of its sentences, or one, and no inverted sentence such as "Built are …".
source_words.owed lists the files that have more, with how many they may have until they are rewritten. It only shrinks:
`python -m tests.source_words` takes out what has been mended.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
from collections.abc import Iterator

from tests.plain import HERE, INVERTED, SENTENCE

OWED = HERE / "tests/source_words.owed"
A_SEMICOLON = 20  # sentences
CODE = re.compile(r"`[^`]*`")
DIRECTIVES = ("noqa", "type:", "fmt:", "mypy:", "ruff:", "pragma")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
IN_A_MESSAGE = re.compile(r"[a-z)\"'\]]; [a-z]")  # between two clauses, and not in SQL or CSS


def owed() -> dict[str, int]:
    """File -> the semicolons that it may have."""
    lines = (line.split() for line in OWED.read_text(encoding="utf-8").splitlines())
    return {name: int(count) for count, name in lines}


def sources() -> Iterator[str]:
    """The Python files that git knows."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=HERE, capture_output=True, text=True, check=True)
    yield from (name for name in listed.stdout.split() if (HERE / name).is_file())


def prose_of(source: str) -> tuple[str, list[str]]:
    """(comments and docstrings, messages) of a file, without the code that they quote."""
    tree = ast.parse(source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT]
    said = "\n".join(comment for comment in comments if not comment.startswith(DIRECTIVES))
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    docs = [ast.get_docstring(node) or "" for node in nodes]
    own = {id(node.body[0].value) for node in nodes if node.body and isinstance(node.body[0], ast.Expr)}
    messages = [
        CODE.sub("it", node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in own
    ]
    return CODE.sub("it", "\n\n".join([said, *docs])), messages


def semicolons_of(source: str, messages_too: bool) -> tuple[int, int]:
    """(semicolons, how many there may be without owing any)."""
    said, messages = prose_of(source)
    count = said.count(";") + (sum(len(IN_A_MESSAGE.findall(text)) for text in messages) if messages_too else 0)
    return count, max(1, len(SENTENCE.findall(said)) // A_SEMICOLON)


def count(name: str) -> tuple[int, int]:
    """The same of a file of the tree. The strings of tests are data, and do not count."""
    messages_too = not name.startswith(("tests/", "benchmarks/"))
    return semicolons_of((HERE / name).read_text(encoding="utf-8"), messages_too)


def faults() -> Iterator[str]:
    """What is wrong with the words of the source."""
    allowed = owed()
    for name in sources():
        found, few = count(name)
        most = max(few, allowed.get(name, 0))
        if found > most:
            yield f"{name}: {found} semicolons in comments, docstrings and messages, {most} may be: write two sentences"
        for inverted in INVERTED.findall(prose_of((HERE / name).read_text(encoding="utf-8"))[0]):
            yield f'{name}: "{inverted}": write subject, verb, object'


def lower(counts: dict[str, tuple[int, int]], allowed: dict[str, int]) -> dict[str, int]:
    """What is still owed: of each file no more than before, and nothing of a file that has gone or is mended."""
    left = {name: min(most, counts[name][0]) for name, most in allowed.items() if name in counts}
    return {name: most for name, most in left.items() if most > counts[name][1]}


if __name__ == "__main__":
    left = lower({name: count(name) for name in sources()}, owed())
    OWED.write_text("".join(f"{most} {name}\n" for name, most in sorted(left.items())), encoding="utf-8")
