"""The command line and addresses: what cannot work with one says so by name, and writes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import main, parser
from pipeline.verbs.common import local

ADDRESS = "s3://nobody-has-this/folder"


def commands(root: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    below = [action for action in root._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield words, root
    for action in below:
        for name, each in action.choices.items():
            yield from commands(each, *words, name)


def paths() -> list[tuple[tuple[str, ...], str]]:
    """(command, argument) of every path that a command takes."""
    return [
        (words, (action.option_strings or [action.dest])[0])
        for words, each in commands(parser())
        for action in each._actions
        if action.type is local
    ]


@pytest.mark.parametrize(("words", "argument"), paths(), ids=str)
def test_a_path_that_is_an_address_is_refused_by_name(
    words: tuple[str, ...],
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [ADDRESS] * 3 if not argument.startswith("--") else ["x", argument, ADDRESS]
    with pytest.raises(SystemExit) as stop:
        main([*words, *named])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert f"{ADDRESS}: this takes a folder of this machine" in said
    assert f"`pairloom push DIR {ADDRESS}` copies one there" in said
    assert not list(tmp_path.iterdir())


def test_no_command_takes_a_bare_path() -> None:
    bare = [words for words, each in commands(parser()) for action in each._actions if action.type is Path]
    assert not bare


def test_another_dataset_to_reuse_must_lie_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--urls", "demo", "--out", "d", "--set", f"run.reuse={ADDRESS}"]) == 1
    assert f"where: {ADDRESS}" in capsys.readouterr().err
