"""Stage score: columns against arithmetic on the model's own vectors, heads by hand, and what is left out."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pairloom.errors import ConfigError, InputError, StoreError
from pairloom.table import Array, Blob, metadata
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.pairs import PAIRS
from schemas.score import SCORE
from stages import negatives, score
from stages.score import Config
from tests.building import numbered, write_table
from tests.pipeline.helpers import hashes
from tests.stages.rows import said_of
from tests.stages.score.models import WIDTH, clip, expected, jpeg, picture, sentence

BODIES = [jpeg(picture(seed, 70 + seed, 60)) for seed in range(7)]
CAPTIONS = [[sentence(seed, 2 + seed), sentence(seed + 50, 12)][: 1 + seed % 2] for seed in range(7)]


def pairs(bodies: list[bytes | None], captions: list[list[str]]) -> pa.Table:
    count, one = len(bodies), [1] * len(bodies)
    return PAIRS.table(
        image_id=[number.to_bytes(16, "big") for number in range(count)], image=bodies, format=["jpeg"] * count,
        width=one, height=one, original_width=one, original_height=one, url=["u"] * count, sha256=[bytes(32)] * count,
        phash=one, extra=[[]] * count,
        captions=[[{"text": t, "original": t, "lang": None} for t in texts] for texts in captions],
    )  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # as in the executor's workers
    return clip(tmp_path_factory.mktemp("clip"))


def run(table: pa.Table, **settings: object) -> tuple[pa.Table, pa.Table]:
    config = Config(device="cpu", **settings)  # type: ignore[arg-type]
    done, rejects = score.process(table, score.setup(config, Path()))
    return SCORE.check(done, where="test"), rejects


def test_it_says_how_many_pictures_and_texts_are_done(model: Path) -> None:
    config = Config(device="cpu", model=str(model), batch=4)
    tools = score.setup(config, Path())
    table = pairs(list(BODIES), CAPTIONS)  # 7 pictures of 7 sizes for the model's one, 10 texts
    said = said_of(7, lambda: score.process(table, tools))
    assert np.allclose(said, [7 * done / 17 for done in (4, 7, 11, 15, 17)])


def unpacked(table: pa.Table, column: str) -> list[Array]:
    kind = SCORE.column(column).type
    assert isinstance(kind, Blob)
    return [values.reshape(-1, int(metadata(table)["score_width"])) for values in kind.unpack(table[column])]


def test_similarity_is_the_cosine_of_the_librarys_vectors(model: Path) -> None:
    table, rejects = run(pairs(list(BODIES), CAPTIONS), model=str(model), image_embedding=True, text_embedding=True)
    texts = [text for own in CAPTIONS for text in own]
    owners = [number for number, own in enumerate(CAPTIONS) for _ in own]
    images, words = expected("clip", model, [picture_of(body) for body in BODIES], texts)
    found = np.concatenate(table["similarity"].to_pylist())
    np.testing.assert_allclose(found, (images[owners] * words).sum(axis=1), atol=2e-5)
    np.testing.assert_allclose(np.concatenate(unpacked(table, "image_embedding")), images, atol=1e-3)
    np.testing.assert_allclose(np.concatenate(unpacked(table, "text_embedding")), words, atol=1e-3)
    assert table["texts"].to_pylist() == CAPTIONS
    assert len(rejects) == 0


def picture_of(body: bytes) -> Image.Image:
    return Image.open(io.BytesIO(body)).convert("RGB")


def test_batches_change_nothing_but_the_last_bits(model: Path) -> None:
    table = pairs(list(BODIES), CAPTIONS)
    one, many = (run(table, model=str(model), batch=batch)[0] for batch in (1, 5))
    for left, right in zip(one["similarity"].to_pylist(), many["similarity"].to_pylist(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_texts_are_scored_as_curate_cleans_them(model: Path) -> None:
    dirty, clean = "a  <b>red</b> cup &amp; a tree", "a red cup & a tree"
    table, _ = run(pairs([BODIES[0]] * 2, [[dirty, "<br>"], [clean]]), model=str(model))
    assert table["texts"].to_pylist() == [[clean, ""], [clean]]
    (first, nothing), (second,) = table["similarity"].to_pylist()
    assert first == second
    assert nothing is None


def test_heads_are_linear_or_several_layers(model: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(1, WIDTH, generator=generator), torch.randn(1, generator=generator)
    save_file({"weight": weight, "bias": bias}, tmp_path / "aesthetic.safetensors")
    first, last = torch.randn(5, WIDTH, generator=generator), torch.randn(1, 5, generator=generator)
    save_file(
        {"layers.2.weight": last, "layers.0.weight": first, "layers.0.bias": torch.ones(5)},
        tmp_path / "nsfw.safetensors",
        metadata={"activation": "relu", "output": "sigmoid"},
    )
    files = (str(tmp_path / "aesthetic.safetensors"), str(tmp_path / "nsfw.safetensors"))
    table, _ = run(pairs(list(BODIES), CAPTIONS), model=str(model), heads=files)
    images = torch.from_numpy(expected("clip", model, [picture_of(body) for body in BODIES], ["a"])[0])
    plain = (images @ weight.T + bias)[:, 0]
    layered = torch.sigmoid(torch.relu(images @ first.T + 1) @ last.T)[:, 0]
    found = [[head["value"] for head in row] for row in table["heads"].to_pylist()]
    np.testing.assert_allclose(found, torch.stack([plain, layered], dim=1), atol=1e-4)
    assert [head["name"] for head in table["heads"][0].as_py()] == ["aesthetic", "nsfw"]


def test_a_head_that_does_not_fit_is_refused(model: Path, tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1, WIDTH + 1)}, tmp_path / "wide.safetensors")
    with pytest.raises(InputError, match=rf"not from {WIDTH} numbers to 1"):
        score.setup(Config(model=str(model), heads=(str(tmp_path / "wide.safetensors"),)), Path())
    save_file({"weight": torch.zeros(1, WIDTH)}, tmp_path / "odd.safetensors", metadata={"activation": "swish"})
    with pytest.raises(InputError, match="'swish'"):
        score.setup(Config(model=str(model), heads=(str(tmp_path / "odd.safetensors"),)), Path())
    with pytest.raises(ConfigError, match="two files 'nsfw'"):
        Config(heads=("a/nsfw.pth", "b/nsfw.pth"))


def test_pictures_that_cannot_be_read_go_to_quarantine(model: Path) -> None:
    bodies: list[bytes | None] = [BODIES[0], b"no picture", BODIES[1][:300], None, BODIES[2]]
    table, rejects = run(pairs(bodies, CAPTIONS[:5]), model=str(model))
    assert [one[-1] for one in table["image_id"].to_pylist()] == [0, 4]
    assert rejects["reason"].to_pylist() == ["damaged-image", "damaged-image", "no-picture"]
    whole, _ = run(pairs([BODIES[0], BODIES[2]], [CAPTIONS[0], CAPTIONS[4]]), model=str(model))
    for left, right in zip(table["similarity"].to_pylist(), whole["similarity"].to_pylist(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_a_run_resumes_shard_by_shard_and_follows_the_models_files(model: Path, tmp_path: Path) -> None:
    shards = [pairs(list(BODIES), CAPTIONS), pairs(list(BODIES[:3]), CAPTIONS[4:])]
    write_table(tmp_path / "download", PAIRS, numbered(shards), stage="download")
    own = shutil.copytree(model, tmp_path / "model")
    config, options = Config(model=str(own), device="cpu"), Options(run=RunConfig(cluster="inline"))
    done = run_stage("score", config, tmp_path, options)
    assert done.summary["captions"] == sum(map(len, CAPTIONS)) + sum(map(len, CAPTIONS[4:]))
    before = [(tmp_path / f"score/0000{number}.parquet").read_bytes() for number in range(2)]
    (tmp_path / "score/00001.parquet").unlink()
    assert run_stage("score", config, tmp_path, options).made == 1
    assert [(tmp_path / f"score/0000{number}.parquet").read_bytes() for number in range(2)] == before
    (own / "vocab.note.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreError):  # another model is another table, made on purpose
        run_stage("score", config, tmp_path, options)


@pytest.mark.slow
@pytest.mark.long
def test_two_workers_write_the_bytes_of_one_process(model: Path, tmp_path: Path) -> None:
    """Of the table, of its summary, and of negatives that are mined with its vectors."""
    shards = [pairs(list(BODIES[start : start + 2]), CAPTIONS[start : start + 2]) for start in (0, 2, 4)]
    for number, shard in enumerate(shards):  # no picture twice
        ids = pa.array([bytes([9 * number + row]) * 16 for row in range(len(shard))], pa.binary(16))
        shards[number] = shard.set_column(0, shard.schema.field(0), ids)
    config = Config(model=str(model), device="cpu", image_embedding=True, text_embedding=True)
    rule = negatives.Config(
        scorer="embedding", ceiling=0.999, veto="score", veto_similarity=0.0, max_lists=4, near_distance=None
    )
    found = []
    for cluster in ("inline", "local"):
        data, options = tmp_path / cluster, Options(run=RunConfig(cluster=cluster, workers=2))
        write_table(data / "download", PAIRS, numbered(shards), stage="download")
        write_table(data / "curate", PAIRS, numbered(shards), stage="curate")
        scores, mined = (
            run_stage(name, each, data, options) for name, each in (("score", config), ("negatives", rule))
        )
        found.append((hashes(data / "score"), scores.summary, hashes(data / "negatives"), mined.summary))
    assert found[0] == found[1]
    assert found[0][3]["vetoed"]["score"] > 0
    assert found[0][3]["negatives"] > 0


def test_without_a_model_it_says_which_setting_is_missing() -> None:
    with pytest.raises(ConfigError, match=r"score\.model names no model"):
        score.resources(Config())
