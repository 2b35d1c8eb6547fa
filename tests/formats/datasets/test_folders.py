"""Folders and WebDataset's tars: as the file system, json and webdataset itself read them, broken ones too."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import dictionaries, sampled_from, text

from formats.names import as_text
from pairloom.errors import ConfigError, InputError
from tests.bucket import bucket
from tests.formats.datasets.layouts import (
    CAPTIONS,
    bodies,
    coco,
    picture,
    read,
    texts,
    write_json,
    write_pictures,
    write_tar,
)

# webdataset leaves files and its pipes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
ALL = [picture(number) for number in range(len(CAPTIONS))]
NAMES = [f"{number}.jpg" for number in range(len(CAPTIONS))]


def test_a_folder_with_texts_beside_its_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "deep", NAMES)
    for number, captions in enumerate(CAPTIONS):
        (tmp_path / f"deep/{number}.txt").write_text(captions[0] + "\n", encoding="utf-8")
    write_json(tmp_path / "deep/1.json", {"caption": "left for the txt", "lang": "de", "licence": "CC0", "score": 0.5})
    rows, bad = read(tmp_path)
    assert (texts(rows), bad) == ([(captions[0],) for captions in CAPTIONS], [])
    assert bodies(tmp_path, rows) == ALL
    assert (rows[1].licence, rows[1].extra, rows[1].captions[0]["lang"]) == ("CC0", {"score": "0.5"}, "de")


def test_pictures_without_texts_stay_and_texts_without_pictures_are_named(tmp_path: Path) -> None:
    write_pictures(tmp_path, NAMES[:2])
    (tmp_path / "0.txt").write_bytes(b"caf\xe9")
    (tmp_path / "lost.txt").write_text("of nothing")
    (tmp_path / ".hidden.jpg").write_bytes(b"")
    rows, bad = read(tmp_path)
    assert ([row.url for row in rows], texts(rows)) == (["s:1.jpg"], [()])
    assert [one.said.partition(":")[0] for one in bad] == ["a byte is not UTF-8", "lost.txt belongs to no picture"]


def test_energons_split_says_which_tars_are_of_which_split_and_what_is_left_out(tmp_path: Path) -> None:
    for tar in range(4):
        bodies_of = [{"jpg": picture(tar * 2 + number), "txt": f"{tar} {number}".encode()} for number in range(2)]
        names = [(f"a/{n}.{ending}", body) for n, files in enumerate(bodies_of) for ending, body in files.items()]
        (tmp_path / "parts").mkdir(exist_ok=True)
        write_tar(tmp_path / f"parts/data-{tar:02d}.tar", names)
    said = {"split_parts": {"train": ["parts/data-{00..02}.tar"], "val": ["parts/data-03.tar", "parts/gone.tar"]},
            "exclude": ["parts/data-01.tar", "parts/data-00.tar/a/1", "parts/data-{02,03}.tar/a/0"]}  # fmt: skip
    for name, content in (("split.yaml", yaml.safe_dump(said)), ("split.json", json.dumps(said))):
        (tmp_path / ".nv-meta").mkdir(exist_ok=True)
        (tmp_path / f".nv-meta/{name}").write_text(content)
        rows, bad = read(tmp_path)
        assert [(row.captions[0]["text"], row.extra["split"]) for row in rows] == [
            ("0 0", "train"), ("2 1", "train"), ("3 1", "val"),
        ]  # fmt: skip
        assert bodies(tmp_path, rows) == [picture(0), picture(5), picture(7)]
        assert [one.said for one in bad] == [".nv-meta/split.yaml names the tar 'parts/gone.tar', which is not there"]
        (tmp_path / f".nv-meta/{name}").unlink()
    (tmp_path / ".nv-meta/split.yaml").write_text("split_parts: 3")
    with pytest.raises(InputError, match="its splits cannot be read"):
        read(tmp_path)
    assert len(read(tmp_path, "webdataset")[0]) == 8


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_list_with_paths_beside_the_pictures(tmp_path: Path, kind: str) -> None:
    write_pictures(tmp_path / "train/p", NAMES)
    rows = [{"file_name": f"p/{name}", "caption": said[0], "mood": str(n)}
            for n, (name, said) in enumerate(zip(NAMES, CAPTIONS, strict=True))]  # fmt: skip
    rows.append({"file_name": "../../etc/passwd", "caption": "no", "mood": ""})
    file = tmp_path / f"train/metadata.{kind}"
    if kind == "csv":
        quoted = [[f'"{value.replace(chr(34), chr(34) * 2)}"' for value in row.values()] for row in rows]
        file.write_text("\n".join(["file_name,caption,mood", *map(",".join, quoted)]), encoding="utf-8")
    elif kind == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    found, bad = read(tmp_path)
    assert (texts(found)[:4], bad) == ([(captions[0],) for captions in CAPTIONS], [])
    assert [row.extra for row in found[:4]] == [{"mood": str(number)} for number in range(4)]
    *there, outside = bodies(tmp_path, found)
    assert there == ALL
    assert "path-refused" in str(outside)


def test_webdataset_reads_the_same_samples(tmp_path: Path) -> None:
    with wds.ShardWriter(str(tmp_path / "set-%03d.tar"), maxcount=2, verbose=0) as sink:
        for number, captions in enumerate(CAPTIONS):
            facts = {"lang": "en", "n": number, "caption": "left for the txt"}
            sink.write({"__key__": f"a.d/{number:03d}", "jpg": picture(number), "txt": captions[0], "json": facts,
                        "cls": number, "seg.png": b"mask"})  # fmt: skip
    rows, bad = read(tmp_path)
    urls = sorted(str(path) for path in tmp_path.glob("*.tar"))
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert bad == []
    assert bodies(tmp_path, rows) == [sample["jpg"] for sample in samples]
    assert texts(rows) == [(sample["txt"].decode(),) for sample in samples]
    assert [row.extra["key"] for row in rows] == [sample["__key__"] for sample in samples]
    assert [row.extra["n"] for row in rows] == [str(json.loads(sample["json"])["n"]) for sample in samples]
    assert [row.extra["cls"] for row in rows] == [sample["cls"].decode() for sample in samples]


def test_one_key_in_two_tars_is_two_rows(tmp_path: Path) -> None:
    for number in range(2):
        write_tar(tmp_path / f"{number}.tar", [("a.webp", picture(number)), ("a.caption", b"said")])
    rows, bad = read(tmp_path)
    assert ([row.url for row in rows], bad) == (["s:0.tar/a.webp", "s:1.tar/a.webp"], [])


def test_what_is_wrong_with_a_tar_is_named(tmp_path: Path) -> None:
    members = [("a.jpg", ALL[0]), ("a.txt", b"one"), ("b.txt", b"no picture"), ("a.jpg", ALL[1]), ("c.jpg", ALL[2]),
               ("c.json", b"{nonsense"), ("/d.jpg", ALL[0]), ("../e.jpg", ALL[0]), ("f.jpg", ALL[3]), ("g", b""),
               ("h.mp4", b"film")]  # fmt: skip
    write_tar(tmp_path / "x.tar", members)
    rows, bad = read(tmp_path)
    assert [row.url for row in rows] == ["s:x.tar/a.jpg", "s:x.tar/f.jpg"]
    said = [one.said for one in bad]
    assert "'b' has txt and no picture" in said[0]
    assert "'a' stands in the tar a second time" in said[1]
    assert "c.json cannot be read as JSON" in said[2]
    assert "'/d.jpg': its name is an absolute path" in said[3]
    assert "'../e.jpg': its name has '..'" in said[4]
    assert "'g' is not called KEY.ENDING" in said[5]
    assert "'h' has mp4 and no picture" in said[6]


def test_of_a_truncated_tar_the_rows_before_are_there_and_its_end_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [m for n in range(4) for m in ((f"{n}.txt", b"said"), (f"{n}.jpg", picture(n)))])
    with tarfile.open(tmp_path / "x.tar") as tar:
        cut = tar.getmember("2.jpg").offset_data + 10
    os.truncate(tmp_path / "x.tar", cut)
    rows, bad = read(tmp_path)
    assert [row.url for row in rows] == ["s:x.tar/0.jpg", "s:x.tar/1.jpg"]
    assert [one.said.partition(";")[0] for one in bad] == [
        "the key '2' has txt and no picture",
        "the tar ends early, within '2.jpg'",
    ]


def test_a_bucket_holds_the_same_data_sets(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("coco", "tars", "list")}
    coco(places["coco"])
    places["tars"].mkdir()
    members = [m for n in range(4) for m in ((f"{n}.txt", CAPTIONS[n][0].encode()), (f"{n}.jpg", picture(n)))]
    write_tar(places["tars"] / "x.tar", members)
    write_pictures(places["list"], NAMES)
    rows = [{"file_name": name, "caption": said[0]} for name, said in zip(NAMES, CAPTIONS, strict=True)]
    (places["list"] / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with bucket("sets") as client:
        for name, folder in places.items():
            for file in folder.rglob("*.*"):
                client.upload_file(str(file), "sets", f"{name}/{file.relative_to(folder)}")
            address = f"s3://sets/{name}"
            found, bad = read(address)
            assert (found, bad) == read(folder)
            assert bodies(address, found) == ALL


KEYS = text(min_size=1, max_size=40).filter(lambda key: not set("./\0\ud800") & set(key) and key.strip() == key)


@given(keys=dictionaries(KEYS, sampled_from(["jpg", "PNG", "seg.jpg"]), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_key_is_read_as_webdataset_reads_it(tmp_path_factory: Any, keys: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("tar")
    write_tar(folder / "x.tar", [(f"{key}.{ending}", picture(0)) for key, ending in keys.items()])
    rows, bad = read(folder, "webdataset")
    samples = list(wds.WebDataset(str(folder / "x.tar"), shardshuffle=False))
    assert bad == []
    assert [row.url for row in rows] == [f"s:x.tar/{as_text(key)}.{ending}" for key, ending in keys.items()]
    assert [row.extra["key"] for row in rows] == [sample["__key__"] for sample in samples]
    assert bodies(folder, rows) == [picture(0)] * len(keys)


def test_what_is_no_data_set_or_two_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the data sets"):
        read(tmp_path)
    write_tar(tmp_path / "x.tar", [("a.jpg", ALL[0])])
    write_json(tmp_path / "annotations/captions_val2017.json", {"images": [], "annotations": []})
    with pytest.raises(InputError, match=r"coco, since it has .*; webdataset, since it has tars"):
        read(tmp_path)
    with pytest.raises(ConfigError, match="no format 'cocoa'"):
        read(tmp_path, "cocoa")
