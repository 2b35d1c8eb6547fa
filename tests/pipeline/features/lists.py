"""Features of made-up pictures in a layout, with COCO's captions for them, and the command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from formats.features.record import Record
from pairloom.store.folder import open_folder, read_group
from pipeline.cli import main
from tests.formats.features import made

COLOURS, THINGS, PLACES = ("red", "green", "old"), ("dog", "cat", "bus", "tree"), ("house", "street", "lake")


def records(count: int, least: int = 3) -> list[Record]:
    """Pictures whose sides differ by less than four times, which curate would leave out."""
    found: list[Record] = []
    seed = 0
    while len(found) < count:
        one = made.record(f"COCO_train2014_{len(found) + 1:012d}", least + seed % 5, seed)
        seed += 1
        assert one.width is not None
        assert one.height is not None
        if min(one.width, one.height) >= 64 and max(one.width, one.height) < 4 * min(one.width, one.height):
            found.append(one)
    return found


def caption(number: int, which: int = 0) -> str:
    colour, thing = COLOURS[(number + which) % 3], THINGS[number // 3 % 4]
    return f"a {colour} {thing} near the {PLACES[(number // 7 + which) % 3]}"


def coco(path: Path, found: Sequence[Record], sizes: bool = True) -> Path:
    """Two captions a picture as COCO writes them, by the number at the end of its key."""
    images, said = [], []
    for one in found:
        number = int(one.key.rpartition("_")[2])
        image: dict[str, Any] = {"id": number, "file_name": f"{one.key}.jpg"}
        images.append(image | ({"width": one.width, "height": one.height} if sizes else {}))
        said += [{"image_id": number, "id": 2 * number + which, "caption": caption(number, which)} for which in (0, 1)]
    path.write_text(json.dumps({"images": images, "annotations": said}))
    return path


def run(*arguments: object) -> dict[str, Any]:
    """Run a command of pairloom. Returns what --json prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()) as said:
        code = main([*map(str, arguments), "--json"])
    facts: dict[str, Any] = json.loads(printed.getvalue() or "{}")
    assert code == 0, printed.getvalue() + said.getvalue()
    return facts


def killed(place: int, *arguments: object) -> None:
    """A command in a process of its own that is killed where it reads that part of the shards, counted from 0."""
    command = [sys.executable, "-m", "tests.pipeline.features.dying", place, *arguments]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr


def failing(place: int, fail: Callable[[], object]) -> Callable[..., Any]:
    """`read_group` that fails when it is called for that time, counted from 0."""
    count = iter(range(99))

    def read(*arguments: Any) -> Any:
        if next(count) == place:
            fail()
        return read_group(*arguments)

    return read


def refused(*arguments: object) -> str:
    """What is said by a command that exits 1."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        assert main([*map(str, arguments)]) == 1
    return said.getvalue()


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    for _, table in open_folder(folder).tables():
        yield from table.to_pylist()


def reasons(folder: Path) -> dict[str, str]:
    """key -> reason of a quarantine."""
    return {row["key"]: row["reason"] for row in rows(folder)} if folder.exists() else {}
