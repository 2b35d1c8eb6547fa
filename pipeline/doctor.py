"""What `pairloom doctor` looks at: versions, devices, disk and files. Each missing thing with its cure."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import psutil
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).resolve().parents[1]
REINSTALL = "run `make venv` in the checkout, or `pip install -c constraints.txt -e '.[all,dev]'` in your environment"
EXTRAS = (
    "regions",
    "train",
    "demo",
    "dvc",
    "sql",
    "formats",
    "audit",
    "browse",
    "bucket",
    "cluster",
    "score",
)  # what `all` brings
GIB = 1024**3
NONE = "none"
MIN_FREE_GIB = 2  # the demo writes under 0.2. A full disk shows much later, and worse
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at. Only a required one that is not ok makes `pairloom doctor` fail."""

    topic: str  # packages, works, device, disk, files
    name: str
    found: str
    ok: bool = True
    required: bool = True
    cure: str = ""  # empty where all is well


def report() -> list[Check]:
    """Everything, in the order in which it is printed. Takes a few seconds, as it imports torch and detectron2."""
    return [python(), *packages(), detectron2(), *working_nms(), *devices(), disk(Path.cwd()), starter(), browser()]


def text(checks: list[Check]) -> str:
    """The checks for people: packages that are well in one paragraph, everything else a line each, cures below."""
    well = [check for check in checks if check.topic == "packages" and check.ok]
    versions = textwrap.fill(", ".join(f"{check.name} {check.found}" for check in well), 100)
    lines = ["packages", textwrap.indent(versions, "  ")] if well else []
    for topic in dict.fromkeys(check.topic for check in checks):
        others = [check for check in checks if check.topic == topic and check not in well]
        lines += [topic] if others and topic != "packages" else []
        lines += [line for check in others for line in lines_of(check)]
    failed = sum(check.required and not check.ok for check in checks)
    here = "works" if all(check.topic == "bucket" for check in checks) else "is here"
    return "\n".join([*lines, f"{failed} required things are missing" if failed else f"all that is required {here}"])


def lines_of(check: Check) -> list[str]:
    mark = "ok " if check.ok else "NO " if check.required else "-  "
    return [f"  {mark} {check.name}: {check.found}", *([f"      cure: {check.cure}"] if check.cure else [])]


def python() -> Check:
    """Python's own version and the machine."""
    found = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    ok = sys.version_info >= (3, 11)
    return Check(topic="packages", name="python", found=found, ok=ok, cure="" if ok else "make venv PYTHON=python3.12")


def packages() -> list[Check]:
    """Each package that pairloom's own metadata asks for: there, and in the range asked for. Those of extras once."""
    asked = asked_for()
    if not asked:
        return [Check(topic="packages", name="pairloom", found="not installed", ok=False, cure=REINSTALL)]
    found: dict[str, Check] = {}
    for extra, wanted in asked.items():
        in_use = not extra or installed(wanted)
        found |= {one.name: package(one, extra, in_use) for one in wanted if in_use or one.name not in found}
    return list(found.values())


def asked_for() -> dict[str, list[Requirement]]:
    """What the base ("") and each extra of `all` ask for. Nothing where pairloom is not installed."""
    try:
        requires = importlib.metadata.requires("pairloom") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    wanted = [one for one in map(Requirement, requires) if one.name != "pairloom"]
    base = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    rest = [(one, one.marker) for one in wanted if one.marker and one not in base]
    return {"": base, **{name: [one for one, asks in rest if asks.evaluate({"extra": name})] for name in EXTRAS}}


def installed(wanted: list[Requirement]) -> bool:
    """Whether all of these are there, in any version: an extra of which a package is missing is not in use."""
    return all(version_of(one.name) is not None for one in wanted)


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def package(wanted: Requirement, extra: str = "", in_use: bool = True) -> Check:
    """One package against the range that is asked for. That of an extra may be missing, or old if not in use."""
    found = version_of(wanted.name)
    install = f"install pairloom[{extra}]" if extra else REINSTALL
    if found is None:
        return Check(
            topic="packages", name=wanted.name, found="not installed", ok=False, required=not extra, cure=install
        )
    ok = wanted.specifier.contains(found, prereleases=True)
    shown = found if ok else f"{found}, but {wanted.specifier} is needed"
    cure = "" if ok else REINSTALL if in_use else install
    return Check(topic="packages", name=wanted.name, found=shown, ok=ok, required=in_use, cure=cure)


def detectron2() -> Check:
    """Whether detectron2 imports with the shims of stages/regions/compat.py, and which one it is."""
    needs = asked_for().get("regions", [])
    if not installed(needs):
        cure = "install pairloom[regions], then run `pairloom setup detectron2`"
        return Check(topic="works", name="detectron2", found="not in use", ok=False, required=False, cure=cure)
    cure = "run `pairloom setup detectron2`"
    try:
        from stages.regions import compat

        compat.apply()
        import detectron2.modeling

        found = importlib.metadata.version("detectron2")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Check(topic="works", name="detectron2", found=one_line(error), ok=False, cure=cure)
    return Check(topic="works", name="detectron2", found=f"{found} imports from {Path(detectron2.__file__).parent}")


def working_nms() -> list[Check]:
    """Run torchvision's non-maximum suppression on each kind of device: its compiled part must fit this torch."""
    try:
        import torch

        return [nms_on(device) for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else []))]
    except ImportError as error:
        there = version_of("torch") is not None
        cure = REINSTALL if there else "install pairloom[regions] or pairloom[train]"
        found = one_line(error) if there else "not in use"
        return [Check(topic="works", name="nms on cpu", found=found, ok=False, required=there, cure=cure)]


def nms_on(device: str) -> Check:
    """Three boxes of which the second nearly covers the first: 0 and 2 must stay."""
    name = f"nms on {device}"
    cure = "install a torch and torchvision that belong together: " + REINSTALL
    try:
        import torch
        from torchvision.ops import nms

        boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]], device=device)
        kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5).tolist()
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        return Check(topic="works", name=name, found=one_line(error), ok=False, cure=cure)
    if kept != [0, 2]:
        return Check(topic="works", name=name, found=f"kept boxes {kept} instead of [0, 2]", ok=False, cure=cure)
    return Check(topic="works", name=name, found="runs")


def devices() -> list[Check]:
    """What there is to compute on. A GPU is welcome, never required."""
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = f"{cores} cores, {memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB memory free"
    return [
        Check(topic="device", name="cpu", found=cpu),
        *(Check(topic="device", name=name, found=found, ok=found != NONE, required=False) for name, found in gpus()),
    ]


def gpus() -> list[tuple[str, str]]:
    """The kinds of GPU that torch knows and what there is of each, in words."""
    try:
        import torch
    except ImportError:  # working_nms says why
        return [("cuda", NONE), ("mps", NONE)]
    properties = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    names = ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in properties)
    return [("cuda", names or NONE), ("mps", "available" if torch.backends.mps.is_available() else NONE)]


def disk(folder: Path) -> Check:
    """Free space where a run would write."""
    free = shutil.disk_usage(folder).free / GIB
    ok = free >= MIN_FREE_GIB
    cure = "" if ok else f"free some space: the demo wants {MIN_FREE_GIB} GiB, your own pairs their size twice"
    return Check(topic="disk", name=str(folder), found=f"{free:.1f} GiB free", ok=ok, cure=cure)


def starter(path: Path = CHECKOUT / "stages/regions/starter/starter.safetensors") -> Check:
    """The weights of the detector that ships with the project."""
    if path.is_file() and path.stat().st_size > 0:
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        return Check(topic="files", name="starter detector", found=f"{path.name}, {size}")
    cure = f"git checkout -- {path.relative_to(CHECKOUT) if path.is_relative_to(CHECKOUT) else path}"
    return Check(topic="files", name="starter detector", found=f"no {path}", ok=False, cure=cure)


def browser() -> Check:
    """A browser for the test that looks at the report. Nothing else needs one."""
    found = find_browser()
    cure = "" if found else "`apt-get install chromium`, or put any Chromium on PATH; the test is skipped without"
    return Check(topic="files", name="browser", found=found or NONE, ok=bool(found), required=False, cure=cure)


def find_browser() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, BROWSERS) if path), None)


def one_line(error: BaseException) -> str:
    """An error's type and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
