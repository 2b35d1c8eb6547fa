"""The report holds what the tables hold, needs nothing else, stays small, and is the same for the same data."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from inspection.report import write_report
from inspection.report.gallery import PICTURES
from pairloom.errors import InputError, StoreError
from pairloom.store.folder import JOURNAL, MANIFEST
from tests.inspection.synthetic import FLOW, edit, rewrite

VOID = {"meta", "input", "img", "br", "link", "hr"}


class Nesting(HTMLParser):
    """Raises where a tag is closed that is not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def write(data: Path, out: Path) -> str:
    write_report(data, out, FLOW)
    return out.read_text(encoding="utf-8")


def test_the_page_holds_counts_reasons_pictures_and_settings(good: Path, tmp_path: Path) -> None:
    summary = write_report(good, tmp_path / "report.html", FLOW)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert summary["rows"] == {
        "sample": 22, "download": 20, "curate": 18, "regions": 17, "tags": 17, "negatives": 18, "shards": 17,
        "patches": 18, "qa": 18, "similar": 18, "neighbours": 17, "score": 20,
    }  # fmt: skip
    assert (summary["images"], summary["captions"], summary["regions"], summary["left_out"]) == (17, 72, 34, 5)
    assert summary["quarantined"] == 8  # three of them two captions and a question of images that stay
    assert summary["captions_lost"] == 1
    assert '<b class="lost">1</b><span>captions lost with duplicates</span>' in page
    assert summary["negatives"] == 18 * 4 * 2
    assert summary["pictures"] == page.count("data:image/jpeg;base64,") == 18
    assert summary["page_bytes"] == len(page.encode())
    for text in ("no-regions", "status 404; 2 attempts", "das Bild mit der Nummer 7", "top_k", "0.400"):
        assert text in page
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []


def test_the_page_asks_for_nothing_from_elsewhere(good: Path, tmp_path: Path) -> None:
    page = write(good, tmp_path / "report.html")
    for address in re.findall(r'(?:src|href|action|data|url)\s*[=(]\s*["\']?([^"\'>\s)]+)', page):
        assert address.startswith(("data:image/jpeg;base64,", "#"))
    assert "@import" not in page


def test_the_same_data_give_the_same_bytes_wherever_they_lie(good: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(good, tmp_path / "elsewhere")
    assert write(good, tmp_path / "a.html") == write(Path(moved), tmp_path / "b.html")


def test_text_of_the_web_is_shown_and_not_run(data: Path, tmp_path: Path) -> None:
    evil = '</p><script>alert(1)</script><img src=x onerror="alert(2)">'
    rewrite(
        data / "curate",
        "00000",
        edit("captions", 0, lambda captions: [caption | {"text": evil} for caption in captions]),
    )
    rewrite(data / "curate", "00000", edit("source", 0, lambda _: evil))
    rewrite(data / "quarantine" / "download", "00000", edit("detail", 0, lambda _: evil))
    page = write(data, tmp_path / "report.html")
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_large_table_makes_no_large_page(good: Path, data: Path, tmp_path: Path) -> None:
    many = 40

    def repeat(table: pa.Table) -> pa.Table:
        return pa.concat_tables([table] * many)

    before = len(write(good, tmp_path / "small.html"))
    for stage in ("curate", "regions", "tags", "negatives"):
        for name in ("00000", "00001"):
            rewrite(data / stage, name, repeat)
    for name in ("00000", "00001"):
        rewrite(data / "quarantine" / "curate", name, repeat)
    summary = write_report(data, tmp_path / "large.html", FLOW)
    assert summary["captions"] == 72 * many
    assert summary["pictures"] <= PICTURES
    assert summary["page_bytes"] < 1.2 * before


@pytest.mark.parametrize(
    "stages",
    [("urls",), ("urls", "download"), ("curate",), ("curate", "negatives"), ("shards",), ("curate", "regions")],
)
def test_a_part_of_the_tables_makes_a_page_too(good: Path, tmp_path: Path, stages: tuple[str, ...]) -> None:
    for stage in stages:
        shutil.copytree(good / stage, tmp_path / "data" / stage)
    summary = write_report(tmp_path / "data", tmp_path / "report.html", FLOW)
    assert list(summary["rows"]) == ["sample" if stage == "urls" else stage for stage in stages]
    assert (summary["pictures"] > 0) == (stages[-1] != "urls")


def test_an_interrupted_table_is_marked(data: Path, tmp_path: Path) -> None:
    manifest = json.loads((data / "tags" / MANIFEST).read_text())
    shards = manifest.pop("shards")
    (data / "tags" / JOURNAL).write_text(json.dumps(manifest) + "\n" + json.dumps(shards[0]) + "\n")
    assert "interrupted" in write(data, tmp_path / "report.html")


def test_no_table_or_a_damaged_one_is_an_error(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no table here"):
        write_report(tmp_path / "nothing", tmp_path / "report.html", FLOW)
    (data / "tags" / "00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="damaged"):
        write_report(data, tmp_path / "report.html", FLOW)


RETRIEVAL = {
    **{f"r_at_{cut}": 0.25 + cut / 100 for cut in (1, 5, 10)},
    **{f"chance_r_at_{cut}": cut / 100 for cut in (1, 5, 10)},
    "median_rank": 3.0,
    "chance_mean_rank": 12.5,
}


def test_recipes_are_shown_with_curves_and_figures(good: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "plots").mkdir()
    objectives = {"mlm": {"held_out_loss": 2.125, "untrained_loss": 6.5, "score": 0.5, "chance": None}}
    metrics = {"steps": 20, "objectives": objectives, "retrieval": {"text_to_image": RETRIEVAL, "images": 20}}
    (tmp_path / "metrics" / "train-uniter.json").write_text(json.dumps(metrics))
    (tmp_path / "metrics" / "train-clip.json").write_text("{}")
    (tmp_path / "plots" / "train-uniter.csv").write_text("step,loss,mlm\n0,7,6\n10,4,\n20,nan,2\n")
    summary = write_report(good, tmp_path / "report.html", FLOW, tmp_path / "metrics", tmp_path / "plots")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert summary["recipes"] == ["clip", "uniter"]
    for text in ("2.125", "26%", "35%", "Lines over step: loss, mlm", "text to image"):
        assert text in page
    (tmp_path / "metrics" / "train-clip.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        write_report(good, tmp_path / "report.html", FLOW, tmp_path / "metrics", tmp_path / "plots")
