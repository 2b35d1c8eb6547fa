"""The folder that the blocks of the docs are run in: small files and datasets of the names that the pages use."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pairloom.store.folder import open_folder
from pipeline.cli import main
from tests.formats.datasets import layouts
from tests.formats.features import made
from tests.pipeline.features.lists import coco, records
from tests.pipeline.test_import import write_shard
from tests.serving import write_list

SCENES = {
    "host": "sample.invalid",
    "seed": 1,
    "scenes": {
        "count": 8,
        "sizes": [[160, 120]],
        "captions": 2,
        "languages": ["de"],
        "translated_every": 2,
        "questions": 1,
    },
    "photographs": [],
    "failures": [],
}
PARAMS = {
    "run": {"cluster": "inline"},
    "sample": {"rows_per_shard": 4, "urls": "scenes.yaml"},
    "download": {"serve": "data/sample"},
    "shards": {"val_share": 0.3},
}


def make(folder: Path, host: str) -> None:
    """Fill the working folder `folder`; host: a server with 0.jpg, 1.jpg … in folder/www."""
    dataset(folder)
    lists(folder, host)
    on_disk(folder / "disk", host)
    regions_of_others(folder)


def dataset(folder: Path) -> None:
    """data/, which every stage made of a few drawn scenes, a copy of it, and its params.yaml."""
    (folder / "scenes.yaml").write_text(yaml.safe_dump(SCENES), encoding="utf-8")
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS), encoding="utf-8")
    assert main(["run", "--params", "params.yaml", "--out", "data", "--quiet"]) == 0
    shutil.copytree(folder / "data", folder / "other/data")
    shutil.copytree(folder / "data/shards", folder / "shards")
    first = open_folder(folder / "data/download").read("00000", ["image_id"])["image_id"][0].as_py()
    (folder / "removed.txt").write_text(f"{first.hex()}\n", encoding="utf-8")


def lists(folder: Path, host: str) -> None:
    """Lists of URLs of the server, in the columns that each published one has, and texts without pictures."""
    urls, captions = [f"http://{host}/{n}.jpg" for n in range(4)], [f"a small thing of {n}" for n in range(4)]
    for name in ("my.csv", "list.csv"):
        write_list(folder / name, host, range(4))
    lines = [f"{number},{caption}\n" for number, caption in enumerate(captions)]
    (folder / "captions.csv").write_text("".join(["image_id,caption\n", *lines]), encoding="utf-8")
    pairs = list(zip(urls, captions, strict=True))
    lines = [f"{caption}\t{url}\n" for url, caption in pairs]
    (folder / "Train_GCC-training.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "cc12m.tsv").write_text("".join(f"{url}\t{caption}\n" for url, caption in pairs), encoding="utf-8")
    for name, columns in (("coyo-700m/data", ("url", "text")), ("laion2B-en", ("URL", "TEXT"))):
        (folder / name).mkdir(parents=True)
        pq.write_table(pa.table(dict(zip(columns, (urls, captions), strict=True))), folder / name / "0.parquet")
    (folder / "news.txt").write_text("one line of news\nand another\n", encoding="utf-8")
    (folder / "books.jsonl").write_text(json.dumps({"text": "a line of a book"}) + "\n", encoding="utf-8")
    for name in ("pictures", "photos"):
        shutil.copytree(folder / "www", folder / name)


def on_disk(disk: Path, host: str) -> None:
    """What the pages call /data: COCO, what img2dataset wrote, tars, pictures and a table of rewritten captions."""
    layouts.coco(disk / "coco")
    for number, picture in enumerate(sorted((disk / "coco/val2017").iterdir())):
        shutil.copy(disk.parent / f"www/{number}.jpg", picture)
    layouts.write_pictures(disk / "cc12m/00000", ["000000000.jpg"])
    said = [(f"http://{host}/0.jpg", "success", None), (f"http://{host}/1.jpg", "failed_to_download", "timed out")]
    write_shard(disk / "cc12m", said)
    shutil.copytree(disk / "cc12m", disk / "cc12m-i2d")
    members = [(f"{n}.{end}", body) for n in range(4) for end, body in _pair(disk, n)]
    for name in ("tars", "shards"):
        (disk / name).mkdir()
        layouts.write_tar(disk / name / "00000.tar", members)
    (disk / "own/holiday").mkdir(parents=True)
    (disk / "own/holiday/1.jpg").write_bytes(_pair(disk, 0)[0][1])
    (disk / "recap").mkdir()
    image = pa.array([{"bytes": _pair(disk, n)[0][1], "path": None} for n in range(3)])
    columns = {"image": image, "re_caption": ["new"] * 3, "org_caption": ["old"] * 3}
    pq.write_table(pa.table(columns), disk / "recap/0.parquet")


def _pair(disk: Path, number: int) -> list[tuple[str, bytes]]:
    picture = (disk.parent / f"www/{number}.jpg").read_bytes()
    return [("jpg", picture), ("txt", f"a red thing and {number} more".encode())]


def regions_of_others(folder: Path) -> None:
    """LXMERT's TSV and UNITER's LMDB of the same pictures, with COCO's captions."""
    pictures = records(40)
    for name in ("captions_train2014.json", "captions.json"):
        coco(folder / name, pictures)
    made.write("lxmert-tsv", folder / "lxmert", pictures)
    for name in ("train2014_obj36.tsv", "obj36.tsv"):
        shutil.copy(folder / "lxmert/features.tsv", folder / name)
    made.write("uniter-lmdb", folder / "coco_train2014", pictures)
