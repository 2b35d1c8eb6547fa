"""docs/reference/detector-catalogue.md is what the detectors' files say today."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pipeline.detectors_page import PAGE, detectors_markdown
from stages.regions import catalogue

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def cells(heading: str) -> dict[str, list[str]]:
    """First cell of each row below the heading -> the others."""
    text = TEXT.partition(f"\n{heading}\n")[2]
    rows = [line for line in text[text.index("| ") :].partition("\n\n")[0].splitlines() if "|---" not in line]
    split = [[cell.strip(" `") for cell in re.split(r"(?<!\\)\|", row[1:-1])] for row in rows]
    return {row[0]: row[1:] for row in split}


def test_the_committed_page_is_up_to_date() -> None:
    assert detectors_markdown() == TEXT, f"run `python -m pipeline.pages` and commit {PAGE}"


def test_every_detector_has_a_row_and_every_published_file_one() -> None:
    assert {*catalogue.names()} < {*cells("## All of them")}
    assert cells("## All of them")["vinvl-x152c4"][1] == "1594, 524"
    for name in catalogue.names():
        for file in yaml.safe_load(catalogue.file(name).read_text(encoding="utf-8")).get("published", ()):
            assert f"| `{file['file']}` | `{name}` |" in TEXT


def test_settings_stand_beside_each_other_as_the_published_code_has_them() -> None:
    differing, shared = cells("Where the detectors differ:"), cells("What all of them share:")
    published = differing["setting"]
    sides = dict(zip(published, differing["input.short_side"], strict=True))
    # caffe's yml, transformers' and vqa-maskrcnn-benchmark's config, VinVL's yaml
    assert sides["butd-r101"] == sides["vinvl-x152c4"] == "600"
    assert sides["butd-r101-hf"] == sides["vmb-x152"] == "800"
    assert dict(zip(published, differing["attributes.count"], strict=True))["vmb-x101"] == "–"
    assert shared["proposals.nms.iou"][0] == "0.7"
    assert differing.keys() & shared.keys() == {"setting"}
