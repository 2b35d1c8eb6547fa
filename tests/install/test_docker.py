"""The Dockerfile names files, extras and commands that there are. No engine is at hand to build it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import dask.config
from distributed.cli import dask_worker

from pipeline.cli import parser

CHECKOUT = Path(__file__).resolve().parents[2]
TEXT = (CHECKOUT / "Dockerfile").read_text(encoding="utf-8")


def test_what_it_installs_is_there() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = re.findall(r"'\.\[(\w+)\]'", TEXT)
    assert extra in project["optional-dependencies"]
    (constraints,) = re.findall(r"--constraint (\S+)", TEXT)
    assert (CHECKOUT / constraints).is_file()


def test_its_commands_are_commands() -> None:
    assert re.search(r"pairloom setup detectron2$", TEXT, re.MULTILINE)
    arguments = parser().parse_args(["setup", "detectron2"])
    assert arguments.command.__name__ == "detectron2"
    instructions = {line.split()[0] for line in TEXT.splitlines() if re.match(r"[A-Z]+ ", line)}
    assert instructions == {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD", "ARG"}


def test_its_worker_takes_these_arguments_and_may_start_processes() -> None:
    (arguments,) = re.findall(r"dask worker (.+)$", TEXT, re.MULTILINE)
    parsed = dask_worker.main.make_context("worker", arguments.split())
    assert (parsed.params["scheduler"], parsed.params["nthreads"]) == ("tcp://host:8786", 1)
    (name, value) = re.findall(r"(DASK_\w+)=(\w+)", TEXT)[0]
    assert dask.config.collect_env({name: value}) == {"distributed": {"worker": {"daemon": False}}}
    assert dask.config.get("distributed.worker.daemon") is True  # it is a setting, and not a misspelt one
