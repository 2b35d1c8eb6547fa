"""docs/reference/settings.md: every setting of params.yaml with its type, range, default and meaning, from the code."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
import typing
from collections.abc import Iterator
from typing import Any

from inspection.markdown import cell, wrapped
from pairloom.typed import describe, hints_of, ranges_in
from pipeline import stage
from pipeline.config import RunConfig
from stages.sample.settings import Config as SampleConfig
from trainer.loop import Config as TrainConfig

PAGE = "docs/reference/settings.md"
WITHOUT_TABLE = ("run", "train.RECIPE")  # sections of no stage: no setting of theirs makes a shard due

HEAD = """# Settings

Written by `python -m pipeline.pages` from the `Config` of each stage. Edit those, not this page.

`params.yaml` has one section a stage, one for the machine (`run`), and in `train` one a recipe. A setting that is left
out has its default. A key that is not listed here, or a value of another type or range, stops the command before any
work. **Bytes** says whether another value makes other bytes, so that the shards are due again. Where it says no, what
is finished stays.
"""


@dataclasses.dataclass(frozen=True)
class Comments:
    """What the source says of a field: its meaning, and the heading under which it and those after it stand."""

    meaning: str
    heading: str


def sections() -> dict[str, type[Any]]:
    """Section of params.yaml -> the dataclass that it is built into, in the order of the work."""
    stages = {name: stage.load(name).config_type for name in (*stage.order(), *stage.optional())}
    return {"run": RunConfig, "sample": SampleConfig, **stages, "train.RECIPE": TrainConfig}


def settings_markdown() -> str:
    """The whole page."""
    every = sections()
    links = ", ".join(f"[{name}](#{name.replace('.', '').lower()})" for name in every)
    return "\n".join(
        [HEAD, wrapped(f"Sections: {links}."), "", *(_section(name, kind) for name, kind in every.items())]
    )


def _section(name: str, kind: type[Any]) -> str:
    lines = [f"## {name}", "", wrapped(inspect.getdoc(kind) or ""), ""]
    lines += _table(kind, with_bytes=name not in WITHOUT_TABLE)
    for field, hint in hints_of(kind).items():
        for inner in _dataclasses_in(hint):
            lines += ["", f"Each of `{name}.{field}`:", "", *_table(inner, with_bytes=False)]
    return "\n".join([*lines, ""])


def _table(kind: type[Any], with_bytes: bool) -> list[str]:
    names = ["setting", "type", "range", "default", *(["bytes"] if with_bytes else []), "meaning"]
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    plain, ranged, comments = typing.get_type_hints(kind), hints_of(kind), comments_of(kind)
    for item in dataclasses.fields(kind):
        said = comments[item.name]
        if said.heading:
            lines.append(f"| **{cell(said.heading)}** " + "| " * (len(names) - 1) + "|")
        changes = ["yes" if item.metadata.get("affects_output", True) else "no"] if with_bytes else []
        cells = [f"`{item.name}`", describe(plain[item.name]), _range(ranged[item.name]), _default(item), *changes]
        lines.append(f"| {' | '.join(map(cell, [*cells, said.meaning]))} |")
    return lines


def comments_of(kind: type[Any]) -> dict[str, Comments]:
    """Field -> the comment on its line, or above it where it has none there. A comment above another is a heading."""
    found = {}
    for owner in reversed(kind.__mro__):
        if dataclasses.is_dataclass(owner):
            source = textwrap.dedent(inspect.getsource(owner))
            found.update(dict(_comments_in(source)))
    return found


def _comments_in(source: str) -> Iterator[tuple[str, Comments]]:
    comments = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.string.removeprefix("#").strip()
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    own_lines = {number for number, line in enumerate(source.splitlines(), start=1) if line.lstrip().startswith("#")}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            beside = [comments[line] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in comments]
            first = node.lineno
            while first - 1 in own_lines:
                first -= 1
            above = " ".join(comments[line] for line in range(first, node.lineno))
            yield node.target.id, Comments(" ".join(beside), above) if beside else Comments(above, "")


def _dataclasses_in(hint: Any) -> Iterator[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for argument in typing.get_args(hint):
        yield from _dataclasses_in(argument)


def _range(hint: Any) -> str:
    found = list(dict.fromkeys(ranges_in(hint)))
    if len(found) == 1:
        return str(found[0][1])
    return "; ".join(f"{number.__name__}: {range_}" for number, range_ in found)


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        return "none: set it"
    return f"`{json.dumps(item.default, ensure_ascii=False)}`"  # tuples as lists, None as null: as YAML has them
