"""A dataset with answers that are known, the command that shows it, and Chromium that looks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from tests.inspection.synthetic import edit, make_dataset, rewrite

HERE = Path(__file__).resolve().parents[3]
EVIL = """</p></script><script>document.title='broken in'</script><img src=x onerror="document.title='broken in'">"""
GONE = "http://sample.invalid/gone-00000.jpg"
CATS = {"00000": [0, 3, 1, 0, 2, 5, 0, 4], "00001": [7, 0, 0, 6, 1, 1, 9, 0, 8]}  # regions added to each picture
UNLIKE = 0.125  # cosine of the first picture and its captions, exact in float32
WIDE, NARROW = (300, 240), (150, 260)  # a side under 200 pixels is what COYO leaves out


def make_site(root: Path) -> Path:
    """A dataset whose first four pictures weigh more than 5,120 bytes, as LAION and COYO want them.

    Its text is hostile, its pictures have known numbers of cats, and of the four COYO keeps two.
    """
    random = np.random.default_rng(7)
    make_dataset(root, [grainy(random, *size) for size in (WIDE, WIDE, NARROW, WIDE)])
    for name, counts in CATS.items():
        rewrite(root / "regions", name, partial(_with_cats, counts))
    for table in ("download", "curate"):
        rewrite(root / table, "00000", edit("captions", 3, lambda found: [found[0] | {"text": EVIL}, *found[1:]]))
        rewrite(root / table, "00000", edit("source", 3, lambda _: EVIL))
    rewrite(root / "quarantine" / "download", "00001", edit("detail", 0, lambda _: EVIL))
    five = [{"text": "a cat", "original": "a cat", "lang": "en", "kind": None}]  # five letters: LAION keeps, COYO not
    rewrite(root / "download", "00000", edit("captions", 1, lambda _: five))
    write_curve(root.parent / "plots", "uniter", [5.0, 3.0])
    rewrite(root / "score", "00000", edit("similarity", 0, lambda found: [UNLIKE] * len(found)))
    return root


def grainy(random: np.random.Generator, width: int, height: int) -> Image.Image:
    """A sky over a field with so much grain that its JPEG is large."""
    picture = Image.new("RGB", (width, height), (110, 150, 210))
    ImageDraw.Draw(picture).rectangle((0, height * 2 // 3, width, height), fill=(90, 140, 70))
    ImageDraw.Draw(picture).ellipse((width // 5, height // 3, width // 2, height * 3 // 4), fill=(200, 90, 60))
    return Image.fromarray((np.asarray(picture) + random.integers(-40, 40, (height, width, 3))).astype(np.uint8))


def settled(page: Any) -> None:
    """Returns once the page has all that it works out: until then it asks again."""
    for _ in range(120):
        page.wait_for_load_state("load")
        if not page.locator("[data-again]").count():
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{page.url} is not done after a minute")


def make_other(root: Path) -> Path:
    """A dataset to compare the first with: drawn scenes alone, and beside it the loss curve of a recipe."""
    make_dataset(root)
    write_curve(root.parent / "plots", "uniter", [4.0, 2.0])
    return root


def write_curve(folder: Path, recipe: str, losses: Sequence[float]) -> None:
    """A file as training writes it, with a point every ten steps."""
    folder.mkdir(exist_ok=True)
    lines = [f"{10 * (number + 1)},{loss}" for number, loss in enumerate(losses)]
    (folder / f"train-{recipe}.csv").write_text("\n".join(["step,mlm", *lines, ""]), encoding="utf-8")


def _with_cats(counts: Sequence[int], table: pa.Table) -> pa.Table:
    """The rows with so many more regions of class 0, copies of their first one."""
    columns: dict[str, list[Any]] = {name: table[name].to_pylist() for name in table.column_names}
    for row, more in enumerate(counts):
        before = columns["num_regions"][row]
        for name in ("boxes", "class_scores", "attribute_ids", "attribute_scores", "features", "prob_ids",
                     "prob_values", "prob_background"):  # fmt: skip
            blob = columns[name][row]
            columns[name][row] = blob + blob[: len(blob) // before] * more
        columns["class_ids"][row] += np.zeros(more, "<u2").tobytes()
        columns["num_regions"][row] = before + more
    arrays = [pa.array(columns[field.name], field.type) for field in table.schema]
    return pa.Table.from_arrays(arrays, schema=table.schema)


@contextmanager
def shown(*folders: Path) -> Iterator[str]:
    """The address at which `pairloom browse` shows these datasets. Ctrl-C ends it with exit code 0."""
    command = [sys.executable, "-m", "pipeline.cli", "browse", *map(str, folders), "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=HERE, env=environment) as process:
        assert process.stderr is not None
        address = process.stderr.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address + process.stderr.read()
        try:
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
            assert process.wait(30) == 0, said
            assert "Traceback" not in said, said
