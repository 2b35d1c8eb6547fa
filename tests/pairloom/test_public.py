"""`pairloom` works in somebody else's program, whatever that calls its own files, and drags in none of our rooms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pairloom
from tests.pairloom.loader.loading import write_folder

CHECKOUT = Path(__file__).resolve().parents[2]
ROOMS = (
    "schemas",
    "formats",
    "demo",
    "stages",
    "trainer",
    "systems",
    "evaluation",
    "inspection",
    "pipeline",
    "install",
)
PROGRAM = """
import sys
from pathlib import Path

import torch

import trainer, schemas, pipeline, stages, systems, formats, inspection, demo  # the user's own
from pairloom import Loader, Mixture, Options, open_table, verify

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    assert open_table(folder).rows == 23
    assert verify(folder) == []
    with_workers = Loader(folder, columns=("captions", "boxes", "features"), batch_size=4, workers=1,
                          options=Options(dtype="float32"))
    mixed = Loader(Mixture((folder, folder)), columns=("features",), batch_size=4, options=Options(dtype="float32"))
    model = torch.nn.Linear(8, 1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for loader in (with_workers, mixed):
        for step, batch in enumerate(loader):
            loss = (model(batch["features"]).squeeze(-1).sum(dim=1) - batch["num_regions"]).square().mean()
            loss.backward()
            optimiser.step()
            if step == 8:
                break
        loader.close()
    assert trainer.MINE == schemas.MINE == pipeline.MINE == "the user's"
    print("trained", len(batch))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder with modules of all our rooms' names, and a training loop."""
    for room in ROOMS:
        (tmp_path / f"{room}.py").write_text('MINE = "the user\'s"\n', encoding="utf-8")
    (tmp_path / "train.py").write_text(PROGRAM, encoding="utf-8")
    return tmp_path


def test_a_training_loop_runs_beside_modules_of_all_our_names(program: Path) -> None:
    shards = write_folder(program / "shards")
    command = [sys.executable, "train.py", str(shards)]
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, cwd=program, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "trained 4\n"
    assert ran.stderr == ""


def imported(script: str) -> set[str]:
    """Top-level packages that are loaded after a script."""
    script += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_no_module_of_it_imports_another_room() -> None:
    files = sorted((CHECKOUT / "pairloom").rglob("*.py"))
    names = [".".join(file.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    assert not imported("import " + ", ".join(names)) & set(ROOMS)


def test_tables_are_opened_and_verified_without_torch() -> None:
    assert "torch" not in imported("from pairloom import open_table, verify, StoreError")
    assert "torch" in imported("from pairloom import Loader")


def test_every_name_that_it_lists_is_there() -> None:
    for name in pairloom.__all__:
        assert getattr(pairloom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Loaders'"):
        _ = pairloom.Loaders  # type: ignore[attr-defined]
    assert (CHECKOUT / "pairloom" / "py.typed").exists()


def test_the_lines_of_the_documentation_run(tmp_path: Path) -> None:
    write_folder(tmp_path / "shards")
    page = (CHECKOUT / "docs/reference/loader.md").read_text(encoding="utf-8").partition("## Without a recipe")[2]
    script = page.partition("```python\n")[2].partition("```")[0]
    command = [sys.executable, "-c", script]
    environment = {"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "23 images\n"
