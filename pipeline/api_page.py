"""docs/reference/python.md: what `import pairloom` offers, with signatures and docstrings from the source."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import textwrap
from collections.abc import Iterator
from typing import Any

import pairloom
from inspection.markdown import table, wrapped
from pipeline.settings_page import comments_of

PAGE = "docs/reference/python.md"
GROUPS = {  # heading -> its names, in the order in which a reader meets them. A test holds them to pairloom.__all__
    "Tables on disk": ("open_table", "Folder", "verify", "Problem"),
    "The loader": ("Loader", "Options", "Mixture", "Mix"),
    "Batches": ("ColumnBatch", "Batch"),
    "Plans": ("Plan", "Text", "Draw", "Pair", "Question"),
}
HEAD = """# Python

Written by `python -m pipeline.pages` from the docstrings of `pairloom/`. Edit those, not this page.

For people whose own program reads tables or trains on shards. `import pairloom` is the one package for that. It imports
no other package of this project. Names that need torch load it when they are used (`pip install 'pairloom[train]'`).
What is not on this page may change in any version. [The loader](loader.md) explains order, resuming and ranks, and
[errors](errors.md) has every error.

In the shapes B is rows, T words, R regions, D the width of a feature, K class probabilities, S pixels of a side.
"""
SHOWN = ("__len__", "__iter__", "__getitem__")  # methods with a name of Python's that a user calls without it
WIDEST = 100  # characters of a signature on one line


def api_markdown() -> str:
    """The whole page."""
    lines = [HEAD]
    for heading, names in GROUPS.items():
        lines += [f"## {heading}", ""]
        for name in names:
            lines += _section(name, getattr(pairloom, name))
    links = [f"[{name}](errors.md#{name.lower()})" for name in pairloom.__all__ if name not in _grouped()]
    return "\n".join([*lines, "## Errors", "", wrapped(f"{', '.join(links)}.")]) + "\n"


def _grouped() -> set[str]:
    return {name for names in GROUPS.values() for name in names}


def _section(name: str, value: Any) -> Iterator[str]:
    yield from (f"### {name}", "")
    fields = dataclasses.is_dataclass(value)
    if fields or getattr(value, "_is_protocol", False):
        yield from _code([f"class {name}"])
    else:
        yield from _code(_signature(name, value))
    yield from (inspect.getdoc(value) or "", "")
    if fields:
        yield from _fields(value)
    if isinstance(value, type):
        for member, kind in _members(value):
            yield from _member(member, kind)


def _fields(value: type[Any]) -> Iterator[str]:
    comments = comments_of(value)
    rows = [
        (f"`{item.name}`", f"`{item.type}`", _default(item), comments[item.name].meaning)
        for item in dataclasses.fields(value)
        if not item.name.startswith("_")
    ]
    return table(("field", "type", "default", "meaning"), rows)


def _default(item: dataclasses.Field[Any]) -> str:
    if callable(item.default_factory):
        return f"`{item.default_factory()!r}`"
    return "" if item.default is dataclasses.MISSING else f"`{item.default!r}`"


def _members(value: type[Any]) -> Iterator[tuple[str, Any]]:
    """Public methods and properties, by their place in the source, those of a base class first."""
    for owner in reversed(value.__mro__):
        if owner.__module__.startswith("pairloom"):
            for name, member in vars(owner).items():
                shown = not name.startswith("_") or name in SHOWN
                if shown and isinstance(member, property | functools.cached_property) | inspect.isfunction(member):
                    yield name, member


def _member(name: str, member: Any) -> Iterator[str]:
    """A method or property as an entry of a list, what it does below it."""
    if inspect.isfunction(member):
        signature = " ".join(_signature(name, member, math.inf))
    else:
        function: Any = member.fget if isinstance(member, property) else member.func
        signature = f"{name}: {inspect.signature(function).return_annotation}"
    yield "-" + wrapped(f"`{signature}`", "  ")[1:]
    if doc := inspect.getdoc(member):
        yield from ("", "\n\n".join(wrapped(part, "    ") for part in doc.split("\n\n")))
    yield ""


def _signature(name: str, value: Any, widest: float = WIDEST) -> list[str]:
    """As the source has it, without `self`. A parameter a line where it is long."""
    function: Any = vars(value)["__init__"] if isinstance(value, type) else value
    signature, defaults, parts = inspect.signature(function), _defaults(function), []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in parts:
            parts.append("*")
        default = f" = {defaults[parameter.name]}" if parameter.name in defaults else ""
        parts.append(f"{parameter.name}: {parameter.annotation}{default}")
    returns = "" if isinstance(value, type) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(parts)}){returns}"
    return [line] if len(line) <= widest else [f"{name}(", *(f"    {part}," for part in parts), f"){returns}"]


def _defaults(function: Any) -> dict[str, str]:
    """Parameter -> its default in the words of the source."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    arguments = [*node.args.posonlyargs, *node.args.args]
    given = dict(zip(reversed(arguments), reversed(node.args.defaults), strict=False))
    given.update(
        {name: value for name, value in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if value}
    )
    return {argument.arg: ast.unparse(value) for argument, value in given.items()}


def _code(lines: list[str]) -> Iterator[str]:
    yield from ("```text", *lines, "```", "")
