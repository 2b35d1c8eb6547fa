"""The engine: batches, order, what is stored, and input that is out of the ordinary."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pairloom.errors import ConfigError
from pairloom.table import Array, Blob, metadata
from pipeline.config import as_json
from schemas.regions import REGIONS
from stages.regions import Config, Tools, process, tools_of
from stages.regions.contract import Detections
from stages.regions.extract import Engine, by_size, extract, stacked
from stages.regions.pictures import Prepared, Unreadable, ahead, decode
from stages.regions.starter.network import StarterNetwork
from stages.regions.stored import StoredRegions, halved
from tests.stages.regions.pictures import pairs_of, png


def configured(tools: Tools, **settings: Any) -> Tools:
    """The loaded starter with other settings."""
    return tools_of(tools.engine.network, "starter", Config(device="cpu", **settings), 16)


def extracted(encoded: list[bytes], engine: Engine) -> list[StoredRegions | Unreadable]:
    return extract([lambda body=body: body for body in encoded], engine)  # type: ignore[misc]  # a lambda with a default


def numbers(table: pa.Table, column: str) -> list[Array]:
    kind = REGIONS.column(column).type
    assert isinstance(kind, Blob)
    return kind.unpack(table[column], metadata(table))


@pytest.fixture(scope="module")
def crowd(pictures: list[Image.Image]) -> list[bytes]:
    """Five pictures of two sizes, mixed."""
    one, other = (picture.resize((96, 96 + 32 * i)) for i, picture in enumerate(pictures[:2]))
    flipped = [picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for picture in (one, other)]
    return [png(picture) for picture in (one, other, flipped[0], one.rotate(180), flipped[1])]


def test_a_batch_gives_what_single_pictures_give(tools: Tools, crowd: list[bytes]) -> None:
    single, batched = extracted(crowd, tools.engine), extracted(crowd, configured(tools, batch=2).engine)
    for one, other in zip(single, batched, strict=True):
        assert isinstance(one, StoredRegions)
        assert isinstance(other, StoredRegions)
        assert one.class_ids.tolist() == other.class_ids.tolist()
        assert np.allclose(one.boxes, other.boxes, atol=1e-2)
        assert np.allclose(one.features, other.features, atol=1e-3)
        assert np.allclose(one.class_scores, other.class_scores, atol=1e-4)


def test_rows_come_out_in_the_order_of_the_input(tools: Tools, crowd: list[bytes]) -> None:
    given_rows = pairs_of([*crowd[:3], b"no picture", *crowd[3:]])
    table, rejects = process(given_rows, configured(tools, batch=2, max_regions=10))
    wanted = given_rows["image_id"].to_pylist()
    assert table["image_id"].to_pylist() == wanted[:3] + wanted[4:]
    assert rejects["key"].to_pylist() == [wanted[3].hex()]


def test_a_shard_has_the_same_bytes_whatever_the_threads(tools: Tools, crowd: list[bytes]) -> None:
    one, seven = (
        process(pairs_of(crowd), configured(tools, batch=2, threads=threads, max_regions=10))[0] for threads in (1, 7)
    )
    assert one.equals(seven, check_metadata=True)


SHAPES = st.sampled_from([(3, 2, 2), (3, 2, 4), (3, 4, 2)])


@settings(deadline=None)
@given(shapes=st.lists(SHAPES, max_size=30), batch=st.integers(1, 5), limit=st.integers(0, 200))
def test_batches_hold_each_picture_once_in_one_size_within_the_limit(
    shapes: list[tuple[int, ...]], batch: int, limit: int
) -> None:
    taken = 0

    def stream() -> Any:
        nonlocal taken
        for row, shape in enumerate(shapes):
            taken += int(np.prod(shape))
            yield Prepared(row, (1, 1), torch.zeros(shape, dtype=torch.uint8))

    rows: list[int] = []
    for full in by_size(stream(), batch, limit):
        assert len({picture.image.shape for picture in full}) == 1
        assert 1 <= len(full) <= batch
        assert [picture.row for picture in full] == sorted(picture.row for picture in full)
        rows += [picture.row for picture in full]
        held = taken - sum(int(np.prod(shapes[row])) for row in rows)
        last = 24  # the largest picture: it is read before anything goes
        assert held <= limit + last
    assert sorted(rows) == list(range(len(shapes)))


@settings(deadline=None)
@given(count=st.integers(0, 30), threads=st.integers(1, 4))
def test_work_ahead_keeps_the_order(count: int, threads: int) -> None:
    assert list(ahead(lambda n: n * n, range(count), threads)) == [n * n for n in range(count)]
    assert list(ahead(lambda n: n * n, range(count), threads, waiting=0)) == [n * n for n in range(count)]


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_a_feature_is_halved_as_numpy_rounds_it(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 65520)]
    assert np.array_equal(halved(values).view(np.uint16), values.astype(np.float16).view(np.uint16))


def test_one_picture_is_not_copied_on_its_way_to_the_network(tools: Tools, crowd: list[bytes]) -> None:
    image = tools.engine.network.prepare(decode(crowd[0]))
    assert stacked([image], tools.engine).data_ptr() == image.data_ptr()
    assert stacked([image, image], tools.engine).shape == (2, *image.shape)


def test_no_more_than_a_few_pictures_are_decoded_in_advance() -> None:
    started: list[int] = []

    def note(n: int) -> int:
        started.append(n)
        return n

    results = ahead(note, range(100), 2)
    next(results)
    assert max(started) <= 9
    results.close()  # type: ignore[attr-defined]  # a generator


class Small:
    """The starter on a machine that holds two pictures at a time."""

    def __init__(self, network: StarterNetwork) -> None:
        self.network, self.asked = network, list[int]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def detect(self, images: Tensor, picture_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        self.asked.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.network.detect(images, picture_sizes)


def test_out_of_memory_halves_the_batch_says_so_and_loses_nothing(
    tools: Tools, crowd: list[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(tools.engine.network, StarterNetwork)
    same_size = [crowd[i] for i in (0, 2, 3, 0, 2)]
    small = Small(tools.engine.network)
    engine = dataclasses.replace(tools.engine, network=small, batch=5)
    found = extracted(same_size, engine)
    assert small.asked == [5, 2, 2, 1]
    assert "5 pictures at once; the batch size is now 2" in capsys.readouterr().err
    for one, other in zip(extracted(same_size[:3], tools.engine), found[:3], strict=True):
        assert isinstance(one, StoredRegions)
        assert isinstance(other, StoredRegions)
        assert np.allclose(one.features, other.features, atol=1e-3)


def test_a_picture_without_detections_is_counted_not_kept(tools: Tools) -> None:
    grey = png(Image.new("L", (64, 48), 127))
    table, rejects = process(pairs_of([grey]), configured(tools, selection="detectron2", min_score=1.0))
    assert len(table) == 0
    assert rejects["reason"].to_pylist() == ["no-regions"]
    table, rejects = process(pairs_of([grey]), configured(tools, selection="detectron2", min_score=1.0, min_regions=2))
    assert table["num_regions"].to_pylist() == [2]


def test_a_decompression_bomb_is_left_out_by_its_header(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    _, rejects = process(pairs_of([png(Image.new("L", (100, 100)))]), tools)
    assert rejects["reason"].to_pylist() == ["pixel-limit"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [{}, {"byteorder": ">"}, {"bigtiff": True}], ids=["little", "big", "bigtiff"])
def test_a_tiff_of_floats_is_named_as_that(tools: Tools, dtype: str, channels: int, kind: dict[str, Any]) -> None:
    """Pillow identifies one channel of 32 bits alone, and would show 0 to 1 as black."""
    pixels, file = np.linspace(0, 1, 20 * 20 * channels).reshape(20, 20, channels).astype(dtype), io.BytesIO()
    tifffile.imwrite(file, pixels.squeeze(), photometric="rgb" if channels == 3 else "minisblack", **kind)
    table, rejects = process(pairs_of([file.getvalue()]), tools)
    assert len(table) == 0
    assert rejects["reason"].to_pylist() == ["not-an-image"]
    assert "floating-point numbers of no defined range" in rejects["detail"][0].as_py()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged TIFFs
def test_a_tiff_of_whole_numbers_and_a_damaged_one_are_what_they_were(tools: Tools) -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((40, 40, 3), np.uint8), photometric="rgb")
    table, rejects = process(pairs_of([file.getvalue(), file.getvalue()[:40], b"II*\0", b"text"]), tools)
    assert len(table) == 1
    assert rejects["reason"].to_pylist() == ["damaged-image"] * 3
    again = process(pairs_of([file.getvalue()[:40], b"II*\0", b"text"]), tools)[1]
    assert rejects["detail"].equals(again["detail"])
    assert not any("0x" in detail for detail in rejects["detail"].to_pylist())  # an address, which differs in each run


def test_a_file_that_cannot_be_read_says_why_and_not_where(tools: Tools, tmp_path: Path) -> None:
    (seen,) = extract([(tmp_path / "gone.png").read_bytes], tools.engine)
    assert seen == Unreadable(0, "damaged-image", "No such file or directory")


def test_a_picture_lying_on_its_side_is_put_upright() -> None:
    picture = Image.new("RGB", (4, 2), "red")
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned
    file = io.BytesIO()
    picture.save(file, "PNG", exif=exif)
    assert decode(file.getvalue()).size == (2, 4)


def test_thirty_six_regions_are_the_prefix_of_up_to_a_hundred(tools: Tools, crowd: list[bytes]) -> None:
    """A recipe that reads 36 of a table of up to 100 sees what an extraction of 36 would have stored."""
    for selection in ("fixed-36", "vinvl-filter2"):
        short, _ = process(pairs_of(crowd[:1]), configured(tools, selection=selection, min_regions=36, max_regions=36))
        long, _ = process(
            pairs_of(crowd[:1]), configured(tools, selection=selection, min_regions=36, max_regions=100, min_score=0)
        )
        assert min(long["num_regions"].to_pylist()) > 36
        for name in ("boxes", "class_ids", "class_scores", "attribute_ids", "features", "prob_ids", "prob_background"):
            for few, many in zip(short[name].to_pylist(), long[name].to_pylist(), strict=True):
                assert many.startswith(few)


def test_class_probabilities_are_stored_in_full_in_part_or_not_at_all(tools: Tools, crowd: list[bytes]) -> None:
    tables = {
        kept: process(pairs_of(crowd[:2]), configured(tools, class_probs=kept))[0] for kept in ("full", 64, "none")
    }
    classes = len(tools.engine.network.classes)
    count = tables["full"]["num_regions"].to_pylist()[0]
    full = numbers(tables["full"], "prob_values")[0].reshape(count, classes).astype(np.float64)
    top = numbers(tables[64], "prob_values")[0].reshape(count, 64).astype(np.float64)
    background = numbers(tables["full"], "prob_background")[0]
    assert np.allclose(full.sum(axis=1) + background, 1, atol=2e-3)  # float16 rounds
    assert (full[:, :64] == top).all()
    assert numbers(tables["none"], "prob_values")[0].size == 0
    assert tables["none"]["prob_background"].null_count == 2


def test_features_are_stored_in_either_width(tools: Tools, crowd: list[bytes]) -> None:
    half, single = (process(pairs_of(crowd[:1]), configured(tools, feature_dtype=d))[0] for d in ("float16", "float32"))
    wide, narrow = numbers(single, "features")[0], numbers(half, "features")[0]
    assert [wide.dtype.str, narrow.dtype.str] == ["<f4", "<f2"]
    assert (wide.astype(np.float16) == narrow).all()
    assert (wide.astype(np.float16) != wide).any()


def test_proposals_and_grid_come_from_the_same_pass(tools: Tools, crowd: list[bytes]) -> None:
    plain, _ = process(pairs_of(crowd[:2]), tools)
    table, _ = process(pairs_of(crowd[:2]), configured(tools, proposals=True, grid_side=3))
    assert table["features"].equals(plain["features"])
    assert [len(grid) for grid in numbers(table, "grid")] == [9 * 1280] * 2
    count = table["num_regions"].to_pylist()[0]
    picture = decode(crowd[0])
    proposals = numbers(table, "proposals")[0].reshape(count, 4)
    assert (proposals[:, 2] <= picture.width).all()
    assert (proposals[:, 3] <= picture.height).all()
    assert (proposals[:, :2] < proposals[:, 2:]).all()
    assert not np.array_equal(proposals, numbers(table, "boxes")[0].reshape(count, 4))


def test_the_mean_of_a_grid_of_one_is_the_mean_of_all_cells(tools: Tools, crowd: list[bytes]) -> None:
    """A 320 × 320 picture has a map of 10 × 10, which 5 × 5 cells share out evenly."""
    square = decode(crowd[0]).resize((320, 320))
    with torch.inference_mode():
        (found,) = tools.engine.network.detect(tools.engine.network.prepare(square)[None], [(320, 320)])
        assert found.grid is not None
        assert torch.allclose(found.grid(5).mean(dim=0), found.grid(1)[0], atol=1e-4)


def test_the_table_names_its_images_size_and_source(tools: Tools, crowd: list[bytes]) -> None:
    table, _ = process(pairs_of(crowd[:2]), tools)
    sizes = [decode(body).size for body in crowd[:2]]
    assert list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)) == sizes
    assert table["source"].to_pylist() == [None, None]


def test_memory_is_bounded_by_the_resized_picture(tools: Tools) -> None:
    for size in ((6000, 200), (1, 1), (1, 9000)):
        image = tools.engine.network.prepare(Image.new("RGB", size))
        assert image.nbytes <= 3 * 512 * 320
        (regions,) = extracted([png(Image.new("RGB", size))], tools.engine)
        assert isinstance(regions, StoredRegions)
        assert len(regions.boxes) >= 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"selection": "best"}, "no selection 'best'"),
        ({"max_regions": 101}, "max_regions is 101"),
        ({"min_regions": 50, "max_regions": 40}, "min_regions is 50"),
        ({"class_probs": 0}, "class_probs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"grid_side": 65}, "grid_side is 65"),
        ({"device": "cuda:99"}, "regions.device is 'cuda:99'"),
        ({"precision": "bf16"}, "starter has no bf16"),
    ],
)
def test_a_bad_setting_stops_before_any_work(setting: dict[str, Any], message: str, tools: Tools) -> None:
    with pytest.raises(ConfigError, match=message):
        tools_of(tools.engine.network, "starter", Config(**({"device": "cpu"} | setting)), 16)


def test_the_settings_that_cannot_change_the_output_are_no_part_of_the_fingerprint() -> None:
    assert as_json(Config(threads=1)) == as_json(Config(threads=7))
    assert as_json(Config(batch=1)) != as_json(Config(batch=7))
