"""What a worker reports and this process does not see is not recorded, and the next run makes it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from pairloom.errors import StoreError
from pairloom.store import index
from pairloom.store.folder import open_folder
from pipeline import executor
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from pipeline.planning import prepare
from pipeline.pool import Inline
from pipeline.stage import load
from pipeline.task import Places, run_task
from pipeline.written import Made, confirm
from tests.pipeline.helpers import hashes, write_texts
from tests.pipeline.words import Config

STAGE = "tests.pipeline.words"
TEXTS = ["a", "b", "reject", "c"] * 3  # three shards, each with a row in quarantine
INLINE = Options(RunConfig(cluster="inline"), plain=True)


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def changed(path: Path) -> None:
    """A bit of the footer, which says where all that is in the file lies."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "there is no such file": Path.unlink,
    "instead of": shorter,
    "it has other content": changed,
}


@pytest.fixture
def made(tmp_path: Path) -> tuple[Made, Places]:
    """A shard as its worker reports it."""
    write_texts(TEXTS, tmp_path)
    stage = load(STAGE)
    places = Places.of(stage, Config(), tmp_path)
    (found,) = run_task(prepare(stage, Config(), places, redo=False).tasks[0])
    return found, places


def seen(made: tuple[Made, Places], patience_s: float = 0.0, indexed: bool = False) -> None:
    confirm(made[0], made[1].table, made[1].quarantine, indexed, patience_s)


@pytest.mark.parametrize("said", DAMAGE)
@pytest.mark.parametrize("folder", ["table", "quarantine"])
def test_a_file_that_is_not_here_as_it_was_written_is_named(said: str, folder: str, made: tuple[Made, Places]) -> None:
    seen(made)
    path: Path = getattr(made[1], folder) / "00000.parquet"
    DAMAGE[said](path)
    with pytest.raises(StoreError, match=f"reports shard 00000 as written, and here .*{said}") as caught:
        seen(made)
    assert caught.value.args[1] == str(path)


def test_a_file_may_come_late(made: tuple[Made, Places]) -> None:
    path = made[1].table / "00000.parquet"
    late = path.rename(path.with_suffix(".late"))
    timer = threading.Timer(0.3, late.rename, [path])
    timer.start()
    seen(made, patience_s=30)
    timer.join()


def test_an_index_that_is_not_here_is_missed(made: tuple[Made, Places]) -> None:
    with pytest.raises(StoreError, match="it has no index"):
        seen(made, indexed=True)
    path = index.path_of(made[1].table / "00000.parquet")
    path.parent.mkdir(exist_ok=True)
    path.touch()
    seen(made, indexed=True)


class Forgetful(Inline):
    """A pool whose second result comes from a worker whose folder is another one."""

    def run(self, function: Any, tasks: deque[Any], *how: Any, **further: Any) -> Iterator[Any]:
        for number, (task, result) in enumerate(super().run(function, tasks, *how, **further)):
            if number == 1:
                (task.places.table / f"{task.name}.parquet").unlink()
            yield task, result


def test_a_run_stops_at_a_shard_that_is_not_here_and_the_next_one_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data in (tmp_path / "one", tmp_path / "data"):
        write_texts(TEXTS, data)
    run_stage(STAGE, Config(), tmp_path / "one", INLINE)
    with monkeypatch.context() as patch:
        patch.setattr(executor, "open_pool", lambda *_: nullcontext(Forgetful()))
        with pytest.raises(StoreError, match="reports shard 00001 as written, and here there is no such file"):
            run_stage(STAGE, Config(), tmp_path / "data", INLINE)
    left = open_folder(tmp_path / "data/words")
    assert (left.complete, left.shards.column("name")) == (False, ["00000"])
    assert run_stage(STAGE, Config(), tmp_path / "data", INLINE).made == 2
    assert hashes(tmp_path / "data") == hashes(tmp_path / "one")
