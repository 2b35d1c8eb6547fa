"""Stage `sample`: its settings, and what `urls` may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demo.draw import load
from pairloom.errors import ConfigError, InputError
from stages.sample import Config, description, is_demo, parts


@pytest.mark.parametrize("settings", [{"rows_per_shard": 0}, {"url_column": "caption"}, {"lang_column": "source"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)


def test_demo_names_the_shipped_demo_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_path = load(Path("demo/demo.yaml"))
    monkeypatch.chdir(tmp_path)
    assert is_demo("demo")
    assert load(description("demo")) == by_path
    with pytest.raises(InputError, match=r"demo/demo\.yaml"):  # a path is one of the folder where the command runs
        load(description("demo/demo.yaml"))


def test_a_folder_called_demo_is_a_folder_of_lists_when_written_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    Path("demo/a.csv").write_text("url,caption\nhttp://h/1,a dog\n", encoding="utf-8")
    (part,) = parts(Config(urls="./demo"), tmp_path / "drawn")
    assert part.rows["url"].to_pylist() == ["http://h/1"]
