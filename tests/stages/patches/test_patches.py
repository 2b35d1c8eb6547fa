"""Stage patches: crops against PIL's own, vectors against the network on each crop alone, and what is refused."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from pairloom.errors import ConfigError, InputError
from pairloom.layout import LEVELS
from pairloom.table import Array, Blob, metadata
from pipeline.config import RunConfig
from pipeline.executor import Options, run_stage
from schemas.pairs import PAIRS
from schemas.patches import PATCHES
from schemas.regions import REGIONS
from stages import patches
from stages.patches import Config, Tools, crops, networks
from stages.regions.starter.backbone import imagenet_network
from tests.building import numbered, write_table
from tests.stages.rows import said_of

SIZE = 32


def picture(seed: int, width: int = 83, height: int = 61) -> Image.Image:
    shades = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), np.uint8)
    return Image.fromarray(shades).resize((width, height))


def png(one: Image.Image) -> bytes:
    stream = io.BytesIO()
    one.save(stream, "PNG")
    return stream.getvalue()


def pairs(bodies: list[bytes]) -> pa.Table:
    count, one = len(bodies), [1] * len(bodies)
    return PAIRS.table(
        image_id=[number.to_bytes(16, "big") for number in range(count)], image=bodies, format=["png"] * count,
        width=one, height=one, original_width=one, original_height=one, url=["u"] * count, sha256=[bytes(32)] * count,
        phash=one, captions=[[{"text": "a", "original": "a", "lang": None}]] * count, extra=[[]] * count,
    )  # fmt: skip


def regions(boxes: dict[int, list[list[float]]]) -> pa.Table:
    ones = [np.ones(len(rows)) for rows in boxes.values()]
    return REGIONS.table(
        image_id=[number.to_bytes(16, "big") for number in boxes], width=[1] * len(boxes), height=[1] * len(boxes),
        num_regions=[len(rows) for rows in boxes.values()], boxes=[np.array(rows) for rows in boxes.values()],
        class_ids=ones, class_scores=ones, attribute_ids=ones, attribute_scores=ones, features=ones, prob_ids=ones,
        prob_values=ones, metadata={"feature_width": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def tools() -> Tools:
    torch.set_num_threads(1)  # as in the executor's workers
    return patches.setup(Config(size=SIZE), Path())


def unpacked(table: pa.Table, column: str) -> list[Array]:
    kind = PATCHES.column(column).type
    assert isinstance(kind, Blob)
    notes = metadata(table)
    width = 4 if column.endswith("boxes") else int(notes["patch_width"])
    return [values.reshape(-1, width) for values in kind.unpack(table[column], notes)]


@functools.cache
def published() -> nn.Module:
    return nn.Sequential(*imagenet_network().parts())


def by_itself(one: Image.Image, network: networks.PatchNetwork) -> Array:
    """The vector of one crop, through the classifier as published, not folded, one crop a batch."""
    pixels = (torch.from_numpy(np.array(one)).permute(2, 0, 1)[None].float() - 127) / 128
    with torch.inference_mode():
        found: Array = published()(pixels)[0].numpy()
    assert len(found) == network.width
    return found


def resized(one: Image.Image) -> Image.Image:
    return one.resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def close(found: Array, wanted: list[Array]) -> None:
    np.testing.assert_allclose(found.astype(np.float32), np.stack(wanted), atol=0.02, rtol=0.01)


def test_every_vector_is_that_of_the_crop_that_pil_makes(tools: Tools) -> None:
    one, box = picture(0), [10.6, 5.2, 60.1, 50.9]
    table, rejects = patches.process(pairs([png(one)]), regions({0: [[0, 0, 9, 9], box]}), tools)
    assert not rejects.num_rows
    grid = [
        one.crop((83 * i // 8, 61 * j // 8, 83 * (i + 1) // 8, 61 * (j + 1) // 8)) for j in range(8) for i in range(8)
    ]
    inner = one.crop((10, 5, 61, 51))  # the first box is under a tenth of the picture
    pieces = [
        inner.crop((51 * i // k, 46 * j // k, 51 * (i + 1) // k, 46 * (j + 1) // k))
        for k in range(1, 6) for j in range(k) for i in range(k)
    ]  # fmt: skip
    vectors = [by_itself(resized(piece), tools.network) for piece in (*grid, *pieces)]
    close(unpacked(table, "patch_features")[0], vectors[:64])
    close(unpacked(table, "pyramid_features")[0], vectors[64:])
    first = resized(inner)
    close(
        unpacked(table, "pyramid_turned")[0],
        [by_itself(first.rotate(angle), tools.network) for angle in (90, 180, 270)],  # to the left, as PIL counts
    )
    greys = [by_itself(resized(piece).convert("L").convert("RGB"), tools.network) for piece in pieces[14:30]]
    close(unpacked(table, "pyramid_grey")[0], greys)
    assert unpacked(table, "pyramid_boxes")[0][0].tolist() == [10, 5, 61, 51]
    assert unpacked(table, "patch_boxes")[0][8].tolist() == [0, 7, 10, 15]


@given(
    left=st.integers(0, 50), top=st.integers(0, 50), width=st.integers(9, 99), height=st.integers(9, 99),
    side=st.integers(1, 9),
)  # fmt: skip
def test_cells_cover_the_box_once_and_are_alike(left: int, top: int, width: int, height: int, side: int) -> None:
    counts = np.zeros((height, width), int)
    sizes = set()
    for x1, y1, x2, y2 in crops.cut((left, top, left + width, top + height), side):
        counts[y1 - top : y2 - top, x1 - left : x2 - left] += 1
        sizes.add((x2 - x1, y2 - y1))
    assert (counts == 1).all()
    for lengths in zip(*sizes, strict=True):
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("boxes", "wanted"),
    [
        ([[-3.0, 2.5, 40.2, 90.0]], (0, 2, 41, 61)),  # cut to the picture, rounded outwards
        ([[0, 0, 10, 10], [20, 20, 60, 60]], (20, 20, 60, 60)),  # the best one is too small
        ([[0, 0, 83, 4]], (0, 0, 83, 61)),  # no room for five pieces
        ([], (0, 0, 83, 61)),
    ],
)
def test_the_foreground_is_the_best_region_that_is_large_enough(boxes: list[list[float]], wanted: crops.Box) -> None:
    assert crops.foreground(np.array(boxes).reshape(-1, 4), (83, 61), 0.1) == wanted


def test_it_says_of_each_picture_that_it_is_done(tools: Tools) -> None:
    two = pairs([png(picture(1)), b"no picture"])
    assert said_of(2, lambda: patches.process(two, regions({}), tools)) == [1, 2]


def test_rows_do_not_depend_on_their_neighbours_and_the_unreadable_are_named(tools: Tools) -> None:
    bodies = [png(picture(1)), b"no picture", png(picture(2, 7, 40)), png(picture(3))]
    table, rejects = patches.process(pairs(bodies), regions({3: [[0, 0, 80, 60]]}), tools)
    assert [(row["key"][-1], row["reason"]) for row in rejects.to_pylist()] == [
        ("1", "damaged-image"), ("2", "image-size"),
    ]  # fmt: skip
    alone, _ = patches.process(pairs(bodies).slice(3), regions({3: [[0, 0, 80, 60]]}), tools)
    assert table.slice(1).equals(alone)


def test_a_pair_that_came_without_its_picture_is_named(tools: Tools) -> None:
    both = pairs([png(picture(1)), png(picture(2))])
    place = both.schema.get_field_index("image")
    bare = both.set_column(
        place, both.schema.field(place), pa.array([both["image"][0].as_py(), None], pa.large_binary())
    )
    table, rejects = patches.process(bare, regions({}), tools)
    assert len(table) == 1
    assert [(row["key"][-1], row["reason"]) for row in rejects.to_pylist()] == [("1", "no-picture")]


def test_what_was_not_asked_for_is_null_and_the_file_says_so(tools: Tools) -> None:
    grid = Tools(tools.network, Config(size=SIZE, grid=2, pyramid=False), {**tools.metadata, "pyramid_count": "0"})
    table, _ = patches.process(pairs([png(picture(1))]), regions({}), grid)
    assert table["pyramid_features"].null_count == 1
    assert unpacked(table, "patch_boxes")[0].shape == (4, 4)
    only = patches.setup(Config(size=SIZE, grid=0), Path())
    assert only.metadata["patch_count"] == "0"
    assert only.metadata["pyramid_count"] == str(sum(LEVELS))


def test_a_model_of_torchvision_gives_what_its_last_layer_reads(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    theirs = resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    config = Config(network="resnet18", checkpoint=str(tmp_path / "resnet18.pth"), size=SIZE)
    network = patches.setup(config, Path()).network
    crop = np.asarray(picture(0, SIZE, SIZE))
    (found,) = network.vectors([crop], 1)
    pixels = torch.from_numpy(crop.copy()).permute(2, 0, 1) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        logits = theirs(((pixels - mean[:, None, None]) / std[:, None, None])[None])
        torch.testing.assert_close(theirs.fc(torch.from_numpy(found))[None], logits, rtol=1e-3, atol=1e-3)
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match="its weights are not those of resnet18"):
        networks.load("resnet18", str(tmp_path / "bad.pth"), "cpu")


def test_settings_that_cannot_be_are_refused() -> None:
    for wrong in ({"grid": 0, "pyramid": False}, {"size": 8}, {"network": "resnet50"}, {"checkpoint": "x"}):
        with pytest.raises(ConfigError):
            Config(**wrong)


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    sums = []
    table = pairs([png(picture(n)) for n in range(3)])
    found = regions({1: [[0, 0, 80, 60]]})
    for workers in (1, 2):
        data = tmp_path / str(workers)
        write_table(data / "curate", PAIRS, numbered([table.slice(0, 1), table.slice(1)]), "curate")
        write_table(data / "regions", REGIONS, numbered([found, found]))
        run = RunConfig(cluster="local", workers=workers) if workers > 1 else RunConfig(cluster="inline")
        done = run_stage("patches", Config(size=SIZE, grid=2), data, Options(run, plain=True))
        assert done.counts.rows_out == 3
        sums.append([path.read_bytes() for path in sorted((data / "patches").glob("*.parquet"))])
    assert sums[0] == sums[1]
