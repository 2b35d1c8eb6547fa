"""`pairloom init`: a data project of one's own. `pairloom setup`: what pip cannot install by itself."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pairloom.errors import ConfigError, RunError
from pipeline.verbs.common import Outcome, add_verb, local


def add(verbs: Any) -> None:
    verb = add_verb(
        verbs,
        "init",
        init,
        "write a data project: dvc.yaml and params.yaml for your own list, and set up DVC",
        "pairloom init my-data --urls my.csv",
    )
    verb.add_argument("folder", type=local, metavar="DIR")
    verb.add_argument(
        "--urls",
        help="csv, tsv, txt, json, jsonl or parquet list (default: urls.csv in DIR); or a data set, with --as",
    )
    verb.add_argument("--as", dest="format", metavar="FORMAT", help="what the data set is: coco, webdataset, … or auto")
    verb.add_argument(
        "--refresh",
        action="store_true",
        help="after an upgrade: only write versions.yaml again, and add to .gitignore what it lacks",
    )
    verb = add_verb(
        verbs,
        "repro",
        repro,
        "`dvc repro` with this environment's programs first, so that it need not be activated",
        "pairloom repro train@uniter --force",
    )
    verb.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="what `dvc repro` takes")
    group = verbs.add_parser(
        "setup", help="install what pip cannot install", description="install what pip cannot install"
    )
    group = group.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_verb(group, "detectron2", detectron2, "detectron2 as a pure Python wheel", "pairloom setup detectron2")


def init(arguments: argparse.Namespace) -> Outcome:
    """The files of a data project, and `dvc init`. A list of this machine is named by its path from the project."""
    from formats import datasets
    from pipeline import project
    from pipeline.verbs.importing import look

    folder = arguments.folder
    if arguments.refresh:
        return _refreshed(folder)
    if shutil.which("dvc") is None:
        raise ConfigError(
            "the program dvc is not on PATH", "PATH", "install pairloom[dvc], or activate its environment"
        )
    format = arguments.format
    if format == "auto" and arguments.urls:
        format = look(arguments.urls)
    if format is not None:
        datasets.load(format)  # raises ConfigError if there is none of that name
    files = project.write(folder, _from_project(arguments.urls, folder), format)
    _dvc_init(folder)
    text = "\n".join(["wrote " + ", ".join(file.name for file in files), f"next: cd {folder} && dvc repro"])
    return Outcome({"folder": str(folder), "files": [file.name for file in files]}, text)


def _refreshed(folder: Path) -> Outcome:
    """What an upgrade changes in a project."""
    from pipeline import project

    changed, ignored = project.refresh(folder), project.ignore(folder)
    lines = [f"changed since: {', '.join(changed)}. `dvc repro` reruns what depends on them"] if changed else []
    lines += [f"added to .gitignore: {', '.join(ignored)}"] if ignored else []
    return Outcome({"changed": changed, "ignored": ignored}, "\n".join(lines) or "no change")


def repro(arguments: argparse.Namespace) -> Outcome:
    """DVC runs `pairloom stage …` by its name, which is found only where this environment is on PATH."""
    if importlib.util.find_spec("dvc") is None:
        raise ConfigError("the package dvc is not installed", sys.prefix, "install pairloom[dvc]")
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    command = [sys.executable, "-m", "dvc", "repro", *arguments.arguments]
    return Outcome(exit_code=subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode)


def _from_project(urls: str | None, folder: Path) -> str:
    """The list as params.yaml names it: dvc runs in the project's folder."""
    if urls is None:
        return "urls.csv"
    if "://" in urls:
        return urls
    path = Path(urls)
    if not path.exists():
        raise ConfigError("there is no such list", urls, "check the path given as --urls")
    inside = path.resolve().is_relative_to(folder.resolve())
    return str(path.resolve().relative_to(folder.resolve())) if inside else str(path.resolve())


def _dvc_init(folder: Path) -> None:
    """DVC's own files: in the git repository that the folder is in, else without one. Those that are there stay."""
    if (folder / ".dvc").is_dir():
        return
    top = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=folder, capture_output=True, text=True, check=False
    )
    kinds = ["--no-scm"] if top.returncode else [] if Path(top.stdout.strip()) == folder.resolve() else ["--subdir"]
    commands = [
        ["dvc", "init", "-q", *kinds],
        ["dvc", "config", "core.analytics", "false"],
        ["dvc", "config", "core.check_update", "false"],
    ]
    for command in commands:
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise RunError(f"`{' '.join(command)}` failed: {ran.stderr.strip()}", str(folder), "run it there by hand")


def detectron2(arguments: argparse.Namespace) -> Outcome:
    """Leave a working detectron2 in this environment."""
    from install.pure_detectron2 import ensure_installed

    print("detectron2: looking at what is there", file=sys.stderr)
    done = ensure_installed()
    return Outcome({"detectron2": done}, f"detectron2: {done}")
