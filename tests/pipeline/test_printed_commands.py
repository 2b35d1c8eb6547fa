"""Every `pairloom …` that an error, a report or a help text names is a command that there is, with options it takes.

They are collected from the source: strings, f-strings and joined strings, docstrings left out. What is filled in later
counts as any word. What is whole and only looks is run.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import main, parser

HERE = Path(__file__).resolve().parents[2]
ROOMS = ("pairloom", "schemas", "formats", "demo", "stages", "trainer", "systems", "inspection", "install", "pipeline")
ANY = "\N{BULLET}"  # what is filled in when it is printed
LOOKS = ("doctor", "recipe list", "recipe show uniter", "detector list")  # commands that change nothing and end soon


def strings_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of all strings that are no docstrings. One for each way in which a condition in it may go."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented)
            if node.body and isinstance(node.body[0], ast.Expr)}  # fmt: skip
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant | ast.JoinedStr):
            continue
        alone = isinstance(node, ast.Constant) and id(node) not in inner
        if (alone or isinstance(node, ast.JoinedStr)) and id(node) not in docs:
            yield from ((node.lineno, text) for text in ways(node))


def ways(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else [ANY]
    if isinstance(node, ast.JoinedStr):
        return ["".join(parts) for parts in itertools.product(*map(ways, node.values))]
    if isinstance(node, ast.FormattedValue):
        return ways(node.value)
    if isinstance(node, ast.IfExp):
        return [*ways(node.body), *ways(node.orelse)]
    return [ANY]


def printed() -> dict[str, str]:
    """command -> where it is printed."""
    found: dict[str, str] = {}
    for path in sorted(path for room in ROOMS for path in (HERE / room).rglob("*.py")):
        for line, text in strings_of(ast.parse(path.read_text(encoding="utf-8"))):
            for command in re.findall(r"`(?:\.venv/bin/)?pairloom ([^`]*)`", text):
                found.setdefault(command.replace("\n", " "), f"{path.relative_to(HERE)}:{line}")
    return found


def in_texts() -> dict[str, str]:
    """command -> where it stands in the documents and in the files that `init` writes."""
    found: dict[str, str] = {}
    files = [
        HERE / "README.md",
        *(HERE / "docs").rglob("*.md"),
        *(HERE / "examples").rglob("*.md"),
        *(HERE / "pipeline" / "templates").rglob("*"),
    ]
    for path in sorted(path for path in files if path.is_file()):
        text = path.read_text(encoding="utf-8")
        for command in (*re.findall(r"`(?:\.venv/bin/)?pairloom ([^`\n]*)`", text), *in_blocks(text)):
            found.setdefault(command, str(path.relative_to(HERE)))
    return found


def in_blocks(page: str) -> Iterator[str]:
    """The commands in a page's blocks of code, without what a comment says of them."""
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            shown = re.sub(r"(^|\s)#.*|\s>>?\s.*", "", line)
            for command in re.split(r"&&|\|\||;|\s&(?=\s|$)", shown):
                words = re.match(r"\s*(?:[A-Z_]+=\S+ |torchrun [^a-z]*(?:--\S+ )*)*pairloom (.+)", command)
                if words:
                    yield words[1].strip()


def subcommands(of: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def wrong_in(command: str) -> str | None:
    """What is not there: a verb, an option, a choice, or room for so many words. None if all is."""
    at, words = parser(), shlex.split(command)
    while words and (below := subcommands(at)):
        name = words.pop(0)
        if ANY in name or name == "…" or name.isupper():
            return None
        for one in name.split("|"):
            if one not in below:
                return f"no command {one!r}"
            at = below[one]
    places = [action for action in at._actions if not action.option_strings]
    if any(action.nargs == argparse.REMAINDER for action in places):
        return None  # another program's options
    most = sum(1 if action.nargs in (None, "?") else action.nargs if isinstance(action.nargs, int) else 99
               for action in places)  # fmt: skip
    given: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            given.append(word)
            continue
        option = at._option_string_actions.get(word.partition("=")[0])
        if option is None:
            return f"no option {word!r}"
        if option.nargs != 0 and "=" not in word and words and not words[0].startswith("--"):
            value = words.pop(0)
            if option.choices and ANY not in value and not value.isupper() and value not in option.choices:
                return f"{word} takes no {value!r}"
    return f"{len(given)} words where {most} fit" if len(given) > most else None


PRINTED, WRITTEN = printed(), in_texts()


def test_the_commands_that_are_printed_are_found() -> None:
    assert len(PRINTED) > 25
    assert "doctor" in PRINTED
    assert f"stage {ANY}{ANY} --redo" in PRINTED
    assert f"stage {ANY}{ANY}" in PRINTED
    assert not any(where.startswith("tests") for where in PRINTED.values())


@pytest.mark.parametrize("command", PRINTED)
def test_a_printed_command_is_one_that_there_is(command: str) -> None:
    assert wrong_in(command) is None, f"`pairloom {command}` of {PRINTED[command]}"


def test_a_command_in_a_document_is_one_that_there_is() -> None:
    assert len(WRITTEN) > 100
    wrong = {command: (WRITTEN[command], said) for command in WRITTEN if (said := wrong_in(command))}
    assert wrong == {}


@pytest.mark.parametrize(
    ("command", "said"),
    [("stages tags", "no command"), ("stage tags --rebuild", "no option"), ("shards indices x", "no command"),
     ("doctor all more", "words"), ("extract x --format csv", "takes no")],
)  # fmt: skip
def test_a_command_that_there_is_not_would_be_found(command: str, said: str) -> None:
    assert said in (wrong_in(command) or "")


def examples() -> list[str]:
    """The lines of all help texts that show a command, without what they say of it."""
    open_parsers, lines = [parser()], []
    while open_parsers:
        at = open_parsers.pop()
        open_parsers += subcommands(at).values()
        shown = [line.strip() for text in (at.epilog, at.description) for line in (text or "").splitlines()]
        lines += [re.split(r"\s{2,}", line)[0] for line in shown if line.startswith("pairloom ")]
    return sorted(set(lines))


def test_every_example_of_a_help_text_is_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(examples()) > 30
    for line in examples():
        try:
            parser().parse_args(shlex.split(line)[1:])
        except SystemExit:
            pytest.fail(f"{line}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("command", LOOKS)
def test_what_only_looks_runs(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command in PRINTED
    assert main(shlex.split(command)) in (0, 1 if command == "doctor" else 0)
    assert capsys.readouterr().out


def test_what_is_said_of_a_data_project_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"init DIR", "init --refresh ."} <= set(PRINTED)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "DIR"]) == 0
    monkeypatch.chdir(tmp_path / "DIR")
    assert main(["init", "--refresh", "."]) == 0
