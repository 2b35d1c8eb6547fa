"""detectron2 as installed: a wheel that pip knows, and a Faster R-CNN that runs on the processor."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from install import pure_detectron2
from stages.regions import compat

OURS = pure_detectron2.VERSION
CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A source archive of the same shape as the real one, small, taken for the one that we know."""
    content = source_archive(
        {
            "setup.py": b"raise SystemExit('never run')",
            "LICENSE": b"Apache License",
            "detectron2/__init__.py": b"__version__ = '0.6'\n",
            "detectron2/layers/nms.py": b"x = 1\n",
            "projects/other/__init__.py": b"",
        }
    )
    monkeypatch.setattr(pure_detectron2, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    return content


def source_archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"pb1-detectron2-0.6/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def test_the_wheel_has_the_python_tree_and_the_licence_and_nothing_else(archive: bytes, tmp_path: Path) -> None:
    info = f"detectron2-{OURS}.dist-info"
    with zipfile.ZipFile(pure_detectron2.build_wheel(archive, tmp_path)) as wheel:
        assert set(wheel.namelist()) == {
            "detectron2/__init__.py",
            "detectron2/layers/nms.py",
            *(f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")),
        }
        assert wheel.read(f"{info}/licenses/LICENSE") == b"Apache License"


def test_every_file_of_the_wheel_is_in_its_record_with_its_hash(archive: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(pure_detectron2.build_wheel(archive, tmp_path)) as wheel:
        rows = list(csv.reader(wheel.read(f"detectron2-{OURS}.dist-info/RECORD").decode().splitlines()))
        assert [name for name, _, _ in rows] == wheel.namelist()
        for name, digest, size in rows[:-1]:
            content = wheel.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
            assert (digest, int(size)) == (f"sha256={expected}", len(content))


def test_the_same_archive_gives_the_same_wheel(archive: bytes, tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    first, second = (pure_detectron2.build_wheel(archive, folder).read_bytes() for folder in folders)
    assert first == second


def test_pip_installs_and_uninstalls_the_wheel(archive: bytes, tmp_path: Path) -> None:
    wheel = pure_detectron2.build_wheel(archive, tmp_path)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin/python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    assert f"detectron2=={OURS}" in listed.splitlines()
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "detectron2"], check=True)
    assert not list(environment.rglob("detectron2*"))


def test_an_archive_with_another_hash_is_refused(tmp_path: Path) -> None:
    other = source_archive({"LICENSE": b"", "detectron2/__init__.py": b"import os"})
    with pytest.raises(pure_detectron2.InstallError, match="SHA-256") as refused:
        pure_detectron2.build_wheel(other, tmp_path)
    assert hashlib.sha256(other).hexdigest() in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_what_is_installed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pure_detectron2, "pip", lambda *arguments: pytest.fail(f"ran pip {arguments}"))
    assert importlib.metadata.version("detectron2") in pure_detectron2.ensure_installed()


def test_a_build_of_ones_own_that_works_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pure_detectron2, "pip", lambda *arguments: pytest.fail(f"ran pip {arguments}"))
    monkeypatch.setattr(pure_detectron2, "installed_version", lambda: "0.6+cu130")
    assert pure_detectron2.ensure_installed() == "0.6+cu130 was here before and works; it stays"


def test_a_build_of_ones_own_that_does_not_import_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pure_detectron2, "pip", lambda *arguments: pytest.fail(f"ran pip {arguments}"))
    monkeypatch.setattr(pure_detectron2, "installed_version", lambda: "0.6+cu130")
    monkeypatch.setattr(pure_detectron2, "import_complaint", lambda: "ImportError: libcudart.so")
    with pytest.raises(pure_detectron2.InstallError, match=r"libcudart[\s\S]*pip uninstall detectron2"):
        pure_detectron2.ensure_installed()


def test_a_c4_faster_rcnn_with_random_weights_sees_a_picture_on_the_processor() -> None:
    compat.apply()
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    settings = get_cfg()  # its defaults are GeneralizedRCNN, ResNet-50, C4
    settings.MODEL.DEVICE = "cpu"
    settings.MODEL.PIXEL_STD = [57.0, 57.0, 57.0]  # as left, untrained weights blow grey levels up to no box at all
    settings.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    settings.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    torch.manual_seed(0)
    model = build_model(settings).eval()
    picture = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")  # detectron2's anchors call it without `indexing`
        found = model([{"image": picture, "height": 96, "width": 128}])[0]["instances"]
    assert type(model).__name__ == "GeneralizedRCNN"
    assert 1 <= len(found) <= 100
    boxes = found.pred_boxes.tensor
    assert torch.isfinite(boxes).all()
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([128, 96, 128, 96])).all()


def test_the_shims_are_added_once_and_explain_themselves() -> None:
    compat.apply()
    assert compat.apply() == []
    if compat.is_pure_detectron2():
        from detectron2 import _C

        with pytest.raises(NotImplementedError, match="box_iou_rotated is compiled code"):
            _C.box_iou_rotated  # noqa: B018  the lookup is what is tested
        assert not hasattr(_C, "__file__")


def test_the_shims_do_nothing_beside_a_detectron2_with_its_compiled_part(tmp_path: Path) -> None:
    package = tmp_path / "detectron2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "_C.py").write_text("COMPILED = True\n", encoding="utf-8")
    script = (
        "from PIL import Image; Image.LINEAR = Image.BILINEAR\n"
        "from stages.regions import compat; assert compat.apply() == [], compat.apply()\n"
        "from detectron2 import _C; assert _C.COMPILED"
    )
    search = {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(CHECKOUT)))}
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **search})
