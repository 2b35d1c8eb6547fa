"""`pairloom recipe` and `pairloom train --recipe` on a small real folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import main
from systems import recipes
from tests.pairloom.loader.loading import write_folder

AGAIN = "--data DATASET --redo"  # of folders that do not lie in a dataset


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main([*words])
    return code, capsys.readouterr().out


def test_every_recipe_is_listed_and_shown_with_its_comments(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(capsys, "recipe", "list", "--json")
    assert code == 0
    assert sorted(json.loads(text)["recipes"]) == recipes.names()
    for name in recipes.names():
        code, text = run(capsys, "recipe", "show", name)
        assert code == 0
        assert text.strip() == (recipes.FOLDER / f"{name}.yaml").read_text(encoding="utf-8").strip()


def test_check_names_what_is_missing_and_what_would_make_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    whole, bare = write_folder(tmp_path / "whole"), write_folder(tmp_path / "bare", without=("features", "negatives"))
    assert run(capsys, "recipe", "check", "uniter", str(whole))[0] == 0
    code, text = run(capsys, "recipe", "check", "uniter", str(bare), "--json")
    found = json.loads(text)
    assert code == 1
    assert found["missing"] == {"features": "regions", "negatives": "negatives"}
    assert found["commands"] == [f"pairloom stage {stage} {AGAIN}" for stage in ("regions", "negatives", "shards")]


def test_check_names_the_settings_without_which_a_column_stays_null(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plain, patched = write_folder(tmp_path / "plain"), write_folder(tmp_path / "patched", patched=True)
    assert run(capsys, "recipe", "check", "fashionbert", str(patched))[0] == 0
    code, text = run(capsys, "recipe", "check", "fashionbert", str(plain))
    assert code == 1
    assert "missing  patch_boxes, patch_features" in text
    assert "set      patches.grid: 8, shards.patches: true in params.yaml" in text
    assert f"to make  pairloom stage patches {AGAIN} && pairloom stage shards {AGAIN}" in text
    assert main(["train", "--recipe", "fashionbert", "--shards", str(plain), "--size", "tiny"]) == 1
    assert "set patches.grid: 8, shards.patches: true in params.yaml, run the stages patches" in capsys.readouterr().err


def test_check_says_how_questions_are_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "pairloom/loader/versions/3"  # of before there were any
    assert run(capsys, "recipe", "check", "lxmert", str(write_folder(tmp_path / "asked")))[0] == 0
    for shards in (old, write_folder(tmp_path / "plain", without=("qa",))):
        for name in ("lxmert", "vinvl"):
            code, text = run(capsys, "recipe", "check", name, str(shards))
            assert code == 1
            assert "missing  qa\n" in text
            assert "set      qa.sources: [{file: QUESTIONS.json}], shards.qa: true in params.yaml" in text
            assert (
                "to make  pairloom stage qa --data DATASET --redo && pairloom stage shards --data DATASET --redo"
                in text
            )


def test_check_says_how_similar_captions_are_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "recipe", "check", "unimo", str(write_folder(tmp_path / "similar")))[0] == 0
    plain = str(write_folder(tmp_path / "plain", without=("similar",)))
    code, text = run(capsys, "recipe", "check", "unimo", plain)
    assert code == 1
    assert "missing  similar\n" in text
    assert "set      shards.similar: true in params.yaml" in text
    assert f"to make  pairloom stage similar {AGAIN} && pairloom stage shards {AGAIN}" in text
    assert run(capsys, "recipe", "check", "unimo", plain, "--size", "tiny")[0] == 0


def test_a_wrong_recipe_stops_before_any_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "--recipe", "unitre", "--shards", str(tmp_path)]) == 1
    assert "take one of" in capsys.readouterr().err


def test_train_leaves_a_checkpoint_with_its_figures_and_goes_on_from_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    write_folder(shards, splits=("train", "val"))
    common = ["--shards", str(shards), "--steps", "2", "--quiet", "--metrics", str(tmp_path), "--plots", str(tmp_path)]
    assert main(["train", "--recipe", "uniter", "--out", str(tmp_path / "one"), *common]) == 0
    figures = json.loads((tmp_path / "one" / "metrics.json").read_text(encoding="utf-8"))
    for objective in figures["objectives"].values():
        assert {"train_loss", "held_out_loss", "score", "chance", "rows"} <= set(objective)
        assert 0 <= objective["chance"] <= 1
    assert (
        main(["train", "--recipe", "uniter", "--init", str(tmp_path / "one"), "--out", str(tmp_path / "two"), *common])
        == 0
    )
    again = json.loads((tmp_path / "two" / "metrics.json").read_text(encoding="utf-8"))
    for name, objective in again["objectives"].items():  # it begins where the first ended
        assert objective["untrained_loss"] == pytest.approx(figures["objectives"][name]["held_out_loss"], rel=1e-4)
