"""`pairloom import` of features: every layout becomes the same tables, and what can't is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from formats import features
from formats.features import captions
from formats.features.tables import records_of
from pairloom.errors import InputError
from pairloom.extra import as_dict
from pairloom.store import writing
from pairloom.store.folder import open_folder
from pipeline.features import incoming
from tests.formats.features import made
from tests.pipeline.features.lists import caption, coco, reasons, records, refused, rows, run

LAYOUTS = [name for name in features.names() if name != "grid-npy"]
RECORDS = records(10)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_becomes_tables_of_the_same_numbers(layout: str, tmp_path: Path) -> None:
    made.write(layout, tmp_path / "in", RECORDS)
    out = tmp_path / "data"
    said = run(
        "import", tmp_path / "in", "--as", layout, "--captions", coco(tmp_path / "c.json", RECORDS), "--out", out,
        "--rows-per-shard", "4",
    )  # fmt: skip
    assert (said["images"], said["captions"], said["shards"], said["rejected"]) == (10, 20, 3, {})
    found: dict[str, Any] = {}
    for _, table in open_folder(out / "regions").tables():
        found |= {one.key: one for one in records_of(table, table["source"].to_pylist())}
    pairs = {as_dict(row["extra"])["key"]: row for row in rows(out / "download")}
    for number, one in enumerate(RECORDS, start=1):
        stored = np.asarray(one.features, features.load(layout).STORED)
        assert np.array_equal(found[one.key].features, stored)
        assert found[one.key].features.dtype == stored.dtype
        assert (found[one.key].width, found[one.key].height) == (one.width, one.height)
        # a layout that keeps half floats of shares is off by half a unit in their last place
        loss = 0.25 if layout in made.HALF else 1e-4
        assert np.abs(found[one.key].boxes - one.boxes).max() <= loss
        for name in ("class_ids", "class_scores", "attribute_ids", "attribute_scores"):
            values = getattr(found[one.key], name)
            assert values is None or np.array_equal(values, getattr(one, name)) or layout in ("vinvl-tsv", "oscar-tsv")
        assert [said["text"] for said in pairs[one.key]["captions"]] == [caption(number), caption(number, 1)]
        assert pairs[one.key]["image"] is None
        assert pairs[one.key]["width"] == one.width


def test_probabilities_come_back_as_they_were(tmp_path: Path) -> None:
    made.write("uniter-npz", tmp_path / "in", RECORDS)
    run("import", tmp_path / "in", "--as", "uniter-npz", "--out", tmp_path / "data")
    (table,) = [table for _, table in open_folder(tmp_path / "data/regions").tables()]
    for one, found in zip(RECORDS, records_of(table, table["source"].to_pylist()), strict=True):
        assert one.probs is not None
        assert found.probs is not None
        assert np.array_equal(found.probs, one.probs)


def test_only_the_best_probabilities_are_kept_when_asked_and_the_others_share_the_rest(tmp_path: Path) -> None:
    made.write("butd-tsv", tmp_path / "in", RECORDS[:1])
    run("import", tmp_path / "in", "--as", "butd-tsv", "--class-probs", "3", "--out", tmp_path / "data")
    (row,) = rows(tmp_path / "data/regions")
    assert len(row["prob_ids"]) == 3 * 2 * row["num_regions"]
    (table,) = [table for _, table in open_folder(tmp_path / "data/regions").tables()]
    (found,) = records_of(table, ["a"])
    assert found.probs is not None
    assert np.allclose(found.probs.sum(axis=1), 1, atol=2e-3)


def test_without_any_size_boxes_are_in_a_picture_of_a_thousand_pixels(tmp_path: Path) -> None:
    made.write("uniter-lmdb", tmp_path / "in", RECORDS)
    said = run("import", tmp_path / "in", "--as", "uniter-lmdb", "--out", tmp_path / "data")
    assert "width" in said["unknown"]
    found = {row["source"]: row for row in rows(tmp_path / "data/regions")}
    for one in RECORDS:
        row = found[one.key]
        assert (row["width"], row["height"]) == (1000, 1000)
        shares = np.asarray(one.boxes) / ([one.width, one.height] * 2)
        assert np.allclose(np.frombuffer(row["boxes"], "<f4").reshape(-1, 4) / 1000, shares, atol=3e-4)


def test_what_cannot_be_a_picture_is_named_by_key_and_reason(tmp_path: Path) -> None:
    folder = made.write("lxmert-tsv", tmp_path / "in", [*RECORDS[:3], RECORDS[1], *RECORDS[3:]])
    file = folder / "features.tsv"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0][:-10] + b"!" + lines[0][-9:]
    wide = made.write("lxmert-tsv", tmp_path / "wide", [made.record("COCO_train2014_000000000099", 2)])
    cells = (wide / "features.tsv").read_bytes().split(b"\t")
    cells[-1] = cells[4]  # one number a region
    none = b"0\t5\t5\t\t\t\t\t0\t\t\n"
    file.write_bytes(b"".join(lines) + b"\t".join(cells) + b"\n" + none + lines[5][:300])
    captions = coco(tmp_path / "c.json", [*RECORDS[:-1], made.record("COCO_train2014_000000000077", 1)])
    run("import", folder, "--as", "lxmert-tsv", "--captions", captions, "--out", tmp_path / "data")
    found = reasons(tmp_path / "data/quarantine/download")
    keys = [one.key for one in RECORDS]
    wanted = {keys[0]: "bad-features", keys[1]: "doubled-key", "COCO_train2014_000000000099": "other-width"}
    wanted |= {"0": "no-regions", keys[4]: "cut-off", keys[-1]: "no-caption", "77": "no-features"}
    assert found == wanted
    assert [row["source"] for row in rows(tmp_path / "data/regions")] == keys[1:-1]
    assert run("lint", tmp_path / "data")["problems"] == []


def test_a_captions_list_of_ones_own_with_any_spelling_of_keys(tmp_path: Path) -> None:
    made.write("lxmert-tsv", tmp_path / "in", RECORDS[:4])
    (tmp_path / "list.csv").write_text(
        "picture,text\n"
        "COCO_train2014_000000000001.jpg,one\n"
        "train2014/COCO_train2014_000000000002.jpg,two\n"
        "3,three\n"
        "00004,four\n"
    )
    run(
        "import", tmp_path / "in", "--as", "lxmert-tsv", "--captions", tmp_path / "list.csv", "--image-col",
        "picture", "--caption-col", "text", "--out", tmp_path / "data",
    )  # fmt: skip
    texts = [row["captions"][0]["text"] for row in rows(tmp_path / "data/download")]
    assert texts == ["one", "two", "three", "four"]


def test_captions_of_other_pictures_only_are_named(tmp_path: Path) -> None:
    made.write("lxmert-tsv", tmp_path / "in", RECORDS[:2])
    (tmp_path / "list.csv").write_text("image_id,caption\nvg_7,seven\n")
    said = refused(
        "import", tmp_path / "in", "--as", "lxmert-tsv", "--captions", tmp_path / "list.csv", "--out", tmp_path / "data"
    )
    assert "none of 3 entries became a picture" in said


def test_karpathys_captions(tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text('{"images": [{"filename": "9.jpg", "sentences": [{"raw": "a"}, {"raw": "b"}]}]}')
    assert captions.read(tmp_path / "k.json").of("9") == ([("a", None), ("b", None)], None)


def test_coco_captions_of_files_with_other_names_than_their_ids(tmp_path: Path) -> None:
    files = {1: "a/IMG_2.jpg", 2: "a/IMG_1.jpg", 3: "a/3f.jpg", 4: "b/four.jpg"}
    content = {
        "images": [{"id": number, "file_name": name, "width": number, "height": 9} for number, name in files.items()],
        "annotations": [{"image_id": number, "caption": name} for number, name in files.items()],
    }
    (tmp_path / "c.json").write_text(json.dumps(content))
    found = captions.read(tmp_path / "c.json")
    by_name = {"a/IMG_2.jpg": 1, "IMG_2": 1, "IMG_1.npz": 2, "x/3f": 3, "four": 4}
    by_number = {"1": 1, "4": 4, "COCO_000001": 2}  # the last: no name and no id, so the number at the end of the name
    for key, number in (by_name | by_number).items():
        assert found.of(key) == ([(files[number], None)], (number, 9)), key
    assert found.of("IMG_3") == ([], None)
    assert list(found.unasked()) == []


def asked(tmp_path: Path, out: Path) -> incoming.Asked:
    return incoming.Asked(
        layout="lxmert-tsv", path=tmp_path / "in", out=out, source="coco", rows_per_shard=3, quiet=True,
        captions=captions.read(tmp_path / "c.json"), captions_from="c.json",
    )  # fmt: skip


def test_captions_of_a_data_set_whose_pictures_are_not_there(tmp_path: Path) -> None:
    made.write("lxmert-tsv", tmp_path / "in", RECORDS[:2])
    lines = [f"{one.key}.jpg#{number}\tcaption {number}\n" for one in RECORDS[:2] for number in (0, 1)]
    (tmp_path / "results.token").write_text("".join(lines))
    said = run(
        "import", tmp_path / "in", "--as", "lxmert-tsv", "--captions", tmp_path / "results.token", "--captions-as",
        "flickr30k", "--out", tmp_path / "data",
    )  # fmt: skip
    assert (said["images"], said["captions"], said["rejected"]) == (2, 4, {})
    regions = [
        {"id": number, "regions": [{"phrase": f"thing {number}", "x": 1, "y": 1, "width": 2, "height": 2}]}
        for number in (1, 2)
    ]
    (tmp_path / "vg").mkdir()
    (tmp_path / "vg/region_descriptions.json").write_text(json.dumps(regions))
    (tmp_path / "vg/image_data.json").write_text(json.dumps([{"image_id": n, "width": 9, "height": 9} for n in (1, 2)]))
    found = captions.of_dataset(tmp_path / "vg", "vg")
    assert [found.of(one.key)[0] for one in RECORDS[:2]] == [[("thing 1", None)], [("thing 2", None)]]


def test_a_line_of_captions_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "results.token").write_text("1.jpg#0\tone\nno caption\n")
    with pytest.raises(InputError, match=r"results\.token, \w+ 2"):
        captions.of_dataset(tmp_path / "results.token", "flickr30k")


def test_a_killed_import_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    made.write("lxmert-tsv", tmp_path / "in", RECORDS)
    coco(tmp_path / "c.json", RECORDS)
    incoming.take(asked(tmp_path, tmp_path / "whole"))
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        write, count = writing.write_shard, iter(range(9))

        def dying(*arguments: object) -> object:
            if next(count) == 5:  # of its third shard the pairs are there, and no regions
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*arguments)  # type: ignore[arg-type]

        vars(incoming)["write_shard"] = dying
        incoming.take(asked(tmp_path, tmp_path / "again"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not open_folder(tmp_path / "again/regions").complete
    incoming.take(asked(tmp_path, tmp_path / "again"))
    for table in ("download", "regions"):
        whole, again = (open_folder(tmp_path / name / table) for name in ("whole", "again"))
        assert again.complete
        assert again.shards == whole.shards


def test_other_settings_are_refused_unless_redone(tmp_path: Path) -> None:
    made.write("butd-tsv", tmp_path / "in", RECORDS)
    command = ("import", tmp_path / "in", "--as", "butd-tsv", "--out", tmp_path / "data")
    run(*command)
    before = open_folder(tmp_path / "data/regions").shards
    run(*command)
    assert open_folder(tmp_path / "data/regions").shards == before
    assert "prob_width" in refused(*command, "--class-probs", "2")
    run(*command, "--class-probs", "2", "--redo")
    assert open_folder(tmp_path / "data/regions").shards != before


def test_names_come_from_files_beside_the_features_or_named(tmp_path: Path) -> None:
    made.write("lxmert-tsv", tmp_path / "in", RECORDS)
    run("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", tmp_path / "numbers")
    metadata = open_folder(tmp_path / "numbers/regions").metadata("00000")
    assert metadata["classes"].startswith('["class 0", "class 1"')
    (tmp_path / "in/objects_vocab.txt").write_text("".join(f"thing {n}\n" for n in range(made.CLASSES)))
    run("import", tmp_path / "in", "--as", "lxmert-tsv", "--out", tmp_path / "names")
    assert '"thing 11"]' in open_folder(tmp_path / "names/regions").metadata("00000")["classes"]
    shutil.copy(tmp_path / "in/objects_vocab.txt", tmp_path / "few.txt")
    (tmp_path / "few.txt").write_text("one\ntwo\n")
    said = refused(
        "import", tmp_path / "in", "--as", "lxmert-tsv", "--objects", tmp_path / "few.txt", "--out", tmp_path / "few"
    )
    assert "bad-value" in said


@pytest.mark.parametrize("layout", ["butd-tsv", "grid-npy"])
def test_features_without_classes_become_shards_without_tags(layout: str, tmp_path: Path) -> None:
    pictures = [made.grid(one.key, 19, 32) for one in RECORDS] if layout == "grid-npy" else RECORDS
    folder = made.write(layout, tmp_path / "in", pictures)
    if layout == "butd-tsv":  # without the probabilities of ViLBERT's fork
        lines = (folder / "features.tsv").read_bytes().splitlines()
        (folder / "features.tsv").write_bytes(b"".join(b"\t".join(line.split(b"\t")[:6]) + b"\n" for line in lines))
    captions = coco(tmp_path / "c.json", RECORDS)
    said = run("import", folder, "--as", layout, "--captions", captions, "--out", tmp_path / "data", "--shards")
    assert "class_ids" in said["unknown"]
    found = list(rows(tmp_path / "data/shards"))
    assert len(found) == 10
    assert all(row["tags"] == [] for row in found)
    if layout == "grid-npy":
        assert {row["num_regions"] for row in found} == {608}
        first = next(row for row in found if as_dict(row["extra"])["key"] == RECORDS[0].key)
        box = np.frombuffer(first["boxes"], "<f4").reshape(-1, 4)[33]
        wanted = np.array([1 / 32, 1 / 19, 2 / 32, 2 / 19]) * ([RECORDS[0].width, RECORDS[0].height] * 2)
        assert np.allclose(box, wanted, atol=1e-3)
