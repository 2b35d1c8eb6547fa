"""Installs detectron2 as pure Python: `python -m install.pure_detectron2`.

detectron2 has no release that pip can build: on the registry it is only the source archive `pb1-detectron2`, which
lacks its own compiled part. A Faster R-CNN needs none of it (torchvision has nms and RoIAlign), so this step fetches
that archive through pip, checks its SHA-256, packs the Python tree with its licence into an ordinary wheel and installs
it: `pip list` shows it, `pip uninstall detectron2` removes it. stages/regions/compat.py bridges what is left.

A detectron2 that is already there and works, such as a user's own build of its upstream, is left alone.
"""

import base64
import hashlib
import importlib.metadata
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from pairloom.errors import PairloomError

ARCHIVE = "pb1-detectron2==0.6"
ARCHIVE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
VERSION = "0.6+purepython.1"  # a higher last number makes every environment take the new wheel
WHEEL_NAME = f"detectron2-{VERSION}-py3-none-any.whl"

# What the Python tree imports. The archive's own list also has black, future, pydot and tensorboard, and old ceilings
# on fvcore and iopath, for parts (Caffe2 export, training logs) that pairloom does not use.
NEEDS = (
    "torch",
    "torchvision",
    "pillow",
    "matplotlib",
    "pycocotools>=2.0.2",
    "termcolor>=1.1",
    "yacs>=0.1.8",
    "tabulate",
    "cloudpickle",
    "tqdm>4.29.0",
    "fvcore>=0.1.5",
    "iopath>=0.1.7",
    "omegaconf>=2.1",
    "hydra-core>=1.1",
)


class InstallError(PairloomError):
    """detectron2 could not be fetched, is not the archive that we know, or does not work as installed."""


def main() -> int:
    """Install detectron2 unless a working one is there. Returns the exit code."""
    try:
        print(f"detectron2: {ensure_installed()}")
    except InstallError as error:
        print(f"detectron2: {error}", file=sys.stderr)
        return 1
    return 0


def ensure_installed() -> str:
    """Leave a working detectron2 in this environment. Returns what was done, in words."""
    present = installed_version()
    if present == VERSION:
        return f"{VERSION} is installed"
    if present is not None and "+purepython" not in present:
        complaint = import_complaint()
        if complaint is None:
            return f"{present} was here before and works; it stays"
        raise InstallError(
            f"detectron2 {present} is installed but does not import: {complaint}",
            where=sys.prefix,
            fix="repair it, or run `pip uninstall detectron2` and this step again",
        )
    with tempfile.TemporaryDirectory() as folder:
        archive = fetch_archive(Path(folder))
        wheel = build_wheel(archive.read_bytes(), Path(folder))
        pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))
    complaint = import_complaint()
    if complaint is not None:
        raise InstallError(
            f"detectron2 {VERSION} was installed but does not import: {complaint}",
            where=sys.prefix,
            fix="run `pairloom doctor`; if torch and torchvision are well, please report this",
        )
    return f"installed {VERSION}"


def installed_version() -> str | None:
    """The version of the detectron2 in this environment, None where there is none."""
    importlib.invalidate_caches()
    try:
        return importlib.metadata.version("detectron2")
    except importlib.metadata.PackageNotFoundError:
        return None


def import_complaint() -> str | None:
    """The last line of what Python says when a fresh process imports detectron2. None if all is well."""
    script = "from stages.regions import compat; compat.apply(); import detectron2.modeling"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return None
    return (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]


def fetch_archive(folder: Path) -> Path:
    """Download the source archive through pip, which checks its SHA-256."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{ARCHIVE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    # pip runs the archive's setup.py to learn its name, and that imports torch: so no build isolation.
    pip("download", "--no-deps", "--no-build-isolation", "--dest", str(folder), "--requirement", str(wanted))
    return next(folder.glob("*.tar.gz"))


def pip(*arguments: str) -> None:
    """Run pip of this environment. Its own words are shown only when it fails."""
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise InstallError(
            f"pip {arguments[0]} failed:\n{ran.stdout}{ran.stderr}",
            where=sys.prefix,
            fix="check that pip reaches its package index, then run this step again",
        )


def build_wheel(archive: bytes, folder: Path) -> Path:
    """Pack the `detectron2/` tree of the source archive into a wheel in `folder`, always to the same bytes.

    Raises InstallError unless `archive` is exactly the one whose SHA-256 we know.
    """
    found = hashlib.sha256(archive).hexdigest()
    if found != ARCHIVE_SHA256:
        raise InstallError(
            f"the archive has the SHA-256 {found}, not {ARCHIVE_SHA256}",
            where=ARCHIVE,
            fix="empty pip's cache (`pip cache purge`) and run this step again",
        )
    info = f"detectron2-{VERSION}.dist-info"
    files = python_tree(archive)
    files[f"{info}/licenses/LICENSE"] = files.pop("LICENSE")
    files[f"{info}/METADATA"] = metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: pairloom\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = record(files, f"{info}/RECORD").encode()
    wheel = folder / WHEEL_NAME
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content, compress_type=zipfile.ZIP_DEFLATED)
    return wheel


def python_tree(archive: bytes) -> dict[str, bytes]:
    """The archive's LICENSE and files under `detectron2/`, by their path without the archive's top folder."""
    files = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as unpacked:
        for member in sorted(unpacked.getmembers(), key=lambda member: member.name):
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            content = unpacked.extractfile(member) if member.isfile() else None
            if content is not None and (path.parts[:1] == ("detectron2",) or str(path) == "LICENSE"):
                files[str(path)] = content.read()
    return files


def metadata() -> str:
    """The wheel's METADATA."""
    head = (
        "Metadata-Version: 2.4",
        "Name: detectron2",
        f"Version: {VERSION}",
        f"Summary: The Python part of detectron2 0.6, packed by pairloom from {ARCHIVE}",
        "Home-page: https://github.com/facebookresearch/detectron2",
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Requires-Python: >=3.11",
    )
    return "\n".join([*head, *(f"Requires-Dist: {need}" for need in NEEDS)]) + "\n"


def record(files: dict[str, bytes], own_name: str) -> str:
    """The wheel's RECORD: path, hash and size of every file, its own line without the last two."""
    lines = [f"{name},sha256={urlsafe_digest(content)},{len(content)}" for name, content in files.items()]
    return "\n".join([*lines, f"{own_name},,"]) + "\n"


def urlsafe_digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.exit(main())
