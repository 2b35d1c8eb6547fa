"""`pairloom negatives`: files in, one row a caption out, without torch. Bad files are named."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from schemas.score import SCORE
from schemas.tags import TAGS
from stages.negatives import Beside, Config, mine
from stages.negatives.audit import audit
from stages.negatives.standalone import Mined
from tests.building import write_table

TEXTS = ["red dog runs fast", 'red "cat", slow', "red bus\nhere", "ein roter Hund", "ein roter Bus"]
IMAGES = ["b", "a", "007", "b", "x"]
LANGS = ["en", "en", "en", "de", "de"]


def written(folder: Path, kind: str) -> Path:
    file = folder / f"captions.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"image_id": IMAGES, "caption": TEXTS, "lang": LANGS, "more": IMAGES}), file)
    elif kind == "jsonl":
        records = [{"image_id": i, "caption": t, "lang": lang} for i, t, lang in zip(IMAGES, TEXTS, LANGS, strict=True)]
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        comma = "\t" if kind == "tsv" else ","
        quoted = ['"' + text.replace('"', '""') + '"' for text in TEXTS]
        rows = [comma.join(row) for row in zip(IMAGES, quoted, LANGS, strict=True)]
        file.write_text("\n".join([comma.join(["image_id", "caption", "lang"]), *rows]) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_what_mine_gives(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    line = ["negatives", str(written(tmp_path, kind)), "--out", str(out), "--top-k", "2", "--ceiling", "0.9", "--json"]
    assert main(line) == 0
    wanted = mine(TEXTS, IMAGES, LANGS, Config(top_k=2, ceiling=0.9))
    assert pq.read_table(out).to_pylist() == wanted.to_pylist()
    facts = json.loads(capsys.readouterr().out)
    assert facts["captions"] == 5
    assert facts["negatives"] == sum(map(len, wanted["negatives"].to_pylist()))
    assert facts["short"] == sum(short > 0 for short in wanted["short"].to_pylist())
    assert json.loads((out / "_summary.json").read_text(encoding="utf-8")) == facts


def test_packed_lists_folders_and_paths_of_fsspec_give_the_same_negatives(tmp_path: Path) -> None:
    plain, system = written(tmp_path, "jsonl").read_bytes(), fsspec.filesystem("memory")
    system.pipe("/mined/captions.jsonl.zst", pa.compress(plain, "zstd", asbytes=True))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "captions.csv.gz").write_bytes(gzip.compress(written(tmp_path, "csv").read_bytes()))
    wanted = mine(TEXTS, IMAGES, LANGS, Config(top_k=2)).to_pylist()
    try:
        for number, name in enumerate(
            ["memory://mined/captions.jsonl.zst", "memory://mined", str(tmp_path / "folder")]
        ):
            out = tmp_path / str(number)
            assert main(["negatives", name, "--out", str(out), "--top-k", "2"]) == 0
            assert pq.read_table(out).to_pylist() == wanted
    finally:
        system.rm("/mined", recursive=True)


def test_a_line_of_a_txt_file_is_a_caption_of_an_image_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_bytes(b"red dog\r\nred cat, big\n\nred dog\n")
    assert (
        main(["negatives", str(tmp_path / "c.txt"), "--out", str(tmp_path / "out"), "--ceiling", "1", "--no-distinct"])
        == 0
    )
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["image_id"] for row in rows] == ["1", "2", "3", "4"]
    assert [[one["image_id"] for one in row["negatives"]] for row in rows] == [["2"], ["1", "4"], [], ["2"]]
    assert rows[1]["negatives"][0]["text"] == "red dog"


def test_whole_numbers_stay_whole_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [10, 9], "text": ["red dog", "red cat"]}), tmp_path / "c.parquet")
    names = ["--image-column", "id", "--caption-column", "text"]
    assert main(["negatives", str(tmp_path / "c.parquet"), "--out", str(tmp_path / "out"), *names]) == 0
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [(row["image_id"], row["negatives"][0]["image_id"]) for row in rows] == [(10, 9), (9, 10)]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.csv", b"id,caption\na,b\n", "there is no column 'image_id'"),
        ("c.csv", b"image_id,caption\na,b,c\n", "it has 3 fields, the header 2"),
        ("c.jsonl", b'{"image_id": "a"}\n', "there is no column|caption is missing"),
        ("c.jsonl", b"{", "cannot be read as json"),
        ("c.txt", b"good\n\xff\n", "not UTF-8"),
        ("c.doc", b"", "not a format of lists"),
        ("c.parquet", b"nothing", "cannot be read as parquet"),
    ],
)
def test_a_bad_file_is_named(
    name: str, content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["negatives", str(tmp_path / name), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert any(word in said for word in words.split("|"))
    assert name in said


def test_a_full_folder_is_not_replaced_unasked(tmp_path: Path) -> None:
    line: list[Any] = ["negatives", str(written(tmp_path, "csv")), "--out", str(tmp_path / "out")]
    assert main(line) == 0
    assert main(line) == 1
    assert main([*line, "--redo", "--top-k", "1"]) == 0
    assert max(len(row) for row in pq.read_table(tmp_path / "out")["negatives"].to_pylist()) == 1


def many(folder: Path) -> Path:
    """More captions than one slice of four takes."""
    file = folder / "many.csv"
    lines = [f"image{row},a red {'dog' if row % 2 else 'cat'} number {row % 7}" for row in range(18)]
    file.write_text("\n".join(["image_id,caption", *lines]) + "\n", encoding="utf-8")
    return file


@pytest.mark.crash
def test_a_killed_run_goes_on_with_the_slices_that_are_missing(tmp_path: Path) -> None:
    slow = f"""
import os, sys
from stages.negatives import standalone
standalone.cuts.__defaults__ = (4,)
if sys.argv[1] == "die":
    mine = standalone.Mined.slice
    standalone.Mined.slice = lambda self, rows, threads: mine(self, rows, threads) if rows.start < 8 else os._exit(9)
from pipeline.cli import main
sys.exit(main(["negatives", {str(many(tmp_path))!r}, "--out", sys.argv[2], "--top-k", "3"]))
"""

    def run(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-c", slow, *arguments], check=False).returncode

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run("live", str(whole)) == 0
    assert run("die", str(killed)) == 9
    first = {file.name: file.stat().st_mtime_ns for file in killed.glob("*.parquet")}
    assert sorted(first) == ["00000.parquet", "00001.parquet"]
    assert not (killed / "_summary.json").exists()
    assert main(["negatives", str(many(tmp_path)), "--out", str(killed), "--top-k", "4"]) == 1  # other settings
    assert run("live", str(killed)) == 0
    assert {name: (killed / name).stat().st_mtime_ns for name in first} == first
    for file in whole.glob("*.parquet"):
        assert (killed / file.name).read_bytes() == file.read_bytes()
    told = [json.loads((folder / "_summary.json").read_text(encoding="utf-8")) for folder in (whole, killed)]
    for facts in told:
        del facts["out"], facts["seconds"]
    assert told[0] == told[1]
    assert sorted(file.name for file in killed.iterdir()) == sorted(file.name for file in whole.iterdir())


def test_neither_torch_nor_dvc_is_needed(tmp_path: Path) -> None:
    refused = ("torch", "torchvision", "dvc", "PIL", "detectron2", "img2dataset", "transformers", "cv2")
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {refused}:
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
from pipeline.cli import main
sys.exit(main(["negatives", {str(written(tmp_path, "csv"))!r}, "--out", {str(tmp_path / "out")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "_summary.json").exists()


@pytest.mark.parametrize(
    "rule",
    [
        (),
        ("--against", "caption", "--no-distinct"),
        ("--veto", "captions"),
        ("--scorer", "bm25"),
        ("--ngrams", "1", "2", "--min-df", "2"),
        ("--max-lists", "9"),
    ],
)
def test_an_audit_agrees_until_a_list_is_changed(rule: tuple[str, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    texts = [" ".join(f"word{word}" for word in rng.zipf(1.6, 5) % 30) for _ in range(150)]
    rows = [{"image_id": f"{row // 3:03d}", "caption": text} for row, text in enumerate(texts)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = ["negatives", str(tmp_path / "c.jsonl"), "--out", str(tmp_path / "out"), "--audit", "60", *rule]
    assert main(command) == 0
    ids = pa.array([row["image_id"] for row in rows])
    captions = Mined.of_columns(ids, pa.array(texts), pa.nulls(150, pa.string()), Config()).captions
    lists = mine(texts, [row["image_id"] for row in rows])["negatives"].to_pylist()
    assert audit(captions, Config(), range(150), lists) == []
    lists[7][0]["similarity"] += 0.01
    lists[8].pop()
    lists[9][0], lists[9][-1] = lists[9][-1], lists[9][0]
    assert [one.caption_index for one in audit(captions, Config(), range(150), lists)] == [1, 2, 0]


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def of_tables(folder: Path, rng: np.random.Generator) -> tuple[Path, list[str], list[str], Beside]:
    """A list of 60 images with three captions each, whose tables tags and score lie in the folder."""
    texts = [" ".join(f"word{word}" for word in rng.zipf(1.6, 5) % 30) for _ in range(180)]
    images = [id_of(row // 3).hex() for row in range(180)]
    rows = [{"image_id": image, "caption": text} for image, text in zip(images, texts, strict=True)]
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tags = [sorted({f"word{word} word{word + 1}" for word in rng.integers(0, 30, 4).tolist()}) for _ in range(60)]
    known: dict[str, Any] = {"region": 0, "class_id": 0, "score": 0.5, "start": 0}
    counted = [[{**known, "text": text, "count": 2} for text in own] for own in tags]
    ids = [id_of(number) for number in range(60)]
    write_table(folder / "tags", TAGS, {"00000": TAGS.table(image_id=ids, tags=counted)})
    vectors, pictures = (rng.normal(size=(count, 6)).astype(np.float16) for count in (180, 60))
    vectors = vectors[[texts.index(text) for text in texts]]  # equal texts have one vector
    score = SCORE.table(
        metadata={"score_model": "m", "score_checkpoint": "c", "score_precision": "float32", "score_width": "6"},
        image_id=ids, num_texts=[3] * 60, texts=[texts[start : start + 3] for start in range(0, 180, 3)],
        similarity=[[0.1] * 3] * 60, heads=[[]] * 60, image_embedding=list(pictures),
        text_embedding=[vectors[start : start + 3] for start in range(0, 180, 3)],
    )  # fmt: skip
    write_table(folder / "score", SCORE, {"00000": score})
    told = {image.hex(): [text for text in own for _ in range(2)] for image, own in zip(ids, tags, strict=True)}
    return (
        folder / "c.jsonl",
        texts,
        images,
        Beside(told, vectors, dict(zip((i.hex() for i in ids), pictures, strict=True))),
    )


@pytest.mark.parametrize(
    "rule",
    [
        {"veto": "tags"},
        {"veto": "tags", "max_lists": 9},
        {"veto": "score", "veto_similarity": 0.2},
        {"veto": ("tags", "score"), "veto_similarity": 0.2},
        {"scorer": "embedding", "ceiling": 0.9},
        {"scorer": "embedding", "ceiling": 0.9, "veto": "score", "veto_similarity": 0.2, "max_lists": 20},
        {"scorer": "embedding", "ceiling": 0.9, "veto": "tags"},
    ],
)
def test_tables_beside_a_list_are_read_mined_with_and_audited(rule: dict[str, Any], tmp_path: Path) -> None:
    file, texts, images, beside = of_tables(tmp_path, np.random.default_rng(2))
    tables = ["--tags", str(tmp_path / "tags"), "--score", str(tmp_path / "score")]
    spelt = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in rule.items()}
    given = [word for name, value in spelt.items() for word in (f"--{name.replace('_', '-')}", value)]
    out = tmp_path / "out"
    command = ["negatives", str(file), "--out", str(out), "--top-k", "8", "--audit", "90", *tables, *given]
    assert main(command) == 0
    config = Config(top_k=8, **rule)
    wanted = mine(texts, images, config=config, beside=beside)
    assert pq.read_table(out)["negatives"].to_pylist() == wanted["negatives"].to_pylist()
    plain = mine(texts, images, config=Config(top_k=8, scorer=config.scorer, ceiling=config.ceiling), beside=beside)
    if len(rule) > 2 or "veto" in rule:
        assert wanted["negatives"].to_pylist() != plain["negatives"].to_pylist()  # the rule changes something
    captions = Mined.of_columns(pa.array(images), pa.array(texts), pa.nulls(180, pa.string()), config, beside).captions
    changed = plain["negatives"].to_pylist()
    told = {(one.image_id, one.caption_index) for one in audit(captions, config, range(180), changed, beside)}
    for row, (one, other) in enumerate(zip(changed, wanted["negatives"].to_pylist(), strict=True)):
        named = (images[row], row % 3) in told
        if [each["similarity"] for each in one] != [each["similarity"] for each in other]:
            assert named
        assert not (named and one == other)  # with equal similarities another caption may do as well


def test_tables_of_other_images_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_tables(tmp_path, np.random.default_rng(2))
    for option, veto in (("tags", "tags"), ("score", "score")):
        line = ["negatives", str(written(tmp_path, "csv")), "--out", str(tmp_path / "out"), "--veto", veto]
        assert main([*line, "--veto-similarity", "0.2", f"--{option}", str(tmp_path / option)]) == 1
        assert "no image of the list, such as '007'" in capsys.readouterr().err
        assert main([*line, "--veto-similarity", "0.2", "--redo"]) == 1
        assert "these captions come without" in capsys.readouterr().err
