"""What the pages say, without a browser: selections by brute force, the guard, wrong addresses, exports."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from inspection.browse import data as opening
from inspection.browse.data import Data, batches
from inspection.browse.finding import find, names_a_row
from inspection.browse.scan import Scan
from inspection.browse.selection import Selection, refuse_statement
from inspection.browse.server import application
from inspection.find import NAMING, find_row
from inspection.signs import same_but_numbers
from pairloom.errors import InputError
from pairloom.store.folder import open_folder
from pipeline.cli import main
from pipeline.curating import CurateStage
from tests.inspection.browse.site import make_site
from tests.inspection.synthetic import CLASSES, FLOW

TOKEN = "t0ken"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site") / "data")


@pytest.fixture(scope="module")
def data(root: Path) -> Data:
    return opening.open_data(root, FLOW, opening.connect([root]))


@pytest.fixture(scope="module")
def client(root: Path) -> TestClient:
    return TestClient(application([root], FLOW, CurateStage(), TOKEN), base_url="http://127.0.0.1:1")


def rows_of(root: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """(shard, row) of the pictures -> the row, with its regions and tags, joined in Python."""
    found = {}
    by_id: dict[bytes, dict[str, Any]] = {}
    for table in ("regions", "tags"):
        for _, part in open_folder(root / table).tables():
            for row in part.to_pylist():
                by_id.setdefault(row["image_id"], {}).update(row)
    for name, part in open_folder(root / "curate").tables():
        for number, row in enumerate(part.drop_columns(["image"]).to_pylist()):
            found[name, number] = by_id.get(row["image_id"], {}) | row
    return found


def regions_in(row: dict[str, Any]) -> list[tuple[str, float]]:
    ids = np.frombuffer(row.get("class_ids") or b"", "<u2").tolist()
    scores = np.frombuffer(row.get("class_scores") or b"", "<f4").tolist()
    return [(CLASSES[i], score) for i, score in zip(ids, scores, strict=True)]


def has(caption: dict[str, Any], *words: str) -> bool:
    return all(word in caption["text"].lower() for word in words)


def surest(row: dict[str, Any], wanted: str) -> float:
    return max((score for name, score in regions_in(row) if name == wanted), default=-1.0)


SELECTIONS: list[tuple[dict[str, str], Any]] = [
    ({"words": "PICTURE 3"}, lambda row: any(has(c, "picture", "3") for c in row["captions"])),
    ({"lang": "zh"}, lambda row: any(c["lang"] == "zh" for c in row["captions"])),
    ({"cls": "cat"}, lambda row: any(name == "cat" for name, _ in regions_in(row))),
    ({"cls": "cat", "at_least": "4"}, lambda row: sum(name == "cat" for name, _ in regions_in(row)) >= 4),
    ({"cls": "blue square", "score": "0.7"}, lambda row: surest(row, "blue square") >= np.float32(0.7)),
    ({"cls": "cup", "score": "0.75"}, lambda row: surest(row, "cup") >= 0.75),
    ({"score": "0.95"}, lambda row: any(score >= 0.95 for _, score in regions_in(row))),
    ({"tag": "red square"}, lambda row: any(tag["text"] == "red square" for tag in row.get("tags") or [])),
    ({"min_regions": "3", "max_regions": "6"}, lambda row: 3 <= len(regions_in(row)) <= 6),
    ({"min_side": "121"}, lambda row: min(row["width"], row["height"]) >= 121),
    ({"source": "scenes", "where": "width = 160 -- a comment"}, lambda row: row["source"] == "scenes"),
    ({"where": "len(captions) > 4"}, lambda row: len(row["captions"]) > 4),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "keeps"), SELECTIONS, ids=[str(fields) for fields, _ in SELECTIONS])
def test_a_selection_by_brute_force(data: Data, root: Path, fields: dict[str, str], keeps: Any) -> None:
    table, selection = data.table("curate"), Selection.read(fields)
    names = data.vocabulary(table.every_column["class_ids"])
    scan = Scan(data, table, selection.condition(table.every_column, names), "")
    places = scan.places(0, 1000, 60)
    scan.wait(60)
    assert scan.error is None
    assert places == [place for place, row in rows_of(root).items() if keeps(row)]
    assert scan.count == len(places)


@pytest.mark.parametrize("order", ["regions", "captions", "large", "small"])
def test_an_order_by_brute_force(data: Data, root: Path, order: str) -> None:
    values: dict[str, Callable[[dict[str, Any]], int]] = {
        "regions": lambda row: len(regions_in(row)),
        "captions": lambda row: len(row["captions"]),
        "large": lambda row: row["width"] * row["height"],
        "small": lambda row: -row["width"] * row["height"],
    }
    scan = Scan(data, data.table("curate"), "", Selection(order=order).ordering({}))
    found = scan.places(0, 1000, 60)
    known = rows_of(root)
    got = [values[order](known[place]) for place in found]
    assert got == sorted(got, reverse=True)
    assert sorted(found) == sorted(known)


@pytest.mark.parametrize(
    "condition", ["1); COPY (SELECT 1) TO 'x.csv'; SELECT (1", "width >", "1; DROP TABLE x", "width > 3)"]
)
def test_only_a_condition_is_taken(condition: str) -> None:
    with pytest.raises(InputError):
        refuse_statement(condition)


def test_a_condition_reads_no_other_file(data: Data, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    reading = f"(SELECT count(*) FROM read_text('{tmp_path}/secret.txt')) = 1"
    scan = Scan(data, data.table("curate"), f"({reading})", "")
    scan.wait(60)
    assert "Permission" in str(scan.error)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cls": "unicorn"}, "no 'unicorn' among the 6 classes"),
        ({"min_side": "tall"}, "'tall' is no number"),
        ({"order": "class"}, "no class to order by"),
        ({"order": "x"}, "there is no order 'x'"),
    ],
)
def test_a_form_that_makes_no_sense_is_said(data: Data, fields: dict[str, str], said: str) -> None:
    table, selection = data.table("curate"), Selection.read(fields)
    names = data.vocabulary(table.every_column["class_ids"])
    with pytest.raises(InputError, match=re.escape(said)):
        selection.condition(table.every_column, names), selection.ordering(names)


def test_the_table_of_urls_has_no_regions_to_ask_for(data: Data) -> None:
    with pytest.raises(InputError, match="these tables have no"):
        Selection(min_regions="3").condition(data.table("urls").every_column, {})


def test_only_the_token_and_this_machines_name_open_a_page(client: TestClient) -> None:
    assert client.get(f"/{TOKEN}/").status_code == 200
    assert client.get("/").status_code == 404
    assert client.get("/wrong/").status_code == 404
    assert client.get(f"/{TOKEN}/", headers={"host": "evil.example:1"}).status_code == 403
    assert client.post(f"/{TOKEN}/").status_code == 403
    headers = client.get(f"/{TOKEN}/pictures").headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "pictures?t=nothing", "pictures?page=-1", "pictures?d=7", "row?shard=00000&row=999", "row?shard=..%2F..&row=0",
        "image?t=curate&shard=%2Fetc%2Fpasswd&row=0", "image?t=tags&shard=00000&row=0", "picture?id=zz",
        "left?t=curate&shard=x", "rules?a=nothing", "find?q=http%3A%2F%2Fnowhere.invalid%2F", "pictures?where=nope",
    ],
)  # fmt: skip
def test_an_address_that_makes_no_sense_is_an_error_with_a_cure(client: TestClient, path: str) -> None:
    answer = client.get(f"/{TOKEN}/{path}")
    assert answer.status_code == 400
    assert "<dt>fix</dt>" in answer.text


def test_an_image_id_finds_its_row_whole_or_in_part(client: TestClient, root: Path) -> None:
    image_id = open_folder(root / "curate").read("00001", ["image_id"])["image_id"][2].as_py().hex()
    for text in (image_id, image_id[:8]):
        answer = client.get(f"/{TOKEN}/find", params={"q": text})
        assert str(answer.url).endswith("row?d=0&t=curate&shard=00001&row=2")
        assert image_id in answer.text


def test_finding_is_what_brute_force_finds(data: Data, root: Path) -> None:
    """Every id, each of its beginnings, every url and every key, against the rule of `pairloom preview`."""
    wanted = {"00001:3", "train-00000:2", "00000:999", "0000", "http://nowhere.invalid/", "pictures/1.jpg"}
    for folder in data.found.folders():
        for _, table in folder.tables([name for name in NAMING if name in data.columns_of(folder)]):
            for value in (value for column in table for value in column.to_pylist()):
                text = value.hex() if isinstance(value, bytes) else value
                wanted |= {text, text[:4], text[:9]}
    for text in sorted(wanted):
        try:
            place = find_row(data.found, text)
            expected = (place.folder.path.name, place.name, place.row, place.folder.table == "quarantine")
        except InputError as error:
            expected = None
            if "rows begin with" in str(error):
                with pytest.raises(InputError, match="begin with"):
                    find(data, text)
                continue
        found = find(data, text)
        assert (found and (found.stage, found.shard, found.row, found.left_out)) == expected, text


@pytest.mark.parametrize(
    ("text", "is_name"),
    [("cat", False), ("two cats", False), ("face", True), ("00000:3", True), ("http://a.b/c d", False), ("a/b", True)],
)
def test_a_word_is_looked_for_in_captions_at_once(client: TestClient, text: str, is_name: bool) -> None:
    assert names_a_row(text) is is_name
    if not is_name:
        answer = client.get(f"/{TOKEN}/find", params={"q": text}, follow_redirects=False)
        assert answer.headers["location"] == "pictures?" + urlencode({"d": 0, "words": text})


def test_a_row_has_its_way_through_every_stage(client: TestClient, root: Path) -> None:
    answer = client.get(f"/{TOKEN}/row?t=curate&shard=00000&row=4")  # of which no region was found
    way = re.findall(r"<b>(\w+)</b> <span class=\"state\">([\w ]+)</span>", answer.text)
    kept = dict.fromkeys(("urls", "download", "score", "curate", "negatives", "patches", "qa", "similar"), "kept")
    after = dict.fromkeys(("tags", "neighbours", "shards"), "not reached")
    assert dict(way) == kept | {"regions": "left out"} | after
    assert "nothing above 0.2" in answer.text


def test_exports_hold_the_selection(client: TestClient, root: Path, tmp_path: Path) -> None:
    asked = {"t": "curate", "words": "picture 3"}
    wanted = [row for row in rows_of(root).values() if any(has(c, "picture", "3") for c in row["captions"])]
    listed = client.get(f"/{TOKEN}/export", params=asked).text.splitlines()
    assert listed == ["image_id\turl", *(f"{row['image_id'].hex()}\t{row['url']}" for row in wanted)]
    table = pq.read_table(io.BytesIO(client.get(f"/{TOKEN}/export", params=asked | {"as": "exclude"}).content))
    assert table["image_id"].to_pylist() == [row["image_id"] for row in wanted]
    from stages.curate import exclude
    from stages.curate.config import Config

    pq.write_table(table, tmp_path / "exclude.parquet")
    assert exclude.read(Config(exclude=(str(tmp_path / "exclude.parquet"),))).ids == {row["image_id"] for row in wanted}


def test_the_command_of_an_export_filters_the_shards(client: TestClient, root: Path, tmp_path: Path) -> None:
    import shlex

    asked = {"t": "curate", "cls": "cat", "score": "0.6", "words": "picture", "as": "command"}
    words = shlex.split(client.get(f"/{TOKEN}/export", params=asked).text)
    assert words[:3] == ["pairloom", "shards", "filter"]
    table = open_folder(root / "shards")
    from pairloom.store.writing import write_index

    for entry in table.shards:
        write_index(table.path, entry.name, entry.sha256, compared=True)
    words[words.index("filtered")] = str(tmp_path / "filtered")
    assert main(words[1:]) == 0
    kept = [row for _, part in open_folder(tmp_path / "filtered").tables() for row in part.to_pylist()]
    every = [row for _, part in table.tables() for row in part.to_pylist()]
    wanted = [row for row in every if any(n == "cat" and s >= 0.6 for n, s in regions_in(row))
              and any("picture" in c["text"] for c in row["captions"])]  # fmt: skip
    assert sorted(row["image_id"] for row in kept) == sorted(row["image_id"] for row in wanted)


def test_shards_come_in_growing_batches(data: Data) -> None:
    folder = data.found.tables["curate"]
    assert list(batches(folder, 1, 1)) == [["00000"], ["00001"]]
    assert list(batches(folder, 1000)) == [["00000", "00001"]]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Two cats, 3 dogs", "two cats, 14 dogs", True),
        ("a cat", "a dog", False),
        ("number 5", "number", False),
        ("", "", True),
    ],
)
def test_the_same_words_but_for_numbers(one: str, other: str, same: bool) -> None:
    assert same_but_numbers(one, other) is same


def test_settings_of_another_version_are_named_and_the_profiles_stay(client: TestClient) -> None:
    """The made-up dataset was curated with `ceiling`, which is no setting of curate."""
    answer = client.get(f"/{TOKEN}/rules")
    assert answer.status_code == 200
    assert "not among the rules" in answer.text
    assert "ceiling" in answer.text
    assert "as this dataset was made" not in answer.text
    assert "<option>coyo</option>" in answer.text


def test_a_port_that_is_taken_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["browse", str(root), "--port", str(taken.getsockname()[1])]) == 1
    assert "name another with --port" in capsys.readouterr().err


def test_duckdb_knows_the_statements(data: Data) -> None:
    """The guard goes by the kind of statement, whose names a new DuckDB may change."""
    refuse_statement("width > 3 AND len([c for c in captions if c.lang = 'en']) > 0")
    assert {one.type.name for one in duckdb.extract_statements("SELECT 1; COPY (SELECT 1) TO 'x'")} == {
        "SELECT",
        "COPY",
    }
