"""docs/reference/command-line.md: every command with its arguments and options, from the command line's own parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from inspection.markdown import cell
from pipeline.cli import parser

PAGE = "docs/reference/command-line.md"

HEAD = """# Command line

Written by `python -m pipeline.pages` from the parser of `pairloom`. Edit that, not this page.

This page lists every command with its arguments and options. `pairloom COMMAND --help` prints the same in a terminal.
Every command takes `--json`: it then prints one JSON object on standard output, and its messages on standard error.

| exit code | meaning |
|---|---|
| 0 | the work is done, or nothing was to be done |
| 1 | something is wrong: the error names what, where, and how to fix it. `lint` and `verify` found a fault |
| 2 | wrong usage of the command line |
| 130 | interrupted with Ctrl-C: the same command resumes |
| 141 | whoever read the output has gone, such as `head` |
| 143 | ended with SIGTERM: the same command resumes |
"""


def command_markdown() -> str:
    """The whole page."""
    sections = [line for name, verb, summary in _verbs(parser()) for line in _section(name, verb, summary)]
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def _verbs(of: argparse.ArgumentParser, prefix: str = "pairloom") -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """(its words, its parser, what it does) of each command, those that have commands of their own before these."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, verb in action.choices.items():
                yield f"{prefix} {name}", verb, summaries.get(name, "")
                yield from _verbs(verb, f"{prefix} {name}")


def _section(name: str, verb: argparse.ArgumentParser, summary: str) -> Iterator[str]:
    depth = name.count(" ") + 1
    yield from (f"{'#' * depth} {name}", "", f"{summary[:1].upper()}{summary[1:]}.", "")
    rows = [row for action in verb._actions if (row := _row(action))]
    if rows:
        yield from ("| argument | meaning |", "|---|---|", *rows, "")
    example = (verb.epilog or "").removeprefix("example:").strip()
    if example:
        yield from ("```", *(line.strip() for line in example.splitlines()), "```", "")


def _row(action: argparse.Action) -> str | None:
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.dest == "json":
        return None
    shown = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if action.option_strings and action.nargs != 0:
        shown += f" {_value_of(action)}"
    meaning = (action.help or "") % {**vars(action), "prog": "pairloom"}
    required = " (required)" if action.required and action.option_strings else ""
    return f"| `{_cell(shown)}` | {_cell(meaning)}{required} |"


def _value_of(action: argparse.Action) -> str:
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _cell(text: str) -> str:
    return cell(text).replace("<", "&lt;")
