"""The blocks of code of the docs, and how each kind is run in a folder that holds what the pages name.

A comment before a block says why it is not run (`<!-- not run: it needs an account -->`) or which test runs it
(`<!-- run by tests/pipeline/test_dvc.py -->`). A block of the language `text` is no code.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.cli import main, parser
from pipeline.params import Params, check_sections, check_settings
from stages.regions import catalogue
from systems import recipes
from tests.words import GENERATED

HERE = Path(__file__).parents[1]

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>not run|run by):? (?P<said>[^\n]+?) -->\n\n?)?^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
SHELL = ("", "bash", "sh")
MAY_DIFFER = ("diff", "doctor")  # commands that exit 1 where they find something
SERVES = ("browse",)  # commands without an end: tests/inspection/browse runs them
FETCHES = ("run", "retry")
# What there are few of here, and what a page's machine has that this one lacks.
FEW = {"import": ["--set", "shards.val_share=0.3"], "train": ["--steps", "2", "--size", "tiny"]}
HERE_INSTEAD = re.compile(r"^(\w+=)?(?:/data/|/shared/|s3://bucket/)")
WITHOUT_WEIGHTS = ("butd-r101", "starter")


@dataclass(frozen=True)
class Block:
    """A block of code of a page; mark: "not run", "run by" or "", said: why, or the test."""

    page: str
    line: int
    language: str
    code: str
    mark: str
    said: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every block of code of README and docs/ that is not of a generated page."""
    for path in (HERE / "README.md", *sorted((HERE / "docs").rglob("*.md"))):
        page = path.read_text(encoding="utf-8")
        if GENERATED not in page:
            yield from blocks_of(page, str(path.relative_to(HERE)))


def blocks_of(page: str, name: str) -> Iterator[Block]:
    """The blocks of a page's text."""
    for found in BLOCK.finditer(page):
        if found["language"] != "text":
            line = page.count("\n", 0, found.start("code"))
            yield Block(name, line, found["language"], found["code"], found["mark"] or "", found["said"] or "")


def run(block: Block, host: str) -> None:
    """Do what the block says, in the working folder; host: the server that lists may name."""
    if block.language in SHELL:
        for words in commands(block.code):
            run_command(words, host)
    elif block.language == "python":
        exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})
    elif block.language == "yaml":
        check_yaml(block.code)
    else:
        raise AssertionError(f"{block}: nobody knows how to run {block.language}; mark it, or call it text")


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command. `&&` joins two. Raises AssertionError at a program that is not pairloom."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            assert command[0] == "pairloom", f"only commands of pairloom are run here: {command}"
            yield command[1:]


def run_command(words: list[str], host: str) -> None:
    """In this process, on few rows. A cluster's address becomes this process."""
    words = [HERE_INSTEAD.sub(r"\1disk/", word).replace(*WITHOUT_WEIGHTS) for word in words]
    words = ["scenes.yaml" if word == "demo" else word for word in words]
    verb, options = words[0], options_of(words)
    if verb in SERVES:
        parser().parse_args(words)
        return
    few = FEW.get(verb, []) if verb != "import" or "--shards" in words else []
    more = [word for pair in zip(few[::2], few[1::2], strict=True) if pair[0] not in words for word in pair]
    if "--cluster" in options:
        if "--cluster" in words:
            del words[words.index("--cluster") : words.index("--cluster") + 2]
        more += ["--cluster", "inline"]
    if "--allow-host" in options:
        more += ["--allow-host", host]
    elif verb in FETCHES:
        more += ["--set", f"download.allow_hosts=['{host}']"]
    code = main([*words, *more])
    assert code in ((0, 1) if verb in MAY_DIFFER else (0,)), f"pairloom {' '.join([*words, *more])} exited {code}"


def options_of(words: list[str]) -> set[str]:
    """The options that the command takes."""
    at = parser()
    for word in words:
        below = [action for action in at._actions if isinstance(action, argparse._SubParsersAction)]
        if not below or word not in below[0].choices:
            break
        at = below[0].choices[word]
    return set(at._option_string_actions)


def check_yaml(code: str) -> None:
    """The block is a recipe, a detector or sections of params.yaml, and is taken as one. Raises a PairloomError."""
    document = yaml.safe_load(code)
    if "extends" in document:
        Path("block.yaml").write_text(code, encoding="utf-8")
        recipes.load("block.yaml")
    elif "base" in document:
        Path("block.yaml").write_text(code, encoding="utf-8")
        catalogue.load("block.yaml")
    else:
        params = Params(document, "params.yaml")
        check_sections(params)
        check_settings(params)
