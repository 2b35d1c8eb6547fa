"""Recipes on a real, small shards folder: they train, score and come out the same twice."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pairloom.errors import ConfigError, InputError
from schemas.shards import SHARDS
from systems import checkpoints, recipes
from tests.building import negative, training_row, training_shard, write_table
from tests.training import train
from trainer import loop, state, weight_files

THINGS = ("dog", "cup", "bus", "tree", "guitar", "apple", "boat", "clock")
METADATA = {
    "detector": "test", "checkpoint": "0", "feature_width": "8", "prob_width": "2", "classes": json.dumps(THINGS),
    "attributes": '["none"]',
}  # fmt: skip


def picture(colour: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), (colour * 30, 255 - colour * 30, 90)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 train and 16 val images. The feature of a thing's region is one-hot, its caption names the thing."""
    made = {
        f"{split}-00000": training_shard([lesson(row) for row in rows], split, METADATA)
        for split, rows in (("train", range(48)), ("val", range(48, 64)))
    }
    return write_table(tmp_path_factory.mktemp("shards"), SHARDS, made)


def lesson(row: int) -> dict[str, Any]:
    kind = row % len(THINGS)
    return training_row(
        row, [f"a photo of a {THINGS[kind]}"], np.array([[0, 0, 32, 48], [8, 8, 64, 48]]), np.eye(8)[[kind, kind]],
        image=picture(kind), class_ids=np.array([kind, kind]), class_scores=np.array([0.9, 0.8]),
        prob_ids=np.array([[kind, 0], [kind, 0]]), prob_values=np.array([[0.9, 0.05], [0.8, 0.1]]),
        negatives=[[negative(f"a photo of a {THINGS[(kind + 1) % 8]}")]], short=[29],
    )  # fmt: skip


@pytest.mark.parametrize("recipe", ["uniter", "clip"])
def test_a_recipe_trains_and_reports_every_figure_against_chance(recipe: str, shards: Path) -> None:
    result = train(recipe, shards, loop.Config(steps=12, batch_size=16, threads=1))
    for objective in result.metrics["objectives"].values():
        assert all(np.isfinite(value) for value in objective.values() if value is not None)
    assert result.metrics["retrieval"]


PIXELS = ("align", "e2e_vlp", "mlim", "mural", "pixelbert", "simvlm", "soho", "vilt", "vit")


@pytest.mark.parametrize("recipe", PIXELS)
def test_every_pixel_recipe_trains_with_finite_losses(recipe: str, shards: Path) -> None:
    result = train(recipe, shards, loop.Config(steps=2, batch_size=4, threads=1))
    for objective in result.metrics["objectives"].values():
        assert all(np.isfinite(value) for value in objective.values() if value is not None)


def test_the_same_seed_gives_the_same_curve(shards: Path) -> None:
    config = loop.Config(steps=6, batch_size=8, seed=3, threads=1)
    one, two = (train("clip", shards, config) for _ in range(2))
    assert one.curve == two.curve


def test_training_lowers_the_contrastive_loss_of_held_out_pairs(shards: Path) -> None:
    result = train("clip", shards, loop.Config(steps=60, batch_size=16, lr=1e-3, threads=1))
    (figures,) = result.metrics["objectives"].values()
    assert figures["held_out_loss"] < 0.8 * figures["untrained_loss"]


class StoppedError(Exception):
    """What ends a training in the middle."""


def weights(out: Path) -> bytes:
    return (out / "model.safetensors").read_bytes()


# clip: dropout; soho: a dictionary that follows the cells; villa: several passes a step
@pytest.mark.parametrize("recipe", ["clip", "soho", "villa"])
@settings(max_examples=2, derandomize=True, deadline=None)
@given(stop=st.integers(1, 4))
def test_a_training_that_goes_on_gives_the_weights_of_one_that_never_stopped(
    recipe: str, stop: int, shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("models")
    config = loop.Config(steps=5, batch_size=4, seed=1, threads=1, save_every_s=0.0)
    whole, parts = folder / "whole", folder / "parts"
    expected = train(recipe, shards, config, out=whole)
    loop.save(expected, whole, None)

    def stop_there(step: int, *_: object) -> None:
        if step == stop + 1:  # the state after `stop` steps is kept
            raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, shards, config, stop_there, parts)
    steps: list[int] = []
    result = train(recipe, shards, config, lambda step, *_: steps.append(step), parts)
    loop.save(result, parts, None)
    assert steps[0] == stop + 1
    assert weights(parts) == weights(whole)
    assert result.curve == expected.curve
    assert [path.name for path in folder.iterdir() if path.suffix == ".pt"] == []


@pytest.mark.crash
@pytest.mark.slow
def test_a_killed_process_leaves_a_state_that_the_next_goes_on_from(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {clip: {steps: 6, batch_size: 4, threads: 1, save_every_s: 0}}\n")
    pairloom = str(Path(sys.executable).with_name("pairloom"))
    command = [pairloom, "train", "--recipe", "clip", "--shards", str(shards), "--out", "models/clip"]
    process = subprocess.Popen([*command, "--seed", "2"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "models").glob("clip.state-*.pt")):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    ended = subprocess.run([*command, "--seed", "2"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "training resumes after step" in ended.stderr
    result = train("clip", shards, loop.Config(steps=6, batch_size=4, seed=2, threads=1))
    loop.save(result, tmp_path / "whole", None)
    assert weights(tmp_path / "models" / "clip") == weights(tmp_path / "whole")


def test_a_state_is_written_while_the_training_goes_on(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of step 1 is not sealed before step 2 is done, and holds the optimiser of step 1."""
    second, in_time = threading.Event(), list[bool]()
    sealed = state.seal

    def seal_late(file: Path) -> None:
        in_time.append(second.wait(60))
        sealed(file)

    monkeypatch.setattr(state, "seal", seal_late)
    config = loop.Config(steps=2, batch_size=4, threads=1, save_every_s=0.0, keep_states=2)
    train("clip", shards, config, lambda step, *_: second.set() if step == 2 else None, tmp_path / "clip")
    assert in_time == [True, True]
    first = state.read(tmp_path / "clip.state-00000001.pt")
    assert {int(one["step"]) for one in first["run"]["optimiser"]["state"].values()} == {1}


def test_a_state_of_other_settings_is_named_and_not_used(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = loop.Config(steps=2, batch_size=4, threads=1, save_every_s=0.0)
    train("clip", shards, first, out=tmp_path / "clip")
    steps: list[int] = []
    train("clip", shards, replace(first, seed=9), lambda step, *_: steps.append(step), tmp_path / "clip")
    assert steps == [1, 2]
    assert "is of other settings (seed): it starts at step 0" in capsys.readouterr().err


def test_a_damaged_state_is_an_error_that_names_it(shards: Path, tmp_path: Path) -> None:
    config = loop.Config(steps=2, batch_size=4, threads=1, save_every_s=0.0, keep_states=1)
    train("clip", shards, config, out=tmp_path / "clip")
    (state,) = tmp_path.glob("clip.state-*.pt")
    whole = state.read_bytes()
    for damaged in (b"", b"half a file", whole[: len(whole) // 2]):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read"):
            train("clip", shards, config, out=tmp_path / "clip")
    for place in range(1000, len(whole), len(whole) // 5):
        state.write_bytes(bytes([*whole[:place], whole[place] ^ 16, *whole[place + 1 :]]))
        with pytest.raises(InputError, match="not what was written"):
            train("clip", shards, config, out=tmp_path / "clip")


def test_a_flipped_bit_in_a_checkpoints_weights_is_refused(shards: Path, tmp_path: Path) -> None:
    result = train("clip", shards, loop.Config(steps=1, batch_size=4, threads=1))
    loop.save(result, tmp_path / "clip", None)
    file = tmp_path / "clip/model.safetensors"
    whole = bytearray(file.read_bytes())
    whole[-5] ^= 1
    file.write_bytes(whole)
    with pytest.raises(InputError, match="the weights are not what was written"):
        checkpoints.load(tmp_path / "clip")


def published_bert(folder: Path, words: list[str]) -> Path:
    """A folder as transformers writes it, of the widths of uniter's size tiny."""
    from transformers import BertConfig, BertForPreTraining

    settings: Any = recipes.load("uniter", "tiny").model.settings
    config = BertConfig(
        vocab_size=len(words), hidden_size=settings.hidden, num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads, intermediate_size=settings.feed_forward,
        max_position_embeddings=settings.max_tokens,
    )  # fmt: skip
    BertForPreTraining(config).save_pretrained(folder)
    return folder


def test_training_starts_from_a_folder_of_transformers_with_the_words_that_lie_beside(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", *THINGS]
    folder = published_bert(tmp_path / "bert", words)
    config = loop.Config(steps=1, batch_size=4, threads=1, init=str(folder), lr=1e-12)
    with pytest.raises(ConfigError, match=r"word_embeddings\.weight is"):
        train("uniter", shards, config)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    result = train("uniter", shards, config)
    assert result.tokenizer.vocab_size == len(words)
    assert "gives model.bert" in capsys.readouterr().err
    table = result.learner.state_dict()["model.bert.embeddings.word_embeddings.weight"]
    theirs = weight_files.read(folder)["bert.embeddings.word_embeddings.weight"]
    np.testing.assert_allclose(table.numpy(), theirs.numpy(), atol=1e-6)


def test_published_words_without_a_vocabulary_are_refused_even_if_their_number_fits(
    shards: Path, tmp_path: Path
) -> None:
    """Training makes a vocabulary of as many words here. Whether they are those of the weights, nothing says."""
    trained = train("uniter", shards, loop.Config(steps=1, batch_size=4, threads=1)).tokenizer.vocab_size
    folder = published_bert(tmp_path / "bert", [str(number) for number in range(trained)])
    with pytest.raises(ConfigError, match="no vocabulary says which"):
        train("uniter", shards, loop.Config(steps=1, batch_size=4, threads=1, init=str(folder)))
