"""params.yaml and --set: what is read and refused, and that all of it is checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pairloom.errors import ConfigError, PairloomError
from pipeline.cli import main
from pipeline.params import Params, check_resources, check_sections, check_settings, read_params


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read it") as caught:
        read_params(tmp_path / "mine.yaml")
    assert "mine.yaml" in caught.value.args[1]
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigError, match="not valid YAML"):
        read_params(tmp_path / "bad.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot read it"):
        read_params(tmp_path / "bytes.yaml")
    (tmp_path / "flat.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match="one mapping a stage"):
        read_params(tmp_path / "flat.yaml")


def test_no_file_an_empty_one_and_an_empty_section_give_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_params(None).sections == {}
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    assert read_params(None).sections == {}
    (tmp_path / "params.yaml").write_text("tags:\n", encoding="utf-8")
    assert read_params(None).section("tags") == {}


def test_settings_of_the_command_line_stand_in_place_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("negatives: {top_k: 3, ceiling: 0.5}\n", encoding="utf-8")
    sets = ["negatives.top_k=12", "sample.columns=[a, b]", "train.uniter.steps=4", "download.contact=null"]
    params = read_params(tmp_path / "p.yaml", sets)
    assert params.section("negatives") == {"top_k": 12, "ceiling": 0.5}
    assert params.section("sample") == {"columns": ["a", "b"]}
    assert params.section("train") == {"uniter": {"steps": 4}}
    assert params.section("download") == {"contact": None}


@pytest.mark.parametrize("text", ["top_k=3", "negatives.top_k", "negatives.=3", "a.b=[1"])
def test_a_setting_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_params(None, [text])
    assert caught.value.args[1] == "--set"


def test_an_unknown_section_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no section 'negative'") as caught:
        check_sections(Params({"negative": {}}, "mine.yaml"))
    assert caught.value.args[1] == "mine.yaml"
    assert "negatives" in caught.value.args[2]
    check_sections(Params({"words": {}}), own="words")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"shards": {"val_shar": 0.1}}, "no setting val_shar"),
        ({"negatives": {"top_k": 0}}, "top_k is 0"),
        ({"qa": {"source": []}}, "no setting source"),
        ({"shards": {"qa": True}, "qa": {"sources": []}}, "sources is empty"),
        ({"run": {"worker": 2}}, "no setting worker"),
        ({"sample": {"rows_per_shard": 0}}, "rows_per_shard is 0"),
        ({"train": {"uniter": {"step": 3}}}, "no setting step"),
        ({"train": {"uniterr": {}}}, "uniterr"),
        ({"train": {"uniter": {"size": "huge"}}}, "huge"),
    ],
)
def test_every_sections_settings_are_checked_with_the_name_of_the_file(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_settings(Params(sections, "mine.yaml"))
    assert said in str(caught.value)
    assert "params.yaml" not in str(caught.value)


def test_an_optional_stage_that_nothing_asks_for_may_be_unfinished() -> None:
    check_settings(Params({"qa": {"sources": []}, "train": {"clip": {"steps": 3}}}))


def test_missing_weights_are_found_before_the_download(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("url,caption\nhttp://127.0.0.1:9/1.jpg,a\n", encoding="utf-8")
    regions = {"detector": "butd-r101", "checkpoint": str(tmp_path / "none.safetensors")}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"regions": regions}), encoding="utf-8")
    with pytest.raises(PairloomError, match="weights are missing"):
        check_resources(read_params(tmp_path / "p.yaml"))
    out, params = tmp_path / "out", str(tmp_path / "p.yaml")
    assert main(["run", "--urls", str(tmp_path / "my.csv"), "--out", str(out), "--params", params]) == 1
    assert not (out / "download").exists()


@pytest.mark.parametrize("verb", [["run", "--urls", "my.csv", "--out", "out"], ["stage", "sample", "--data", "out"]])
def test_a_misspelled_section_or_setting_stops_before_any_work(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for params, said in (("negative: {}", "no section 'negative'"), ("tags: {threshhold: 1}", "no setting threshhold")):
        Path("mine.yaml").write_text(params, encoding="utf-8")
        assert main([*verb, "--params", "mine.yaml"]) == 1
        captured = capsys.readouterr().err
        assert said in captured
        assert "mine.yaml" in captured
    assert not Path("out").exists()
