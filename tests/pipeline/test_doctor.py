"""`pairloom doctor`: it finds what is missing, names the cure, and fails only for what is required."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipeline import doctor
from pipeline.cli import main


def by_name(checks: list[doctor.Check]) -> dict[str, doctor.Check]:
    return {check.name: check for check in checks}


def test_this_environment_is_well_but_for_files_and_gpus() -> None:
    checks = doctor.report()
    unwell = [check for check in checks if not check.ok and check.topic not in ("files", "device")]
    assert unwell == []
    found = by_name(checks)
    assert found["torch"].found == importlib.metadata.version("torch")
    assert found["nms on cpu"].found == "runs"
    assert "imports from" in found["detectron2"].found


def test_everything_that_is_missing_comes_with_a_cure() -> None:
    for check in doctor.report():
        assert check.ok or check.cure or check.topic == "device", check


@pytest.mark.parametrize(
    ("wanted", "ok", "found"),
    [
        ("numpy>=1", True, importlib.metadata.version("numpy")),
        ("numpy<1", False, f"{importlib.metadata.version('numpy')}, but <1 is needed"),
        ("no-such-package-of-ours>=1", False, "not installed"),
    ],
)
def test_a_package_is_there_and_in_its_range_or_is_named_with_a_cure(wanted: str, ok: bool, found: str) -> None:
    check = doctor.package(Requirement(wanted))
    assert (check.ok, check.found, bool(check.cure)) == (ok, found, not ok)


def test_a_package_of_an_extra_may_be_missing_and_its_extra_is_the_cure() -> None:
    check = doctor.package(Requirement("no-such-package-of-ours>=1"), "regions")
    assert (check.ok, check.required, check.cure) == (False, False, "install pairloom[regions]")
    assert doctor.package(Requirement("numpy<1"), "regions").required  # a wrong version does harm, an absent one none


def test_the_extras_that_are_looked_at_are_those_of_all() -> None:
    project = tomllib.loads((doctor.CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (every,) = project["optional-dependencies"]["all"]
    assert Requirement(every).extras == set(doctor.EXTRAS)


def test_a_torchvision_whose_operators_do_not_load_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr("torchvision.ops.nms", broken)
    check = doctor.nms_on("cpu")
    assert (check.ok, check.found) == (False, "RuntimeError: operator torchvision::nms does not exist")
    assert "belong together" in check.cure


def test_missing_weights_are_required_and_git_brings_them_back(tmp_path: Path) -> None:
    missing = doctor.starter(doctor.CHECKOUT / "stages/regions/no-such.safetensors")
    assert missing.required
    assert not missing.ok
    assert missing.cure == "git checkout -- stages/regions/no-such.safetensors"
    (tmp_path / "weights.safetensors").write_bytes(bytes(2_000_000))
    assert doctor.starter(tmp_path / "weights.safetensors").found == "weights.safetensors, 2.0 MB"


def test_a_missing_browser_is_told_but_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check = doctor.browser()
    assert not check.ok
    assert not check.required
    assert "chromium" in check.cure


def test_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1024**3)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    check = doctor.disk(tmp_path)
    assert not check.ok
    assert "1.0 GiB free" in check.found


@pytest.mark.parametrize("well", [True, False])
def test_the_command_prints_one_object_and_fails_only_for_what_is_required(
    well: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    optional = doctor.Check(topic="files", name="browser", found="none", ok=False, required=False, cure="get one")
    required = doctor.Check(topic="works", name="nms on cpu", found="broken", ok=well, cure="" if well else "repair it")
    monkeypatch.setattr(doctor, "report", lambda: [optional, required])
    assert main(["doctor", "--json"]) == (0 if well else 1)
    printed = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in printed["checks"]] == ["browser", "nms on cpu"]
    main(["doctor"])
    shown = capsys.readouterr().out
    assert "cure: get one" in shown
    assert ("cure: repair it" in shown) is not well


def test_an_environment_of_the_base_alone_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {one.name: importlib.metadata.version(one.name) for one in doctor.asked_for()[""]}
    # A new environment of Python 3.11 has setuptools 65, which the extra `regions` would replace.
    monkeypatch.setattr(doctor, "version_of", {**versions, "setuptools": "65.5.0"}.get)
    monkeypatch.setitem(sys.modules, "torch", None)
    checks = [*doctor.packages(), doctor.detectron2(), *doctor.working_nms()]
    assert [check.name for check in checks if check.required and not check.ok] == []
    cures = {name: check.cure for name, check in by_name(checks).items()}
    assert cures["setuptools"] == cures["torchvision"] == "install pairloom[regions]"
    assert cures["detectron2"].startswith("install pairloom[regions], then")
    assert cures["numpy"] == ""
