"""The report's hosts, duplicates, doubtful negatives and second dataset: by brute force, and by a stage's own work."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inspection.dataset import open_dataset
from inspection.report import write_report
from inspection.report.counting import count
from inspection.report.doubts import doubts
from inspection.report.duplicates import duplicates
from inspection.report.hosts import host, hosts
from pairloom.store.folder import open_folder
from pipeline.cli import main
from tests.inspection.synthetic import FLOW, edit, rewrite


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for _, table in open_folder(folder).tables() for row in table.to_pylist()]


def test_every_reason_of_a_host_is_counted(data: Path) -> None:
    far = json.dumps({"url": "http://far.example:8080/x.jpg"})
    rewrite(data / "quarantine" / "curate", "00001", edit("row", 0, lambda _: far))
    found = hosts(open_dataset(data, FLOW))
    wanted: dict[str, Counter[tuple[str, str]]] = {}
    for folder in sorted((data / "quarantine").iterdir()):
        for row in rows(folder) if (folder / "_pairloom").exists() else ():
            named = re.search(r"https?://([^/:?#]+)", json.loads(row["row"]).get("url") or row["key"])
            if named:
                wanted.setdefault(named[1], Counter())[folder.name, row["reason"]] += 1
    assert {one.name: Counter({(s, r): n for s, r, n in one.reasons}) for one in found.most} == wanted
    assert [one.name for one in found.most] == ["sample.invalid", "far.example"]
    assert [one.rows for one in found.most] == [wanted["sample.invalid"].total(), 1]
    assert found.looked == found.rows == sum(len(rows(data / "quarantine" / stage)) for stage in
                                             ("download", "curate", "regions", "qa"))  # fmt: skip


@given(st.from_regex(r"[a-z][a-z0-9-]{0,20}\.(com|org|example)", fullmatch=True), st.integers(1, 65535), st.text())
def test_the_host_of_an_address(name: str, port: int, path: str) -> None:
    assert host(f"https://{name}:{port}/x", "{}") == name
    assert host("0" * 32, json.dumps({"url": f"http://{name.upper()}/?{path}"})) == name
    assert host(path.replace(":", ""), "no JSON") in ("", path.replace(":", "").split("/")[2:3] or "")


@pytest.mark.parametrize("key", ["http://[", "coco:val2017/1.jpg", "file:///a/b.jpg", "", "a" * 32])
def test_what_is_no_address_of_the_web_has_no_host(key: str) -> None:
    assert host(key, "[]") == ""


def again(first: dict[str, Any], table: pa.Table) -> pa.Table:
    """The rows, and after them another once as it is and once in a worse JPEG, with other words and places."""
    sink = io.BytesIO()
    Image.open(io.BytesIO(first["image"])).save(sink, "JPEG", quality=40)
    added = []
    for name, image in (("same", first["image"]), ("near", sink.getvalue())):
        texts = [caption | {"text": f"seen again as {name}"} for caption in first["captions"][:1]]
        added.append(first | {"image": image, "url": f"http://again.example/{name}.jpg", "captions": texts})
    added[1] |= {"sha256": hashlib.sha256(sink.getvalue()).digest()}
    added[1] |= {"image_id": added[1]["sha256"][:16]}
    return pa.concat_tables([table, pa.Table.from_pylist(added, table.schema)])


def test_duplicates_that_curate_left_out_are_beside_what_stayed(good: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for stage in ("urls", "download"):
        shutil.copytree(good / stage, data / stage)
    first = rows(data / "download")[0]
    rewrite(data / "download", "00001", partial(again, first))
    settings = "run: {cluster: inline}\ncurate: {profile: none, unite_duplicates: true, max_distance: 4}\n"
    (tmp_path / "params.yaml").write_text(settings)
    assert main(["stage", "curate", "--data", str(data), "--params", str(tmp_path / "params.yaml"),
                 "--metrics", str(tmp_path / "metrics"), "--quiet"]) == 0  # fmt: skip
    found = {one.reason: one for one in duplicates(open_dataset(data, FLOW))}
    assert set(found) == {"duplicate", "near-duplicate"}
    for reason, name in (("duplicate", "same"), ("near-duplicate", "near")):
        one = found[reason]
        assert one.stayed.image_id == first["image_id"].hex()
        assert one.stayed.url == first["url"]
        assert one.dropped.url == f"http://again.example/{name}.jpg"
        assert one.dropped.captions == [f"seen again as {name}"]
        assert one.stayed.image.startswith("data:image/jpeg;base64,")
        assert one.dropped.image.startswith("data:image/jpeg;base64,")
    assert found["near-duplicate"].dropped.image_id != first["image_id"].hex()
    page = tmp_path / "report.html"
    write_report(data, page, FLOW)
    text = page.read_text(encoding="utf-8")
    assert 'id="duplicates"' in text
    assert text.count("seen again as near") >= 1
    assert "again.example" in text.split('class="hosts"')[1].split("</table>")[0]


def test_doubtful_negatives_are_those_of_brute_force(data: Path) -> None:
    caption = "picture 3 shows a red square"

    def told(lists: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
        first, second = lists[0]
        most = first | {"text": "Picture 14  shows a red square", "similarity": 0.49}
        return [[most, second | {"text": "quite other words"}], *lists[1:]]

    rewrite(data / "negatives", "00000", edit("negatives", 3, told))
    rewrite(data / "tags", "00000", edit("tags", 1, lambda tags: tags[:1]))  # of a picture that is often a negative's
    found = doubts(open_dataset(data, FLOW))
    assert found is not None
    tags = {row["image_id"]: {tag["text"] for tag in row["tags"]} for row in rows(data / "tags")}
    captions = {row["image_id"]: row["captions"] for row in rows(data / "curate")}
    same = every = either = negatives = 0
    for row in rows(data / "negatives"):
        own = tags.get(row["image_id"], set())
        for true, listed in zip(captions[row["image_id"]], row["negatives"], strict=True):
            for negative in listed:
                words = [re.sub(r"\d+", "#", text["text"]).lower().split() for text in (true, negative)]
                alike, shared = words[0] == words[1], bool(own) and own <= tags.get(negative["image_id"], set())
                same, every, either, negatives = same + alike, every + shared, either + (alike or shared), negatives + 1
    assert (found.same_words, found.every_tag, found.either) == (same, every, either)
    assert (found.rows, found.negatives) == (len(captions), negatives)
    assert 0 < same < negatives
    assert 0 < every < negatives
    assert found.examples[0].caption == caption
    assert found.examples[0].similarity == pytest.approx(0.49)


def test_without_negatives_there_are_no_doubts_and_without_tags_that_is_said(good: Path, tmp_path: Path) -> None:
    shutil.copytree(good / "curate", tmp_path / "data" / "curate")
    assert doubts(open_dataset(tmp_path / "data", FLOW)) is None
    shutil.copytree(good / "negatives", tmp_path / "data" / "negatives")
    found = doubts(open_dataset(tmp_path / "data", FLOW))
    assert found is not None
    assert (found.tagged, found.every_tag) == (False, 0)
    write_report(tmp_path / "data", tmp_path / "report.html", FLOW)
    assert "tags cannot be compared" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_second_dataset_stands_beside_the_first(good: Path, data: Path, tmp_path: Path) -> None:
    rewrite(data / "curate", "00000", lambda table: table.slice(1))
    for place, loss in ((tmp_path / "a", 3.5), (data, 2.25)):
        (place / "metrics").mkdir(parents=True)
        (place / "plots").mkdir()
        metrics = {"objectives": {"mlm": {"held_out_loss": loss}}}
        (place / "metrics" / "train-uniter.json").write_text(json.dumps(metrics))
        (place / "plots" / "train-uniter.csv").write_text(f"step,mlm\n10,{loss}\n")
    out = tmp_path / "report.html"
    write_report(good, out, FLOW, tmp_path / "a" / "metrics", tmp_path / "a" / "plots", data, "the other")
    page = out.read_text(encoding="utf-8").split('id="beside"')[1].split("</section>")[0]
    assert re.search(r'>curate</th><td class="n">18</td><td class="n">17</td>', page)
    assert '<td class="n">3.500</td><td class="n">2.250</td>' in page
    assert "uniter, A ends at 3.5; uniter, B ends at 2.25" in page
    assert "the other" in page
    assert "same settings and versions" in page
    sides = [count(open_dataset(place, FLOW)) for place in (good, data)]
    assert [each.characters.total() for each in sides] == [72, 68]


def test_the_command_takes_a_second_dataset_and_says_so_of_none(
    good: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    asked = ["report", "--data", str(good), "--out", str(out), "--metrics", str(tmp_path), "--plots", str(tmp_path)]
    assert main(asked) == 0
    assert 'id="beside"' not in out.read_text(encoding="utf-8")
    assert main([*asked, "--beside", str(data)]) == 0
    assert str(data) in out.read_text(encoding="utf-8")
    assert main([*asked, "--beside", str(tmp_path / "nothing")]) == 1
    assert "no table here" in capsys.readouterr().err
