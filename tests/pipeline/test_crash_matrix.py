"""Every stage, wherever it runs: killed at a point that a seed draws, then resumed, it leaves the same bytes.

`pytest -m "" tests/pipeline/test_crash_matrix.py -s` runs all cells and prints a line for each (docs/lab/scaling.md).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pairloom.store.folder import JOURNAL, open_folder
from pipeline.cli import main
from pipeline.params import read_params
from pipeline.stage import load
from tests.bucket import Server, below, content, serving
from tests.pipeline.clusters import CHECKOUT, Cluster
from tests.pipeline.far import BUCKET, tables
from tests.serving import pictures, write_list
from tests.stages.qa.test_qa import write_questions

pytestmark = pytest.mark.crash

STAGES = (
    *("sample", "download", "score", "curate", "regions", "tags", "negatives"),
    *("patches", "qa", "similar", "neighbours", "shards"),
)
PLACES = ("inline", "local", "workers", "nannies", "bucket", "bucket-workers")
CHEAP = {("nannies", "download"), ("bucket", "curate")}  # and tested nowhere else
CELLS = [
    pytest.param(place, stage, marks=() if (place, stage) in CHEAP else pytest.mark.long)
    for place in PLACES
    for stage in STAGES
]
PICTURES, A_SHARD = 8, 2
FOLDERS = {"sample": "urls"}


@dataclass
class Corpus:
    """A folder with a list, its pictures on a server, settings, and what each stage makes of it undisturbed."""

    folder: Path
    host: str

    def __post_init__(self) -> None:
        write_list(self.folder / "list.csv", self.host, range(PICTURES + 1))  # one is missing
        asked = [(str(number), f"what is {number}?", ("yes", "no")[number % 2]) for number in range(PICTURES)]
        settings = {
            "sample": {"urls": str(self.folder / "list.csv"), "rows_per_shard": A_SHARD},
            "download": {"allow_hosts": [self.host]},
            "score": {"model": str(self.folder / "clip")},
            "regions": {"detector": "starter"},
            "negatives": {"ceiling": 0.9},
            "patches": {"grid": 2, "pyramid": False, "size": 64},
            "qa": {"sources": [{"file": write_questions(self.folder / "q.json", asked)}], "min_answer_count": 1},
            "shards": {"val_share": 0.3, "shard_bytes": 1 << 17, "patches": True, "qa": True, "similar": True},
        }
        (self.folder / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        self.params = read_params(self.folder / "params.yaml")
        self.needed = cache(self._needed)

    def _needed(self, stage: str) -> list[str]:
        """The stages before this one, in order. Each has run on the folder `whole` afterwards."""
        if stage == "score" and not (self.folder / "clip").exists():
            from tests.stages.score.models import clip

            clip(self.folder / "clip")
        if stage == "sample":
            found = []
        else:
            inputs = load(stage).inputs(self.params.of_stage(stage))
            before = [one for needed in inputs for one in (*self.needed(_stage(needed)), _stage(needed))]
            found = list(dict.fromkeys(before))
        assert main(self.line(stage, "whole", "inline")) == 0
        return found

    def line(self, stage: str, data: str, cluster: str) -> list[str]:
        workers = ("--workers", "2") if cluster == "local" else ()
        options = ("--params", "params.yaml", "--metrics", "metrics", "--cluster", cluster, *workers, "--quiet")
        return ["stage", stage, "--data", data, *options]

    def wanted(self, stage: str) -> dict[str, bytes]:
        return of_stage(stage, tables(below(self.folder / "whole")))

    def inputs(self, stage: str, data: Path) -> None:
        """A dataset in which the stage is the next one."""
        shutil.rmtree(data, ignore_errors=True)
        for one in self.needed(stage):
            for name in (FOLDERS.get(one, one), f"quarantine/{one}"):
                shutil.copytree(self.folder / "whole" / name, data / name)


def _stage(table: str) -> str:
    return {folder: stage for stage, folder in FOLDERS.items()}.get(table, table)


def of_stage(stage: str, files: dict[str, bytes]) -> dict[str, bytes]:
    places = (f"{FOLDERS.get(stage, stage)}/", f"quarantine/{stage}/")
    return {name: body for name, body in files.items() if name.startswith(places)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    folder = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch, pictures(folder / "www", PICTURES) as host:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Corpus(folder, host)


@dataclass
class Place:
    """Where a stage runs: the dataset's name, the cluster, and what can be killed."""

    corpus: Corpus
    name: str
    cluster: Cluster | None
    server: Server | None
    client: Any

    @property
    def data(self) -> str:
        return BUCKET if self.server else "data"

    def line(self, stage: str) -> list[str]:
        cluster = self.cluster.address if self.cluster else {"local": "local"}.get(self.name, "inline")
        return self.corpus.line(stage, self.data, cluster)

    def finished(self, stage: str) -> int:
        """How many shards are recorded so far, -1 before the stage writes anything."""
        table = FOLDERS.get(stage, stage)
        if self.server:
            asked = list(self.server.asked)
            made = [path for method, path in asked if method == "PUT" and f"/d/{table}/" in path]
            return sum(path.endswith(".parquet") for path in made) if made else -1
        journal = Path("data", table, JOURNAL)
        try:
            return journal.read_text(encoding="utf-8").count("\n") - 1
        except FileNotFoundError:
            return -1

    def made(self, stage: str) -> dict[str, bytes]:
        if self.server:
            files = {key.removeprefix("d/"): body for key, body in content(self.client, "pairs").items()}
        else:
            files = below(Path("data"))
        return of_stage(stage, tables(files))

    def refill(self) -> None:
        """Two workers, as before."""
        if self.cluster is not None:
            living = [process for process in self.cluster.processes if process.poll() is None]
            self.cluster.processes = living
            for _ in range(2 - len(living)):
                self.cluster.worker(nanny=self.name == "nannies")


@pytest.fixture(scope="module")
def places(corpus: Corpus) -> Iterator[Any]:
    """Makes each place once."""
    with ExitStack() as stack:

        @cache
        def place(name: str) -> Place:
            server = client = cluster = None
            if name.startswith("bucket"):
                Path("tmp").mkdir(exist_ok=True)
                patch = stack.enter_context(pytest.MonkeyPatch.context())
                patch.setenv("TMPDIR", str(corpus.folder / "tmp"))
                patch.setattr(tempfile, "tempdir", None)
                server, client = stack.enter_context(serving("pairs"))
            if name in ("workers", "nannies", "bucket-workers"):
                (corpus.folder / f"cluster-{name}").mkdir()
                cluster = stack.enter_context(Cluster(corpus.folder / f"cluster-{name}"))
            return Place(corpus, name, cluster, server, client)

        yield place


@pytest.mark.parametrize(("name", "stage"), CELLS)
def test_a_killed_stage_resumes_with_equal_bytes(corpus: Corpus, places: Any, name: str, stage: str) -> None:
    draw = random.Random(f"{name} {stage}")
    corpus.inputs(stage, Path("data"))
    place: Place = places(name)
    if place.server is not None:
        for key in content(place.client, "pairs"):
            place.client.delete_object(Bucket="pairs", Key=key)
        if corpus.needed(stage):
            assert main(["push", "data", BUCKET, "--quiet"]) == 0
        place.server.asked.clear()
    place.refill()
    finished, pause_s = draw.randrange(-1, PICTURES // A_SHARD), draw.uniform(0, 0.1)
    victims = draw.choice(("run", "worker", "both")) if place.cluster else "run"
    command = [sys.executable, "-m", "pipeline.cli", *place.line(stage)]
    process = subprocess.Popen(command, cwd=corpus.folder, start_new_session=True, env=_environment())
    while place.finished(stage) < finished and process.poll() is None:
        time.sleep(0.002)
    if finished < 0:
        pause_s *= 20
    time.sleep(pause_s)
    at, ended = place.finished(stage), process.poll() is not None
    if victims != "run":
        assert place.cluster is not None
        _worker(draw.choice(place.cluster.processes).pid).kill()
    if victims != "worker" and not ended:
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait(300)
    assert code == (0 if victims == "worker" or ended else -signal.SIGKILL)
    place.refill()
    began = time.monotonic()
    assert main(place.line(stage)) == 0
    where = "after its end" if ended else f"with {at} shards" if at >= 0 else "before it wrote anything"
    took = time.monotonic() - began
    found, wanted = place.made(stage), corpus.wanted(stage)
    assert found.keys() == wanted.keys()
    assert found == wanted
    if not place.server:
        assert open_folder(Path("data", FOLDERS.get(stage, stage))).complete
    print(f"\n| {name} | {stage} | {victims} | {where} | {took:.1f} s |", flush=True)


def _worker(pid: int) -> psutil.Process:
    """The worker that this process is, or that it has as a nanny. Decoders of pictures below it are others."""
    parent = psutil.Process(pid)
    others = ("tracker", "stages.download.decoder")
    below = [one for one in parent.children() if not any(other in " ".join(one.cmdline()) for other in others)]
    return [parent, *below][-1]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(CHECKOUT)}
