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

    def run_branch(self, path: str, function: str, condition: str) -> None:
        """Run the body of the first `if` with this condition in a function, where the code that counts has no name."""
        text = (self.folder / path).read_text(encoding="utf-8")
        tree = ast.parse(source_of(text, function))
        branch = next(
            node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == condition
        )
        module = ast.Module(branch.body, [])
        digest = hashlib.sha256(ast.unparse(module).encode()).hexdigest()
        name = f"{function}: if {condition}"
        source = {"path": path, "commit": self.commit, "name": name, "sha256": digest}
        if source not in self.sources:
            self.sources.append(source)
        exec(compile(module, f"{self.repository}/{path}", "exec"), self.scope)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.scope[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def facts(self) -> Mapping[str, Any]:
        return {"repository": self.repository, "sources": self.sources}


def source_of(text: str, name: str) -> str:
    """The lines of one definition with its decorators, moved to the left margin."""
    inside: Any = ast.parse(text)
    for part in name.split("."):
        kinds = (ast.FunctionDef, ast.ClassDef)
        inside = next(node for node in inside.body if isinstance(node, kinds) and node.name == part)
    first = min([inside.lineno, *(decorator.lineno for decorator in inside.decorator_list)])
    lines = text.splitlines()[first - 1 : inside.end_lineno]
    return textwrap.dedent("\n".join(lines)) + "\n"
