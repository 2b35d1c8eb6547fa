"""What a fresh clone relies on: ranges, constraints, the Makefile's messages, and silence on the network."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pairloom import offline

CHECKOUT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8").splitlines()
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [
    one
    for line in (*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines))
    if (one := Requirement(line)).name != "pairloom" and line not in EXTRAS["bench"]
]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions() -> dict[str, str]:
    """The tested version of each package."""
    lines = (line.partition("==") for line in CONSTRAINTS if not line.startswith("#"))
    return {canonical(name): version for name, _, version in lines}


def test_the_metadata_pins_nothing_exactly() -> None:
    assert [str(one) for one in REQUIREMENTS if any(part.operator in ("==", "===") for part in one.specifier)] == []


def test_the_constraints_are_names_and_versions_only() -> None:
    lines = [line for line in CONSTRAINTS if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)] == []
    assert len({canonical(line.partition("==")[0]) for line in lines}) == len(lines)


def test_everything_that_is_asked_for_has_a_tested_version_in_its_range() -> None:
    tested = versions()
    outside = [str(one) for one in REQUIREMENTS if not one.specifier.contains(tested.get(canonical(one.name), "0"))]
    assert outside == []


def test_what_is_installed_here_is_what_the_constraints_say() -> None:
    # Constraints that nobody installed together may contradict each other, and then a fresh clone installs nothing.
    tested = versions()
    ours = [sysconfig.get_path("purelib")]  # setuptools brings packages of its own
    here = {canonical(one.name): one.version.partition("+")[0] for one in importlib.metadata.distributions(path=ours)}
    other = {name: (here[name], tested[name]) for name in here.keys() & tested.keys() if here[name] != tested[name]}
    assert other == {}


def test_the_notice_names_every_package_that_pairloom_asks_for() -> None:
    text = (CHECKOUT / "NOTICE").read_text(encoding="utf-8")
    used = [*PROJECT["dependencies"], *(line for name in EXTRAS.keys() - {"dev", "bench"} for line in EXTRAS[name])]
    missing = {canonical(Requirement(line).name) for line in used} - set(map(canonical, re.findall(r"[\w.-]+\w", text)))
    assert missing == set()


def test_the_environment_is_consistent() -> None:
    command = [sys.executable, "-m", "pip", "check", "--disable-pip-version-check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_make_help_lists_the_targets() -> None:
    shown = subprocess.run(["make", "help"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "lint", "bench", "report", "clean"):
        assert re.search(rf"make {target} +\w", shown), target


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("no-such-python", "There is no no-such-python here"),
        ("false", "pairloom needs Python 3.11 or newer"),  # `false` answers no to the version check, as an old one does
    ],
)
def test_make_says_which_python_it_needs(python: str, message: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    (tmp_path / "install").symlink_to(CHECKOUT / "install")
    command = ["make", "venv", f"PYTHON={python}"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert message in refused.stderr
    assert not (tmp_path / ".venv").exists()


def test_dvc_neither_reports_usage_nor_looks_for_updates() -> None:
    settings = configparser.ConfigParser()
    settings.read_string("".join(map(str.lstrip, (CHECKOUT / ".dvc/config").read_text().splitlines(keepends=True))))
    assert settings["core"]["analytics"] == "false"
    assert settings["core"]["check_update"] == "false"


@pytest.mark.parametrize(
    "room", ["schemas", "formats", "demo", "stages", "trainer", "systems", "evaluation", "inspection", "pipeline"]
)
def test_every_room_turns_off_what_would_phone_home(room: str) -> None:
    script = f"import os, {room}; print(sorted(set({sorted(offline.SETTINGS)}) - set(os.environ)))"
    bare = {name: value for name, value in os.environ.items() if name not in offline.SETTINGS}
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=CHECKOUT, env=bare, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_img2dataset_is_imported_without_a_word_to_the_network() -> None:
    script = (
        "import socket, sys, schemas\n"
        "def refuse(*arguments): sys.exit(f'network: {arguments}')\n"
        "sys.addaudithook(lambda name, arguments: refuse(name, arguments)"
        " if name in ('socket.connect', 'socket.getaddrinfo') else None)\n"
        "import img2dataset.downloader, transformers, datasets"
    )
    bare = {name: value for name, value in os.environ.items() if name not in offline.SETTINGS}
    command = [sys.executable, "-W", "ignore", "-c", script]
    ran = subprocess.run(command, cwd=CHECKOUT, env=bare, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_what_the_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    offline.stay_offline()
    assert os.environ["HF_HUB_OFFLINE"] == "0"
