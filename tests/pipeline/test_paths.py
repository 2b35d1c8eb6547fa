"""Relative paths of settings mean the folder where a run was started, also on a worker that started in another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pairloom.typed import build
from pipeline.fingerprints import resource_hashes
from pipeline.greeting import sum_of_hashes
from pipeline.paths import resolved
from pipeline.stage import load, names
from stages.contract import A_PATH, IS_PATH
from tests.stages.qa.test_qa import write_questions

PLACES = st.one_of(st.none(), st.text("ab./", min_size=1, max_size=6), st.just("/from/the/root"), st.just("s3://b/d"))
# Of each stage that reads files beside its tables: how many, and settings with relative paths.
SETTINGS: dict[str, tuple[int, dict[str, Any]]] = {
    "curate": (2, {"blocked_words": "words.txt", "exclude": ["pictures"]}),
    "download": (1, {"engine": "img2dataset", "img2dataset_config": "i2d.yaml"}),
    "patches": (1, {"network": "resnet50", "checkpoint": "weights.pt"}),
    "qa": (4, {"sources": [{"file": "q.json", "annotations": "a.json", "names": "n.json"}], "answers": "all.json"}),
    # its own settings, two files below them, the checkpoint and the ImageNet weights that come with pairloom
    "regions": (5, {"detector": "own/my.yaml", "checkpoint": "weights.pt"}),
    "score": (3, {"model": "model", "heads": ["weights.pt"]}),
    "tags": (1, {"mapping": "mapping.yaml"}),
}


@dataclass(frozen=True)
class Inner:
    place: str | None = field(default=None, metadata=A_PATH)
    word: str | None = None


@dataclass(frozen=True)
class Outer:
    places: tuple[str | None, ...] = field(default=(), metadata=A_PATH)
    perhaps: str = field(default="", metadata={IS_PATH: lambda value: value.endswith(".yaml")})
    inner: Inner = Inner()
    several: tuple[Inner, ...] = ()


def meant(place: str | None) -> str | None:
    """By hand: from the root, but for addresses and nothing."""
    return place if place is None or place.startswith(("/", "s3://")) else f"/start/{place}"


@given(places=st.lists(PLACES, max_size=3), word=PLACES, perhaps=st.sampled_from(["starter", "my.yaml", "/my.yaml"]))
def test_paths_are_meant_from_the_start_wherever_they_stand(
    places: list[str | None], word: str | None, perhaps: str
) -> None:
    inners = tuple(Inner(place, word) for place in places)
    found = resolved(Outer(tuple(places), perhaps, Inner(word, word), inners), Path("/start"))
    assert [Path(each or "") for each in found.places] == [Path(meant(each) or "") for each in places]
    assert found.perhaps == {"starter": "starter", "my.yaml": "/start/my.yaml", "/my.yaml": "/my.yaml"}[perhaps]
    assert Path(found.inner.place or "") == Path(meant(word) or "")
    assert [each.word for each in (*found.several, found.inner)] == [word] * (len(places) + 1)
    assert [Path(each.place or "") for each in found.several] == [Path(meant(each) or "") for each in places]


def write_files() -> None:
    for folder in ("pictures", "own", "model"):
        Path(folder).mkdir()
    for name in ("words.txt", "weights.pt", "a.json", "n.json", "all.json", "pictures/1.jpg", "mapping.yaml"):
        Path(name).write_text(f"content of {name}", encoding="utf-8")
    write_questions(Path("q.json"), [("1", "what is it?", "a cup")])
    Path("i2d.yaml").write_text("{}", encoding="utf-8")
    Path("own/my.yaml").write_text(yaml.safe_dump({"base": "below.yaml", "min_score": 0.3}), encoding="utf-8")
    Path("own/below.yaml").write_text(yaml.safe_dump({"base": "starter"}), encoding="utf-8")
    Path("model/config.json").write_text('{"model_type": "clip", "architectures": ["CLIPModel"]}', encoding="utf-8")
    Path("model/model.safetensors").write_text("weights", encoding="utf-8")


@pytest.mark.parametrize("name", SETTINGS)
def test_a_worker_elsewhere_finds_the_files_of_a_stage(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("started", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "started")
    write_files()
    stage, (number, settings) = load(name), SETTINGS[name]
    config = build(stage.config_type, settings, "here")
    expected = resource_hashes(stage.resources(config))
    assert len(expected) == number
    monkeypatch.chdir(tmp_path / "elsewhere")
    there = resolved(config, tmp_path / "started")
    assert sum_of_hashes(resource_hashes(stage.resources(there)).values()) == sum_of_hashes(expected.values())


def test_no_stage_that_reads_files_is_left_out_here() -> None:
    reads_none = load("shards").resources
    assert {name for name in names() if load(name).resources is not reads_none} == SETTINGS.keys()
