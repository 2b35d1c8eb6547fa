"""`pairloom run` on a list of one's own: which settings it takes, and whose pictures it serves."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.verbs.dataset import params_of_run
from stages import sample, shards

DEMO = {
    "run": {"cluster": "inline"},
    "sample": {"urls": "demo/demo.yaml", "rows_per_shard": 64},
    "download": {"serve": "data/sample"},
    "shards": {"val_share": 0.2},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the demo's params.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(DEMO), encoding="utf-8")
    return tmp_path


def test_a_list_does_not_take_the_demos_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = params_of_run(None, "my.csv", Path("my-data"))
    assert params.sections == {"run": {"cluster": "inline"}, "sample": {"urls": "my.csv"}}
    assert "the demo's settings" in capsys.readouterr().err
    assert (sample.Config().rows_per_shard, shards.Config().val_share) == (1000, 0.01)
    assert shards.Config().shard_bytes == 256 << 20


def test_a_file_that_is_named_is_taken_as_it_is(folder: Path) -> None:
    params = params_of_run(Path("params.yaml"), "my.csv", Path("my-data"))
    assert params.section("sample") == {"urls": "my.csv", "rows_per_shard": 64}
    assert params.section("download") == {"serve": "data/sample"}


def test_what_the_user_serves_stays(folder: Path) -> None:
    own = {"sample": {"urls": "my.csv"}, "download": {"serve": "mirror"}}
    (folder / "params.yaml").write_text(yaml.safe_dump(own), encoding="utf-8")
    assert params_of_run(None, None, Path("out")).section("download")["serve"] == "mirror"
    assert params_of_run(None, "other.csv", Path("out")).section("download")["serve"] == "mirror"


def test_a_demo_is_served_from_where_it_is_drawn(folder: Path) -> None:
    assert params_of_run(None, None, Path("out")).section("download")["serve"] == str(Path("out/sample"))
    assert params_of_run(None, "demo/scenes.yaml", Path("x")).section("download")["serve"] == str(Path("x/sample"))


def test_no_settings_are_needed_for_a_list(folder: Path) -> None:
    (folder / "params.yaml").unlink()
    assert params_of_run(None, "my.csv", Path("out")).sections == {"sample": {"urls": "my.csv"}}
