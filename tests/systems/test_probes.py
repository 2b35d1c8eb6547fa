"""The probes of the text side: they find what is there, nothing where there is nothing, and run from file to figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairloom.errors import InputError
from pipeline.cli import main
from systems import checkpoints, probes, recipes
from systems.probes.nouns import Noun, by_noun
from tests.pairloom.loader.loading import write_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the text-only twin after two steps."""
    folder = tmp_path_factory.mktemp("twin")
    write_folder(folder / "shards", splits=("train", "val"))
    words = ["--recipe", "lexical", "--shards", str(folder / "shards"), "--steps", "2", "--quiet"]
    places = ["--out", str(folder / "out"), "--metrics", str(folder), "--plots", str(folder)]
    assert main(["train", *words, *places]) == 0
    return folder / "out"


def test_the_twin_differs_from_its_recipe_in_the_image_alone() -> None:
    twin, recipe = recipes.load("lexical"), recipes.load("uniter")
    assert (twin.text, twin.model, twin.training) == (recipe.text, recipe.model, recipe.training)
    assert set(twin.objectives) == {"mlm"}
    assert not twin.objectives["mlm"].settings.image


def test_probes_run_from_our_few_lines_to_figures(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["recipe", "probe", str(trained), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["probes"][str(trained)]
    assert 0 <= found["choices"]["accuracy"] <= 1
    assert 0 <= found["adjectives"]["v"] <= 1
    assert set(found["adjectives"]["by_noun"]) == {"nouns", "homogeneity", "completeness", "v"}
    assert found["adjectives"]["chance"] == pytest.approx(0.2)  # five adjectives, equally often


def test_a_noun_is_the_mean_of_its_own_tokens(trained: Path) -> None:
    learner, tokenizer = checkpoints.load(trained)
    (noun, *_) = probes.read(probes.NOUNS, probes.Noun)
    ((vector,), _) = probes.noun_vectors(learner, tokenizer, [noun])
    ((_, hidden),) = probes.encoded(learner, tokenizer, [(noun.text, None)])
    before = len(tokenizer.backend.encode(noun.text[: noun.start], add_special_tokens=False).ids)
    count = len(tokenizer.backend.encode(noun.text[noun.start : noun.stop], add_special_tokens=False).ids)
    np.testing.assert_allclose(vector, hidden[0, 1 + before : 1 + before + count].mean(axis=0), rtol=1e-5)


def test_a_probe_finds_what_the_vectors_tell_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    labels: Any = rng.integers(0, 2, 400)
    told = rng.normal(size=(400, 8)) + 3 * labels[:, None]
    assert probes._cross_validated(told, labels, 0) > 0.95
    assert abs(probes._cross_validated(rng.normal(size=(400, 8)), labels, 0) - 0.5) < 0.12


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "choices.jsonl"
    file.write_text('{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}\n{"goal": "a"}\n', encoding="utf-8")
    with pytest.raises(InputError, match="line 2"):
        probes.read(file, probes.Choice)


TABLE = """adjective,noun,row_id,text,count
ripe,banana,0,[CLS] Peel the Ripe banana and the ripe banana. [SEP],2
ripe,banana,0,[CLS] Peel the Ripe banana and the ripe banana. [SEP],2
wet,cloth,7,"[CLS] Wipe, then wring the wet cloth. [SEP]",1
"""


def test_the_studys_table_gives_each_occurrence_of_a_noun(tmp_path: Path) -> None:
    file = tmp_path / "df_info.csv"
    file.write_text(TABLE, encoding="utf-8")
    found = probes.read_nouns(file)
    assert [one.text[one.start : one.stop] for one in found] == ["banana", "banana", "cloth"]
    assert [one.start for one in found] == [14, 34, 25]
    assert [one.adjective for one in found] == ["ripe", "ripe", "wet"]
    assert found[2].text == "Wipe, then wring the wet cloth."


WRONG = {
    "a third time": (TABLE + "ripe,banana,0,[CLS] Peel the Ripe banana and the ripe banana. [SEP],2\n", "row 4"),
    "not there": (TABLE + "dry,cloth,7,[CLS] a wet cloth [SEP],1\n", "does not have 'dry' 'cloth' 1 times"),
    "no column": ("adjective,text\nripe,a ripe pear\n", "it has no column noun"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_in_the_studys_table_is_named(case: str, tmp_path: Path) -> None:
    content, message = WRONG[case]
    (tmp_path / "df_info.csv").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        probes.read_nouns(tmp_path / "df_info.csv")
    assert "fix:" in str(caught.value)


def test_each_noun_is_clustered_by_itself() -> None:
    """Nouns lie far apart and adjectives near, on the other side for each noun. By noun all is told."""
    rng = np.random.default_rng(0)
    places = {("pear", "red"): (0, 0), ("pear", "old"): (0, 5), ("hat", "red"): (90, 5), ("hat", "old"): (90, 0)}
    nouns = [Noun(name, 0, len(name), adjective) for name, adjective in places for _ in range(30)]
    vectors = np.repeat(np.array(list(places.values()), float), 30, axis=0) + rng.normal(0, 0.1, (120, 2))
    found = by_noun(vectors, [*nouns], 0)
    assert found == {
        "nouns": 2,
        "homogeneity": pytest.approx(1),
        "completeness": pytest.approx(1),
        "v": pytest.approx(1),
    }
    shuffled = by_noun(rng.permutation(vectors), nouns, 0)
    assert shuffled["v"] < 0.3
    assert by_noun(vectors[:30], nouns[:30], 0) == {"nouns": 0}  # one adjective
