"""What a worker is asked before it may make shards: the same code and packages, and the dataset's folder in sight."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pairloom.errors import PairloomError
from pairloom.store.folder import MANIFEST, placed
from pairloom.store.scratch import Mark, attend, behind
from pipeline.cards import gpus, one_thread_a_worker
from pipeline.crew import Worker, pickled
from pipeline.fingerprints import resource_hashes
from pipeline.paths import absolute, resolved
from pipeline.planning import Work
from pipeline.stage import LoadedStage
from pipeline.task import Places

ROOMS = ("pairloom", "schemas", "formats", "demo", "stages", "pipeline")  # whose code a shard's bytes depend on
SOURCES = (".py", ".yaml")
# Packages that decode, compute or write what is stored.
PACKAGES = (
    *("pyarrow", "numpy", "torch", "torchvision", "pillow", "simplejpeg", "opencv-python-headless", "detectron2"),
    *("numba", "ftfy", "regex", "py3langid"),
)
NONE = "none"
LOOKS, PAUSE_S = 5, 0.1  # for the token: a network file system may show a new file late
REPLY_S = 5.0  # how long a worker's reply may take to be seen here


@dataclass(frozen=True)
class Hello:
    """What a worker needs to know to answer."""

    stage: LoadedStage
    config: Any
    places: Places
    inputs: Mapping[str, int]  # path of each input's manifest -> its size here
    started_in: Path
    token: str  # name of a file in the table's folder
    marks: tuple[Mark, ...] = ()  # of a dataset in a bucket

    @property
    def token_file(self) -> Path:
        return self.places.table / self.token


@dataclass(frozen=True)
class Answer:
    """What a worker is and sees."""

    host: str
    facts: Mapping[str, str]
    unseen: str  # what of the dataset it cannot read or write, "" for nothing
    reply: str  # name of the file that it wrote beside the token
    cards: int  # GPUs in its sight


def hello_of(work: Work) -> Hello:
    """Write the token into the table's folder and say where it lies. `Writer` removes what is left of it."""
    places = work.places.absolute()
    manifests = [placed(folder, MANIFEST) for folder in places.inputs.values()]
    token = f".hello-{uuid.uuid4().hex}.tmp"
    hello = Hello(
        stage=work.stage,
        config=work.config,
        places=places,
        inputs={str(path): path.stat().st_size for path in manifests},
        started_in=absolute(Path()),
        token=token,
        marks=work.tasks.blank.marks,
    )
    if not say_far(hello.token_file, token):
        hello.token_file.write_text(token, encoding="utf-8")
    return hello


def say_far(path: Path, text: str) -> bool:
    """Write a file to the bucket behind its folder. Returns whether there is one."""
    scratch = behind(path)
    if scratch is not None:
        scratch.bucket.put(scratch.name(path), text.encode())
    return scratch is not None


def said_far(path: Path) -> str | None:
    """What such a file says. None where there is none or no bucket."""
    scratch = behind(path)
    content = None if scratch is None else scratch.bucket.read(scratch.name(path))
    return None if content is None else content.decode()


def remove(path: Path) -> None:
    """Remove a file of a greeting, wherever it is."""
    scratch = behind(path)
    if scratch is not None:
        scratch.bucket.remove([scratch.name(path)])
    path.unlink(missing_ok=True)


def greet(hello: Hello) -> Answer:
    """The worker's part. What it computes with is not loaded yet."""
    one_thread_a_worker()  # a nanny does that, too, and not every worker has one
    unseen, reply = _unseen_in_bucket(hello) if hello.marks else _unseen(hello), ""
    if not unseen:
        reply = f"{hello.token.removesuffix('.tmp')}-{uuid.uuid4().hex}.tmp"
        try:
            if not say_far(hello.places.table / reply, hello.token):
                write_reply(hello.places.table / reply, hello.token)
        except OSError as error:
            unseen = f"it cannot write to {hello.places.table}: {error.strerror}"
        except PairloomError as error:
            unseen = f"it cannot write to {error.args[1]}: {error.args[0]}"
    return Answer(socket.gethostname(), facts(hello, _resources(hello)), unseen, reply, len(gpus()))


def write_reply(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _unseen_in_bucket(hello: Hello) -> str:
    try:
        attend(hello.marks)
        seen = said_far(hello.token_file) == hello.token
    except PairloomError as error:
        return f"it cannot read {error.args[1]}: {error.args[0]}"
    return "" if seen else f"it sees another bucket at the address of {hello.places.table.name}"


def _unseen(hello: Hello) -> str:
    for _ in range(LOOKS):
        try:
            os.listdir(hello.places.table)
            if hello.token_file.read_text(encoding="utf-8") == hello.token:
                break
        except OSError:
            time.sleep(PAUSE_S)
    else:
        return f"it does not see what lies in {hello.places.table}"
    for path, size in hello.inputs.items():
        if not Path(path).is_file() or Path(path).stat().st_size != size:
            return f"it does not see the table {Path(path).parents[1]} as it is"
    return ""


def facts(hello: Hello, resources: str) -> dict[str, str]:
    """All that must be the same for a shard to come out the same, by name."""
    stage = hello.stage
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "pairloom's code": code_sum(),
        f"code of stage {stage.name}": stage_sum(stage.module),
        f"VERSION of {stage.name}": str(importlib.import_module(stage.module).VERSION),
        "detector and other files": resources,
        **{name: installed(name) for name in PACKAGES},
    }


def _resources(hello: Hello) -> str:
    try:
        files = hello.stage.resources(resolved(hello.config, hello.started_in))
        return sum_of_hashes(resource_hashes(files).values())
    except PairloomError as error:
        return f"{error.args[0]} ({error.args[1]})"


def sum_of_hashes(hashes: Iterable[str]) -> str:
    text = "".join(sorted(hashes))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else NONE


@cache
def installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return NONE


@cache
def code_sum() -> str:
    """A hash of the sources of all rooms, once a process: what was loaded before a checkout changed stays loaded."""
    return _sum_of({room: spec_folder(room) for room in ROOMS})


@cache
def stage_sum(module: str) -> str:
    """A hash of the sources of one stage, which may be the user's own: of its folder, or its one file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return NONE
    own = Path(spec.origin)
    if spec.submodule_search_locations:
        return _sum_of({module: own.parent})
    return hashlib.sha256(own.read_bytes()).hexdigest()[:12]


def spec_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _sum_of(folders: Mapping[str, Path]) -> str:
    total = hashlib.sha256()
    for name, folder in folders.items():
        for file in _sources(folder):
            total.update(f"{name}/{file.relative_to(folder)}\0".encode())
            total.update(file.read_bytes())
    return total.hexdigest()[:12]


def _sources(folder: Path) -> Iterator[Path]:
    return (file for file in sorted(folder.rglob("*")) if file.suffix in SOURCES and file.is_file())


def differences(own: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    """What differs, by name; of a package that is not installed here nothing can be said."""
    said = [
        f"{name}: {theirs.get(name, NONE)} there, {value} here"
        for name, value in own.items()
        if theirs.get(name) != value and not (name in PACKAGES and value == NONE)
    ]
    return ", ".join(said)


class Reception:
    """Greets each worker of a stage and compares it with this process."""

    def __init__(self, work: Work) -> None:
        self.hello = hello_of(work)
        self.same = facts(self.hello, sum_of_hashes(work.header.resources.values()))
        self._waits: dict[str, float] = {}  # reply that is not here yet -> when it was first looked for

    def call(self, worker: Worker) -> bytes:
        return pickled(greet, self.hello)

    def judge(self, answer: Answer) -> str | None:
        """Of packages that this process lacks, the first worker decides which version the others must have."""
        if answer.unseen:
            fix = (
                "give it the endpoint and credentials"
                if self.hello.marks
                else "mount the shared folder under this path"
            )
            return f"{answer.unseen} (on {answer.host}): {fix} there"
        if differs := differences(self.same, answer.facts):
            remove(self.hello.places.table / answer.reply)
            return f"{differs} (on {answer.host})"
        if (came := self._came(answer)) is None:
            return None
        if not came:
            return f"what it writes to {self.hello.places.table} (on {answer.host}) does not arrive here"
        self.same |= {name: answer.facts[name] for name in PACKAGES}
        return ""

    def _came(self, answer: Answer) -> bool | None:
        """Whether the reply lies here. None while it may still come."""
        reply = self.hello.places.table / answer.reply
        if said_far(reply) == self.hello.token:
            remove(reply)
            return True
        os.listdir(reply.parent)  # makes a network file system look again
        if reply.is_file() and reply.read_text(encoding="utf-8") == self.hello.token:
            reply.unlink()
            return True
        first = self._waits.setdefault(answer.reply, time.monotonic())
        return None if time.monotonic() - first < REPLY_S else False
