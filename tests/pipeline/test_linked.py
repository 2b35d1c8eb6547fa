"""`download.keep: link`: pictures stay where they are, later stages read them there, and what is lost is named."""

from __future__ import annotations

import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from inspection.lint import lint
from pairloom import Loader, open_table
from pairloom.errors import MissingColumnsError, StoreError
from pairloom.extra import as_dict
from pairloom.loader.reading import DamagedError
from pairloom.loader.rows import open_rows
from pipeline.cli import main
from pipeline.config import RunConfig, as_json
from pipeline.corpus import CorpusOnDisk
from pipeline.executor import Options, run_stage
from schemas.negatives import NEGATIVES
from schemas.regions import REGIONS
from schemas.tags import TAGS
from stages import curate, download, shards
from systems import recipes
from tests.building import write_table
from tests.formats.datasets.layouts import picture, write_tar
from tests.inspection.synthetic import FLOW
from tests.pipeline.helpers import hashes
from tests.stages.download.test_local import rotated

INLINE = Options(RunConfig(cluster="inline"), plain=True)
QUIET = ["--cluster", "inline", "--quiet"]
CURATE = curate.Config(min_words=1, max_distance=None, min_side=1, max_aspect=100)


def rows(table: Path) -> list[dict[str, Any]]:
    found = open_table(table)
    return [row for entry in found.shards for row in found.read(entry.name).to_pylist()]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures that need no change, two of them in a tar, and one that must be turned."""
    folder = tmp_path_factory.mktemp("own")
    for number in range(2):
        (folder / f"{number}.jpg").write_bytes(picture(number))
    write_tar(folder / "all.tar", [(f"{number}.jpg", picture(number)) for number in (2, 3)])
    (folder / "turned.jpg").write_bytes(rotated())
    names = ["0.jpg", "1.jpg", "all.tar/2.jpg", "all.tar/3.jpg", "turned.jpg"]
    (folder / "list.csv").write_text("url,caption\n" + "".join(f"own:{name},a red dog\n" for name in names))
    return folder


def downloaded(source: Path, out: Path, keep: str) -> Path:
    options = ["--source", f"own={source}", "--set", f"download.keep={keep}", "--out", str(out), *QUIET]
    assert main(["download", str(source / "list.csv"), *options]) == 0
    return out


@pytest.fixture(scope="module")
def both(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same data set with its pictures stored, and with links."""
    folder = tmp_path_factory.mktemp("both")
    made = downloaded(source, folder / "stored", "bytes"), downloaded(source, folder / "linked", "link")
    for out in made:
        run_stage("curate", CURATE, out, INLINE)
        further(out)
    return made


def further(out: Path) -> None:
    """Regions, tags and negatives of each curated image, by hand."""
    ids = [row["image_id"] for row in rows(out / "curate")]
    count = len(ids)
    ones = [np.ones(1)] * count
    sides = {"width": [1] * count, "height": [1] * count}
    regions = REGIONS.table(
        image_id=ids, num_regions=[1] * count, boxes=[np.ones((1, 4))] * count, class_ids=ones, class_scores=ones,
        attribute_ids=ones, attribute_scores=ones, features=[np.ones(2)] * count, prob_ids=ones, prob_values=ones,
        metadata={"feature_width": "2", "classes": "[]", "attributes": "[]", "prob_width": "1"}, **sides,
    )  # fmt: skip
    write_table(out / "regions", REGIONS, {"00000": regions})
    write_table(out / "tags", TAGS, {"00000": TAGS.table(image_id=ids, tags=[[]] * count)})
    told = NEGATIVES.table(image_id=ids, negatives=[[[]]] * count, short=[[30]] * count)
    write_table(out / "negatives", NEGATIVES, {"00000": told})


def test_only_pictures_that_need_no_change_are_linked_and_all_else_is_the_same(both: tuple[Path, Path]) -> None:
    for table in ("download", "curate"):
        stored, linked = (rows(out / table) for out in both)
        assert [row["image"] is None for row in linked] == [True, True, True, True, False]
        for one, other in zip(stored, linked, strict=True):
            extra = as_dict(other.pop("extra"))
            assert extra == ({} if other["image"] else {"linked_bytes": str(len(one["image"]))})
            del one["extra"]
            assert one | {"image": other["image"]} == other
    sizes = [sum(file.stat().st_size for file in (out / "download").glob("*.parquet")) for out in both]
    assert sizes[1] < sizes[0]


def test_shards_get_the_bytes_or_stay_linked_as_the_settings_ask(both: tuple[Path, Path], tmp_path: Path) -> None:
    config = shards.Config(val_share=0.0)
    for out in both:
        run_stage("shards", config, out, INLINE)
    stored, linked = ({row["image_id"]: row["image"] for row in rows(out / "shards")} for out in both)
    assert stored == linked
    assert set(linked.values()) == {row["image"] for row in rows(both[0] / "curate")}
    assert lint(both[1] / "download", FLOW) == []
    run_stage("shards", replace(config, pictures="link"), both[1], replace(INLINE, redo=True))
    assert sorted(row["image"] != b"" for row in rows(both[1] / "shards")) == [False, False, False, False, True]
    read = open_rows(both[1] / "shards", "train", ("image", "image_id"), ())
    recipe = recipes.load("clip", "tiny", {"text": {"vocab_size": 100}})
    row = next(row for row in read.all() if not row.value("image"))
    with pytest.raises(DamagedError, match="the picture is not in the shard: it was linked"):
        recipe.units.unit.load(row, recipe.units.settings, None)
    run_stage("shards", config, both[1], replace(INLINE, redo=True))  # rebuilt with bytes
    assert {row["image_id"]: row["image"] for row in rows(both[1] / "shards")} == stored


def test_a_folder_of_linked_shards_alone_tells_a_recipe_of_pixels_what_to_do(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    out = both[1]
    run_stage("shards", shards.Config(val_share=0.0, pictures="link"), out, replace(INLINE, redo=True))
    (entry,) = open_table(out / "shards").shards
    table = open_table(out / "shards").read(entry.name)
    table = table.filter(pa.array([not image for image in table["image"].to_pylist()]))
    from schemas.shards import SHARDS

    write_table(tmp_path / "shards", SHARDS, {"train-00000": table}, indexed=True)
    with pytest.raises(MissingColumnsError, match=r"shards\.pictures: bytes"):
        Loader(tmp_path / "shards", columns=("image",), batch_size=2)
    batch = next(iter(Loader(tmp_path / "shards", columns=("features",), batch_size=2)))
    assert len(batch) == 2  # who needs no pictures trains


def test_a_corpus_shows_stages_the_bytes_that_are_linked(both: tuple[Path, Path]) -> None:
    seen = [
        [table.to_pylist() for _, table in CorpusOnDisk({"curate": open_table(out / "curate")}).tables(
            "curate", ["image_id", "image"])]
        for out in both
    ]  # fmt: skip
    assert seen[0] == seen[1]


def test_a_lost_or_changed_picture_is_named_by_lint_and_leaves_out_its_row(source: Path, tmp_path: Path) -> None:
    moved = tmp_path / "own"
    moved.mkdir()
    for file in source.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    out = downloaded(moved, tmp_path / "out", "link")
    run_stage("curate", CURATE, out, INLINE)
    further(out)
    (moved / "0.jpg").unlink()
    (moved / "1.jpg").write_bytes(picture(9))
    with tarfile.open(moved / "all.tar", "w") as tar:
        tar.add(moved / "turned.jpg", "2.jpg")
    found = [problem for problem in lint(out, FLOW) if problem.check == "link"]
    assert [(Path(problem.file).parent.name, problem.row) for problem in found[:4]] == [
        ("download", 0), ("download", 1), ("download", 2), ("download", 3),
    ]  # fmt: skip
    assert "no '0.jpg'" in found[0].what
    assert "linked" in found[1].what
    assert "the tar has no member '3.jpg'" in found[3].what
    run_stage("shards", shards.Config(val_share=0.0), out, INLINE)
    assert len(rows(out / "shards")) == 1
    reasons = {row["reason"] for row in rows(out / "quarantine/shards")}
    assert reasons == {"not-found", "checksum"}


def test_a_moved_source_is_found_by_its_name_and_a_missing_one_stops_the_run(source: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for file in source.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    out = downloaded(own, tmp_path / "out", "link")
    before = hashes(out / "download")
    own.rename(tmp_path / "elsewhere")
    downloaded(tmp_path / "elsewhere", out, "link")
    assert hashes(out / "download") == before  # nothing was made again
    assert main(["curate", str(out), "--out", str(tmp_path / "clean"), "--set", "curate.min_side=1", *QUIET]) == 0
    assert (tmp_path / "clean/sources.yaml").read_text() == (out / "sources.yaml").read_text()
    (out / "sources.yaml").unlink()
    with pytest.raises(StoreError, match="nobody says where they lie"):
        run_stage("curate", replace(CURATE, min_bytes=1), out, INLINE)


def test_a_retry_keeps_links_and_a_setting_at_its_default_makes_no_shard_due(
    both: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    before = hashes(both[1] / "download")
    assert main(["retry", str(both[1]), "--reason", "not-found", *QUIET]) == 0
    assert hashes(both[1] / "download") == before
    assert main(["retry", str(both[1]), "--reason", "not-found", "--set", "download.keep=bytes", *QUIET]) == 1
    assert "download.keep is 'bytes', and the table was made with 'link'" in capsys.readouterr().err
    assert "keep" not in as_json(download.Config())
    assert as_json(download.Config(keep="link"))["keep"] == "link"
