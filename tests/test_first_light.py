"""The whole house under `dvc repro`, on a list and a web server of our own: what runs again, and what does not."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from demo import scenes, things
from demo.backdrops import SAMPLE, backgrounds
from inspection.lint import lint
from pairloom.store.folder import JOURNAL, open_folder
from pipeline.stage import on_request
from tests.inspection.synthetic import FLOW
from tests.pipeline.helpers import hashes
from tests.processes import workers_of
from tests.serving import served

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parents[1]
ROOMS = (
    *("pairloom", "schemas", "formats", "demo", "stages", "devices", "trainer", "systems", "evaluation"),
    *("inspection", "pipeline"),
    "install",
)
ROWS = 24
STAGES = ("download", "curate", "regions", "tags", "negatives", "shards")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web server on loopback with enough scenes for the list and ten more. Yields host:port."""
    folder = tmp_path_factory.mktemp("www")
    cutouts, backdrops = things.glyphs(), backgrounds(SAMPLE)
    for number in range(ROWS + 10):
        scene = scenes.compose(1000 + number, cutouts, backdrops, (256, 224))
        Image.fromarray(scene.image).save(folder / f"{number}.jpg", quality=90)
    with served(folder) as host:
        yield host


class Checkout:
    """A copy of the working tree with a list and settings of its own, run through DVC as a user would."""

    def __init__(self, folder: Path, host: str) -> None:
        self.folder, self.host = folder, host
        self.first: dict[str, dict[str, str]] = {}  # of a finished one: each table's hashes, before a test changes it
        for room in ROOMS:
            shutil.copytree(HERE / room, folder / room)  # with bytecode and compiled kernels
        shutil.copytree(HERE / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache"))
        for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(HERE / name, folder / name)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        self.write_list(ROWS)
        self.change("sample", urls="my.csv", rows_per_shard=8)
        self.change("download", allow_hosts=[host])
        self.change("run", cluster="inline")
        self.change("shards", val_share=0.25)
        self.change("train", uniter={"steps": 4}, clip={"steps": 4})

    def write_list(self, rows: int) -> None:
        with (self.folder / "my.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["url", "caption"])
            nouns = ["dog", "cup of tea", "red bus", "small tree", "guitar"]
            for row in range(rows):
                text = f"a {nouns[row % 5]} beside a {nouns[(row * 3 + 1) % 5]} in picture {row}"
                writer.writerow([f"http://{self.host}/{row}.jpg", text])

    def change(self, section: str, **values: object) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        params[section].update(values)
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def dvc(self, *arguments: str, **options: object) -> subprocess.Popen[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(self.folder)}
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def repro(self, *arguments: str) -> str:
        process = self.dvc("repro", *arguments)
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
        return output

    def ran(self, output: str) -> set[str]:
        """The stages that DVC ran, by its own account."""
        return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}

    def stamps(self, stage: str) -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in (self.folder / "data" / stage).glob("*.parquet")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, server: str) -> Checkout:
    """A checkout in which everything ran once."""
    checkout = Checkout(tmp_path_factory.mktemp("checkout"), server)
    output = checkout.repro()
    assert checkout.ran(output) == {"sample", *STAGES, *on_request(), "train@uniter", "train@clip", "report"}
    checkout.first = {stage: hashes(checkout.folder / "data" / stage) for stage in STAGES}
    return checkout


def test_every_listed_row_is_in_the_shards_or_in_quarantine(finished: Checkout) -> None:
    data = finished.folder / "data"
    shards = open_folder(data / "shards")
    quarantined = sum(open_folder(data / "quarantine" / stage).rows for stage in STAGES)
    assert shards.rows + quarantined == ROWS
    assert {entry.name.split("-")[0] for entry in shards.shards} == {"train", "val"}
    assert lint(data, FLOW) == []
    assert (data / "report/index.html").stat().st_size > 10_000


def test_nothing_changed_means_nothing_runs(finished: Checkout) -> None:
    assert finished.ran(finished.repro()) == set()


def test_dvc_shows_metrics_and_plots(finished: Checkout) -> None:
    for arguments in (["metrics", "show", "--json"], ["plots", "show"], ["dag"]):
        process = finished.dvc(*arguments)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        if arguments[0] == "metrics":
            assert json.loads(output)[""]["data"]["metrics/download.json"]["data"]["rows_out"] == ROWS


def test_another_number_of_negatives_leaves_the_regions_alone(finished: Checkout) -> None:
    before = {table: finished.stamps(table) for table in ("regions", "tags")}
    finished.change("negatives", top_k=7)
    assert finished.ran(finished.repro("shards")) == {"negatives", "shards"}
    assert {table: finished.stamps(table) for table in ("regions", "tags")} == before
    table = open_folder(finished.folder / "data/negatives").read("00000")
    assert max(len(found) for row in table["negatives"].to_pylist() for found in row) == 7


@pytest.mark.long
def test_ten_lines_more_cost_only_their_own_shards(finished: Checkout) -> None:
    before = {stage: finished.stamps(stage) for stage in ("urls", "download", "curate", "regions", "tags")}
    finished.write_list(ROWS + 10)
    finished.repro("shards")
    for stage, stamps in before.items():
        now = finished.stamps(stage)
        assert {name: now[name] for name in stamps} == stamps, stage
        assert len(now) == len(stamps) + 2


def kill_group(process: subprocess.Popen[str], checkout: Checkout) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_worker(process: subprocess.Popen[str], checkout: Checkout) -> None:
    workers = workers_of(process.pid)
    if not workers:
        pytest.skip("the stage had finished before a worker could be killed")
    workers[0].kill()


@pytest.mark.crash
@pytest.mark.parametrize(
    ("kill", "cluster", "last"),
    [(kill_group, "inline", "shards"), pytest.param(kill_worker, "local", "tags", marks=pytest.mark.long)],
)
def test_killed_in_the_middle_of_regions_dvc_repro_finishes_with_equal_bytes(
    kill: Callable[[subprocess.Popen[str], Checkout], None],
    cluster: str,
    last: str,
    tmp_path: Path,
    server: str,
    finished: Checkout,
) -> None:
    checkout = Checkout(tmp_path, server)
    checkout.change("run", cluster=cluster, workers=2)
    process = checkout.dvc("repro", last)
    wait_for_a_shard(checkout.folder / "data/regions", process)
    kill(process, checkout)
    process.communicate(timeout=600)
    checkout.repro(last)
    for stage in STAGES if last == STAGES[-1] else STAGES[: STAGES.index(last) + 1]:
        assert hashes(checkout.folder / "data" / stage) == finished.first[stage], stage


def wait_for_a_shard(folder: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if (folder / JOURNAL).exists() and open_folder(folder).shards:
            return
        time.sleep(0.01)
    raise AssertionError("the regions stage never committed a shard")
