"""Data sets in tables, and published lists: as datasets, pyarrow and the published column names have them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds

from formats import earlier
from formats.datasets.img2dataset import reason_of
from pairloom.errors import InputError
from schemas.quarantine import REASONS
from tests.formats.datasets.layouts import CAPTIONS, bodies, picture, read, texts, write_pictures, write_tar
from tests.formats.pictures.records import example, record
from tests.serving import served

# img2dataset imports what Python 3.13 has no more, and leaves files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*imghdr", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ALL = [picture(number) for number in range(len(CAPTIONS))]


def dataset() -> datasets.Dataset:
    features = datasets.Features(
        {"picture": datasets.Image(), "captions": datasets.Sequence(datasets.Value("string")),
         "label": datasets.ClassLabel(names=["cat", "dog"]), "n": datasets.Value("int64")}
    )  # fmt: skip
    rows = [{"picture": {"bytes": body, "path": None}, "captions": list(said), "label": n % 2, "n": n}
            for n, (body, said) in enumerate(zip(ALL, CAPTIONS, strict=True))]  # fmt: skip
    return datasets.Dataset.from_list(rows, features=features)


def test_a_dataset_saved_to_disk_is_what_datasets_loads(tmp_path: Path) -> None:
    made = datasets.DatasetDict({"train": dataset().select([2, 0, 1]), "validation": dataset().select([3])})
    made.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 2, "validation": 1})
    loaded = datasets.load_from_disk(str(tmp_path / "saved"))
    rows, bad = read(tmp_path / "saved")
    there = [(split, row) for split in ("train", "validation")
             for row in loaded[split].cast_column("picture", datasets.Image(decode=False))]  # fmt: skip
    assert bad == []
    assert bodies(tmp_path / "saved", rows) == [row["picture"]["bytes"] for _, row in there]
    assert texts(rows) == [tuple(row["captions"]) for _, row in there]
    names = loaded["train"].features["label"].names
    assert [row.extra for row in rows] == [
        {"label": names[row["label"]], "n": str(row["n"]), "split": "val" if split == "validation" else split}
        for split, row in there
    ]


def test_a_folder_of_parquet_with_pictures(tmp_path: Path) -> None:
    dataset().to_parquet(str(tmp_path / "data/train-00000-of-00001.parquet"), batch_size=3)
    rows, bad = read(tmp_path)
    assert (bad, texts(rows)) == ([], [tuple(said) for said in CAPTIONS])
    assert bodies(tmp_path, rows) == ALL
    assert rows[1].extra == {"label": "dog", "n": "1", "split": "train"}


def test_licence_and_version_are_those_of_the_card(tmp_path: Path) -> None:
    made = dataset()
    made.info.license, made.info.version, made.info.dataset_name = "cc-by-4.0", datasets.Version("1.2.0"), "pets"
    made.save_to_disk(str(tmp_path / "saved"))
    assert {(row.licence, row.source) for row in read(tmp_path / "saved")[0]} == {("cc-by-4.0", "pets 1.2.0")}
    made.to_parquet(str(tmp_path / "parquet/train.parquet"))
    (tmp_path / "parquet/README.md").write_text("---\nlicense: mit\ntags: [a]\n---\n# Pets\n")
    assert {(row.licence, row.source) for row in read(tmp_path / "parquet")[0]} == {("mit", "s")}


def test_several_columns_of_captions_of_a_dataset(tmp_path: Path) -> None:
    table = pa.table({"image": ALL, "re_caption": ["long"] * 4, "org_caption": ["alt"] * 4, "text": ["no"] * 4})
    pq.write_table(table, tmp_path / "x.parquet")
    rows, bad = read(tmp_path, caption_column=("re_caption", "org_caption"), kinds=("synthetic", "alt"))
    assert bad == []
    assert [(one["text"], one["kind"]) for one in rows[0].captions] == [("long", "synthetic"), ("alt", "alt")]
    assert rows[0].extra == {"text": "no"}


def test_of_several_columns_of_pictures_one_must_be_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": ALL, "b": ALL[::-1], "text": ["x"] * 4}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="the columns a, b hold pictures"):
        read(tmp_path)
    rows, _ = read(tmp_path, url_column="b")
    assert bodies(tmp_path, rows) == ALL[::-1]
    assert texts(rows) == [("x",)] * 4


def test_the_arrow_files_of_vilt(tmp_path: Path) -> None:
    columns = {"image": ALL, "caption": [list(said) for said in CAPTIONS]}
    columns |= {"image_id": [f"COCO_{n}.jpg" for n in range(4)], "split": ["train", "restval", "val", "test"]}
    table, file = pa.table(columns), tmp_path / "coco_caption_karpathy_train.arrow"
    with pa.OSFile(str(file), "wb") as sink, pa.RecordBatchFileWriter(sink, table.schema) as writer:
        writer.write_table(table)  # as ViLT's write_karpathy does
    rows, bad = read(tmp_path)
    assert (bad, texts(rows)) == ([], [tuple(said) for said in CAPTIONS])
    assert bodies(tmp_path, rows) == ALL
    assert rows[3].extra == {"image_id": "COCO_3.jpg", "split": "test"}


def write_mds(folder: Path, split: str, rows: list[tuple[bytes, str, int]]) -> None:
    """As streaming's MDSWriter does (base/format/mds/writer.py)."""
    config = {"version": 2, "format": "mds", "compression": None, "hashes": [], "size_limit": 1 << 26,
              "column_names": ["caption", "image", "n"], "column_encodings": ["str", "jpeg", "int"],
              "column_sizes": [None, None, 8]}  # fmt: skip
    samples = [np.array([len(text.encode()), len(body)], "<u4").tobytes() + text.encode() + body
               + np.int64(n).tobytes() for body, text, n in rows]  # fmt: skip
    head = json.dumps(config, sort_keys=True).encode()
    offsets = np.cumsum([0, *map(len, samples)]).astype("<u4") + np.uint32(4 + 4 * (len(rows) + 1) + len(head))
    content = np.uint32(len(rows)).tobytes() + offsets.astype("<u4").tobytes() + head + b"".join(samples)
    (folder / split).mkdir(parents=True)
    (folder / split / "shard.00000.mds").write_bytes(content)
    shard = {**config, "samples": len(rows), "zip_data": None, "raw_data": {"basename": "shard.00000.mds"}}
    (folder / split / "index.json").write_text(json.dumps({"version": 2, "shards": [shard]}))


def test_the_shards_of_streaming(tmp_path: Path) -> None:
    said = [(ALL[n], CAPTIONS[n][0], n - 1) for n in range(4)]
    write_mds(tmp_path, "train", said[:3])
    write_mds(tmp_path, "val", said[3:])
    rows, bad = read(tmp_path)
    assert (bad, texts(rows)) == ([], [(text,) for _, text, _ in said])
    assert bodies(tmp_path, rows) == ALL
    assert [row.extra for row in rows] == [{"n": str(n), "split": "val" if n == 2 else "train"} for *_, n in said]
    shard = tmp_path / "train/shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-20])
    with pytest.raises(InputError, match="row 2 is cut off"):
        read(tmp_path)
    assert "unreadable" in str(bodies(tmp_path, rows)[2])


@pytest.mark.parametrize(("name", "line"), [("cc3m", "{caption}\t{url}"), ("cc12m", "{url}\t{caption}")])
def test_conceptual_captions_have_no_header_and_no_quotes(tmp_path: Path, name: str, line: str) -> None:
    said = [("http://a.example/1.jpg", 'an inch is 1" long'), ("http://a.example/2.jpg", "NULL")]
    lines = [line.format(url=url, caption=caption) for url, caption in said]
    (tmp_path / "list.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows, bad = read(tmp_path / "list.tsv")
    assert ([(row.url, row.captions[0]["text"]) for row in rows], bad) == (said, [])
    assert rows[0].source == "s"
    (tmp_path / "list.tsv").write_text("\n".join([line.format(url="url", caption="caption"), *lines]))
    assert len(read(tmp_path / "list.tsv", name)[0]) == 2  # with the line that img2dataset's guides put there


def test_laion_coyo_and_datacomp_by_their_columns(tmp_path: Path) -> None:
    urls = ["http://a.example/1.jpg", "http://a.example/2.jpg"]
    digest = hashlib.sha256(b"x").hexdigest()
    laion = {"SAMPLE_ID": [1.0, 2.0], "URL": urls, "TEXT": ["one", None], "HEIGHT": [1, 2], "WIDTH": [1, 2],
             "LICENSE": ["?", "CC-BY"], "NSFW": ["UNLIKELY", None], "similarity": [0.3, 0.4]}  # fmt: skip
    coyo = {"id": [1, 2], "url": urls, "text": ["one", None], "width": [1, 2], "clip_similarity_vitb32": [0.1, 0.2]}
    datacomp = {"uid": ["a", "b"], "url": urls, "text": ["one", None], "sha256": [digest, digest]}
    for name, columns in {"laion": laion, "coyo": coyo, "datacomp": datacomp}.items():
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(columns), tmp_path / name / "part-0.parquet")
        rows, bad = read(tmp_path / name)
        assert ([row.url for row in rows], texts(rows), bad) == (urls, [("one",), ()], [])
        assert [row.checksum for row in rows] == [f"sha256:{digest}" if name == "datacomp" else None] * 2
    rows, _ = read(tmp_path / "laion")
    assert [row.licence for row in rows] == [None, "CC-BY"]
    assert rows[0].extra["similarity"] == "0.3"


def test_sbu_in_columns_and_in_two_texts(tmp_path: Path) -> None:
    urls, said = ["http://a.example/1.jpg", "http://a.example/2.jpg"], ["one", 'two "2"']
    columns = {"image_urls": urls, "user_ids": ["u1", "u2"], "captions": said}
    (tmp_path / "sbu-captions-all.json").write_text(json.dumps(columns))
    rows, bad = read(tmp_path / "sbu-captions-all.json")
    assert ([(row.url, row.extra) for row in rows], bad) == (
        [(urls[0], {"user_id": "u1"}), (urls[1], {"user_id": "u2"})],
        [],
    )
    texts_folder = tmp_path / "texts"
    texts_folder.mkdir()
    (texts_folder / "SBU_captioned_photo_dataset_urls.txt").write_text("\n".join(urls) + "\n")
    (texts_folder / "SBU_captioned_photo_dataset_captions.txt").write_text("\n".join(said) + "\n")
    assert texts(read(texts_folder)[0]) == texts(rows) == [("one",), ('two "2"',)]
    (tmp_path / "sbu-captions-all.json").write_text(json.dumps({**columns, "captions": said[:1]}))
    with pytest.raises(InputError, match="2 image_urls and 1 captions"):
        read(tmp_path / "sbu-captions-all.json")


FATES = ("0.jpg", "gone.jpg", "page.jpg", "2.jpg", "http://no.invalid/x.jpg")


def downloaded(folder: Path, kind: str) -> None:
    """What img2dataset makes of FATES on a server of ours. Its own Downloader, in this process."""
    from img2dataset import downloader, resizer, writer  # type: ignore[import-untyped]

    made = {"webdataset": writer.WebDatasetSampleWriter, "files": writer.FilesSampleWriter,
            "parquet": writer.ParquetSampleWriter}[kind]  # fmt: skip
    write_pictures(folder.parent / "www", [f"{number}.jpg" for number in range(len(ALL))])
    (folder.parent / "www/page.jpg").write_bytes(b"no picture")
    folder.mkdir()
    with served(folder.parent / "www") as host:
        urls = [name if "://" in name else f"http://{host}/{name}" for name in FATES]
        table = pa.table({"url": urls, "caption": [f"caption {number}" for number in range(len(FATES))]})
        if kind == "parquet":  # its writer wants the column of texts in the schema, and does not put it there
            table = table.append_column("txt", pa.array([""] * len(FATES)))
        with pa.OSFile(str(folder.parent / "0.feather"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        resizing = resizer.Resizer(256, "no", True, skip_reencode=True)
        columns = ["url", "caption"]
        shard = downloader.Downloader(made, resizing, 1, True, False, str(folder), columns, 5, 10, 5, "sha256",
                                      None, "jpg", 0, None, None)  # fmt: skip
        assert shard((0, str(folder.parent / "0.feather")))[0]


@pytest.mark.parametrize("kind", ["files", "webdataset", "parquet"])
def test_img2dataset_folders_come_with_their_failures(tmp_path: Path, kind: str) -> None:
    downloaded(tmp_path / "x", kind)
    rows, bad = read(tmp_path / "x")
    by_caption = {str(row.captions[0]["text"]): row for row in rows}
    assert (bad, sorted(by_caption)) == ([], [f"caption {number}" for number in range(len(FATES))])
    rows = [by_caption[f"caption {number}"] for number in range(len(FATES))]
    assert bodies(tmp_path / "x", [rows[0], rows[3]]) == [ALL[0], ALL[2]]
    assert [row.extra.get(earlier.REASON) for row in rows] == [None, "not-found", "damaged-image", None, "dns"]
    assert [row.url.rpartition("/")[2] for row in rows[1:3]] == ["gone.jpg", "page.jpg"]
    assert rows[0].extra["url"].endswith("/0.jpg")
    assert rows[0].extra["sha256"] == hashlib.sha256(ALL[0]).hexdigest()
    assert "HTTP Error 404" in rows[1].extra[earlier.DETAIL]


def as_tfrecord(folder: Path) -> Path:
    """What img2dataset wrote as webdataset, as it writes tfrecord. Protobuf stands for TensorFlow."""
    tar = folder / "00000.tar"
    samples = wds.WebDataset(str(tar), shardshuffle=False)
    records = [{"key": one["__key__"].encode(), **{k: one[k] for k in ("jpg", "txt", "json")}} for one in samples]
    (folder / "00000.tfrecord").write_bytes(b"".join(record(example(each)) for each in records))
    tar.unlink()
    return folder / "00000.tfrecord"


def test_img2datasets_tfrecord_comes_as_its_tars_do(tmp_path: Path) -> None:
    downloaded(tmp_path / "x", "webdataset")
    before, _ = read(tmp_path / "x")
    file = as_tfrecord(tmp_path / "x")
    rows, bad = read(tmp_path / "x")
    assert bad == []
    assert [row.extra for row in rows] == [row.extra for row in before]
    stored = [row for row in rows if earlier.REASON not in row.extra]
    assert {row.url.split("/")[0] for row in stored} == {"s:00000.tfrecord"}
    assert sorted(bodies(tmp_path / "x", stored)) == sorted([ALL[0], ALL[2]])
    file.write_bytes(file.read_bytes()[:-9])
    assert sum(isinstance(body, bytes) for body in bodies(tmp_path / "x", stored)) == 1  # the one that is whole


def test_a_shard_that_img2dataset_did_not_finish_is_named(tmp_path: Path) -> None:
    downloaded(tmp_path / "x", "webdataset")
    write_tar(tmp_path / "x/00001.tar", [("000010000.jpg", ALL[0])])
    rows, bad = read(tmp_path / "x")
    assert len(rows) == len(FATES)
    assert [one.said.partition(":")[0] for one in bad] == ["shard 00001 has no 00001_stats.json"]


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        ("failed_to_download", "HTTP Error 410: Gone", "not-found"),
        ("failed_to_download", "HTTP Error 403: Forbidden", "http-4xx"),
        ("failed_to_download", "HTTP Error 429: Too Many Requests", "rate-limited"),
        ("failed_to_download", "HTTP Error 503: Service Unavailable", "http-5xx"),
        ("failed_to_download", "<urlopen error timed out>", "timeout"),
        ("failed_to_download", "The read operation timed out", "timeout"),
        ("failed_to_download", "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed>", "tls"),
        ("failed_to_download", "<urlopen error [Errno 111] Connection refused>", "connect"),
        ("failed_to_download", "Remote end closed connection without response", "connect"),
        ("failed_to_download", "Use of image disallowed by X-Robots-Tag directive", "opt-out"),
        ("failed_to_download", "hash mismatch", "checksum"),
        ("failed_to_resize", "Image decoding error", "damaged-image"),
        ("failed_to_resize", "image too small", "image-size"),
        ("failed_to_resize", "OpenCV: something else", "damaged-image"),
        ("failed_to_download", "what nobody knows", "stage-error"),
    ],
)
def test_its_words_have_reasons_of_ours(status: str, message: str, reason: str) -> None:
    assert reason_of(status, message) == reason
    assert reason in REASONS
