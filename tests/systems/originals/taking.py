"""Functions and classes taken by name out of original source files, and run where apex or horovod is not installed.

The files are the user's: a folder that has each repository as OWNER/NAME, with the files of the commits that the .json
file names.
"""

from __future__ import annotations

import ast
import hashlib
import math
import random
import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# Bytes were masks in the torch of then. Torch of today takes booleans alone.
OLD_TORCH = SimpleNamespace(**{**vars(torch), "uint8": torch.bool, "ByteTensor": torch.BoolTensor})


class Originals:
    """One repository's code. Names are taken into one scope, where they see each other and what was put there.

    sources: of each that was taken: path, commit, name and the SHA-256 of its text, facts about the original.
    """

    def __init__(self, folder: Path, repository: str, commit: str) -> None:
        self.folder, self.repository, self.commit = folder / repository, repository, commit
        self.sources: list[dict[str, str]] = []
        self.scope: dict[str, Any] = {
            "torch": OLD_TORCH, "nn": nn, "F": F, "np": np, "math": math, "random": random,
            "CrossEntropyLoss": nn.CrossEntropyLoss,
        }  # fmt: skip

    def put(self, **names: Any) -> None:
        """What stands for an import of the file."""
        self.scope |= names

    def take(self, path: str, *names: str, commit: str | None = None) -> None:
        """Functions, classes and methods (CLASS.METHOD), as functions of the scope.

        commit: where a file was read at another than the repository's.
        """
        text = (self.folder / path).read_text(encoding="utf-8")
        for name in names:
            found = source_of(text, name)
            digest = hashlib.sha256(found.encode()).hexdigest()
            self.sources.append({"path": path, "commit": commit or self.commit, "name": name, "sha256": digest})
            exec(compile(found, f"{self.repository}/{path}", "exec"), self.scope)

    def run_branch(self, path: str, function: str, opening: str, holding: str = "") -> None:
        """Run the body of the first `if` or `with` of a function, where the code that counts has no name.

        opening: how it opens, such as `if opts.adv_training`. holding: what its body has.
        """
        text = (self.folder / path).read_text(encoding="utf-8")
        tree = ast.parse(source_of(text, function))
        bodies = (ast.Module(body, []) for start, body in map(opened, ast.walk(tree)) if start == opening)
        module = next(body for body in bodies if holding in ast.unparse(body))
        digest = hashlib.sha256(ast.unparse(module).encode()).hexdigest()
        name = f"{function}: {opening}"
        source = {"path": path, "commit": self.commit, "name": name, "sha256": digest}
        if source not in self.sources:
            self.sources.append(source)
        exec(compile(module, f"{self.repository}/{path}", "exec"), self.scope)

    def run_file(self, path: str, **names: Any) -> None:
        """Run a whole script but its imports, for which `names` stand."""
        text = (self.folder / path).read_text(encoding="utf-8")
        body = [node for node in ast.parse(text).body if not isinstance(node, ast.Import | ast.ImportFrom)]
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.sources.append({"path": path, "commit": self.commit, "name": "all", "sha256": digest})
        exec(compile(ast.Module(body, []), f"{self.repository}/{path}", "exec"), self.scope | names)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.scope[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def facts(self) -> Mapping[str, Any]:
        return {"repository": self.repository, "sources": self.sources}


def opened(node: ast.AST) -> tuple[str, list[ast.stmt]]:
    """(how an `if` or a `with` opens, its body), of anything else nothing."""
    if isinstance(node, ast.If):
        return f"if {ast.unparse(node.test)}", node.body
    if isinstance(node, ast.With):
        return f"with {ast.unparse(node.items[0].context_expr)}", node.body
    return "", []


def source_of(text: str, name: str) -> str:
    """The lines of one definition with its decorators, moved to the left margin."""
    inside: Any = ast.parse(text)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        inside = next(node for node in inside.body if isinstance(node, kinds) and node.name == part)
    first = min([inside.lineno, *(decorator.lineno for decorator in inside.decorator_list)])
    lines = text.splitlines()[first - 1 : inside.end_lineno]
    return textwrap.dedent("\n".join(lines)) + "\n"
