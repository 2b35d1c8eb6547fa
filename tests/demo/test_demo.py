"""The demo: what is drawn is what demo.yaml promises, with its licences, failures and truth."""

import hashlib
import json
import re
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from demo.draw import Item, draw, load, spread
from demo.scenes import ATTRIBUTES, RELATIONS
from demo.things import CLASSES, THINGS
from pairloom.errors import InputError
from pairloom.extra import as_dict
from schemas.truth import TRUTH
from schemas.urls import URLS
from stages import sample
from stages.sample import Config

DEMO = Path("demo/demo.yaml")
SCENES = yaml.safe_load(DEMO.read_text(encoding="utf-8"))["scenes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sample")


@pytest.fixture(scope="module")
def table(folder: Path) -> pa.Table:
    (part,) = sample.parts(Config(), folder)
    return part.rows


def small(path: Path, **changes: object) -> Path:
    """A demo with few scenes and photographs."""
    raw = yaml.safe_load(DEMO.read_text(encoding="utf-8"))
    raw["scenes"]["count"] = 12
    path.write_text(yaml.safe_dump(raw | changes, allow_unicode=True), encoding="utf-8")
    return path


def of_kind(table: pa.Table, kind: str) -> list[dict[str, object]]:
    return [row for row in table.to_pylist() if as_dict(row["extra"])["kind"] == kind]


def test_the_list_has_the_schema_of_urls_and_no_url_twice(table: pa.Table) -> None:
    URLS.check(table, "the drawn list")
    urls = table["url"].to_pylist()
    assert len(set(urls)) == len(urls)


def test_there_are_enough_photographs_scenes_and_failures(table: pa.Table) -> None:
    assert len(of_kind(table, "photograph")) >= 15
    assert len(of_kind(table, "scene")) >= 200
    assert 6 <= len(of_kind(table, "failure")) <= 12


def test_every_photograph_has_a_licence_and_five_english_captions_of_its_own(table: pa.Table) -> None:
    photographs = of_kind(table, "photograph")
    seen = [caption["text"] for row in photographs for caption in row["captions"]]  # type: ignore[attr-defined]
    assert len(set(seen)) == len(seen)
    for row in photographs:
        captions = [caption["text"] for caption in row["captions"] if caption["lang"] == "en"]  # type: ignore[attr-defined]
        assert len(captions) == 5
        assert max(map(len, captions)) > 2 * min(map(len, captions))
    assert all(row["licence"] for row in [*photographs, *of_kind(table, "scene")])


def test_at_least_five_photographs_also_speak_chinese_spanish_and_german(table: pa.Table) -> None:
    spoken = [{caption["lang"] for caption in row["captions"]} for row in of_kind(table, "photograph")]  # type: ignore[attr-defined]
    assert sum({"en", "zh", "es", "de"} <= langs for langs in spoken) >= 5


def test_scenes_have_five_english_captions_and_every_second_four_languages_more(table: pa.Table) -> None:
    for number, row in enumerate(of_kind(table, "scene")):
        langs = [caption["lang"] for caption in row["captions"]]  # type: ignore[attr-defined]
        assert langs == ["en"] * 5 + (["de", "es", "fr", "zh"] if number % 2 == 0 else [])


def test_pictures_come_in_all_kinds_that_a_downloader_must_cope_with(folder: Path) -> None:
    modes, formats, orientations, progressive = set(), set(), set(), False
    for file in (folder / "pictures").iterdir():
        if file.suffix != ".html" and file.name != "truncated.jpg":
            with Image.open(file) as picture:
                picture.load()
                modes.add(picture.mode)
                formats.add(picture.format)
                orientations.add(picture.getexif().get(0x0112))
                progressive |= "progressive" in picture.info
    assert {"RGB", "RGBA", "L", "CMYK"} <= modes
    assert formats == {"JPEG", "PNG", "WEBP"}
    assert 6 in orientations
    assert progressive


def test_checksums_are_those_of_the_files_but_for_the_one_that_is_wrong_on_purpose(
    table: pa.Table, folder: Path
) -> None:
    listed = {row["url"].rpartition("/")[2]: row["checksum"] for row in table.to_pylist() if row["checksum"]}
    right = {n: hashlib.sha256((folder / "pictures" / n).read_bytes()).hexdigest() for n in listed}
    assert [name for name in listed if listed[name] != f"sha256:{right[name]}"] == ["altered.jpg"]
    assert len(listed) > 15


def test_each_failure_fails_in_its_own_way(table: pa.Table, folder: Path) -> None:
    rules = json.loads((folder / "server.json").read_text(encoding="utf-8"))
    pictures = folder / "pictures"
    assert rules["/pictures/gone.jpg"]["status"] == 404
    assert rules["/pictures/broken.jpg"]["status"] == 500
    assert rules["/pictures/inside.jpg"]["redirect"].startswith("http://127.0.0.1:9/")
    assert rules["/pictures/metadata.jpg"]["redirect"].startswith("http://169.254.169.254/")
    page = rules["/pictures/webpage.jpg"]
    assert page["content_type"] == "text/html"
    assert (folder / page["file"]).read_bytes().startswith(b"<!DOCTYPE html>")
    with pytest.raises(OSError, match="truncated"), Image.open(pictures / "truncated.jpg") as picture:
        picture.load()
    assert (pictures / "again.jpg").read_bytes() == (pictures / "brick.jpg").read_bytes()
    sizes = {}
    for name in ("astronaut.jpg", "smaller.jpg", "tiny.png"):
        with Image.open(pictures / name) as picture:
            sizes[name] = picture.size
    assert sizes["smaller.jpg"] == (307, 307)
    assert sizes["tiny.png"] == (24, 16)
    names = [url.rpartition("/")[2] for url in table["url"].to_pylist()]
    assert names.index("brick.jpg") < names.index("again.jpg")
    assert names.index("astronaut.jpg") < names.index("smaller.jpg")
    missing = {n for n in names if not (pictures / n).is_file()} - {path.rpartition("/")[2] for path in rules}
    assert missing == set()


def test_the_truth_has_every_scene_with_boxes_inside_the_picture(table: pa.Table, folder: Path) -> None:
    truth = TRUTH.check(pq.read_table(folder / "truth.parquet"), "truth.parquet")
    assert truth["url"].to_pylist() == [row["url"] for row in of_kind(table, "scene")]
    for row in truth.to_pylist():
        with Image.open(folder / "pictures" / row["url"].rpartition("/")[2]) as picture:
            assert picture.size == (row["width"], row["height"])
        for thing in row["things"]:
            x1, y1, x2, y2 = thing["box"]
            assert 0 <= x1 < x2 <= row["width"]
            assert 0 <= y1 < y2 <= row["height"]
            assert thing["name"] in CLASSES
            assert set(thing["attributes"]) <= set(ATTRIBUTES)
        for relation in row["relations"]:
            assert relation["predicate"] in RELATIONS
            assert max(relation["subject"], relation["object"]) < len(row["things"])


def test_drawing_twice_gives_the_same_bytes_and_leaves_nothing_old(tmp_path: Path) -> None:
    demo = small(tmp_path / "demo.yaml")
    first = draw(demo, tmp_path / "one")
    (tmp_path / "two" / "pictures").mkdir(parents=True)
    (tmp_path / "two" / "pictures" / "old.jpg").write_bytes(b"of an earlier demo")
    second = draw(demo, tmp_path / "two")
    assert first.equals(second)
    one, two = (
        {file.relative_to(top): file.read_bytes() for file in top.rglob("*") if file.is_file()}
        for top in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


def test_another_seed_gives_other_scenes(tmp_path: Path) -> None:
    scenes = [
        of_kind(draw(small(tmp_path / f"{seed}.yaml", seed=seed), tmp_path / str(seed)), "scene") for seed in (1, 2)
    ]
    assert scenes[0] != scenes[1]


def test_a_labelled_scene_names_its_largest_thing_and_no_other_scene_does(tmp_path: Path) -> None:
    scenes = {**SCENES, "count": 30, "sizes": [[96, 96]], "labelled": True}
    rows = draw(small(tmp_path / "a.yaml", scenes=scenes, photographs=[], failures=[]), tmp_path / "a").to_pylist()
    truth = {row["url"]: row["things"] for row in pq.read_table(tmp_path / "a" / "truth.parquet").to_pylist()}
    labels = {row["url"]: as_dict(row["extra"])["largest"] for row in rows}
    assert all(labels[url] in [thing["name"] for thing in things] for url, things in truth.items())
    for url, things in truth.items():
        areas = [_area(thing["box"]) for thing in things]  # at most so many pixels show each
        named = [area for thing, area in zip(things, areas, strict=True) if thing["name"] == labels[url]]
        assert max(named) >= max(areas) / 4, (url, named, areas)
    plain = draw(small(tmp_path / "b.yaml", photographs=[], failures=[]), tmp_path / "b").to_pylist()
    assert not any("largest" in as_dict(row["extra"]) for row in plain)


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def test_only_the_things_that_are_named_are_drawn_captioned_and_asked_for(tmp_path: Path) -> None:
    wanted = ["bus", "cat", "dog", "key", "owl", "pizza", "sheep"]
    scenes = SCENES | {"count": 40, "things": wanted}
    table = draw(small(tmp_path / "demo.yaml", scenes=scenes), tmp_path / "data")
    truth = pq.read_table(tmp_path / "data" / "truth.parquet").to_pylist()
    assert {thing["name"] for row in truth for thing in row["things"]} == set(wanted)
    captions = [caption for row in of_kind(table, "scene") for caption in row["captions"]]  # type: ignore[attr-defined]
    said = [caption["text"] for caption in captions if caption["lang"] == "en"]
    said += [asked["sent"] for asked in json.loads((tmp_path / "data" / "questions.json").read_text(encoding="utf-8"))]
    forms = {form: thing.name for thing in THINGS for form in (thing.singular, thing.plural)}
    words = re.compile(r"\b(" + "|".join(sorted(forms, key=len, reverse=True)) + r")\b")
    assert {forms[word] for text in said for word in words.findall(text)} == set(wanted)


def test_a_users_list_leaves_nothing_of_the_demo_to_serve(tmp_path: Path) -> None:
    draw(small(tmp_path / "demo.yaml"), tmp_path / "data")
    (tmp_path / "my.csv").write_text("url,caption\nhttp://host/1.jpg,a dog\n", encoding="utf-8")
    (part,) = sample.parts(Config(urls=str(tmp_path / "my.csv")), tmp_path / "data")
    assert part.rows["url"].to_pylist() == ["http://host/1.jpg"]
    assert [file.name for file in (tmp_path / "data").iterdir()] == ["server.json"]
    assert json.loads((tmp_path / "data" / "server.json").read_text(encoding="utf-8")) == {}


def test_spread_keeps_each_lists_order_and_mixes_them() -> None:
    few, many = ([Item(f"{kind}{i}", [], kind) for i in range(count)] for kind, count in (("a", 2), ("b", 6)))
    # a at 3/12 and 9/12. B at 1, 3, 5, 7, 9 and 11 twelfths
    assert [item.name for item in spread(few, many)] == ["b0", "a0", "b1", "b2", "b3", "a1", "b4", "b5"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scenes": {"count": 3}}, "missing"),
        (
            {"photographs": [{"file": "skimage/brick.png", "licence": "CC0", "captions": {}, "save": "bmp"}]},
            "save 'bmp'",
        ),
        ({"seeds": 3}, "seeds"),
        ({"failures": [{"name": "x", "captions": {}, "of": "skimage/none.png"}]}, "none.png"),
        ({"scenes": SCENES | {"things": ["bus", "unicorn"]}}, "things 'unicorn'"),
        ({"scenes": SCENES | {"things": ["bus", "cat", "cat"]}}, "things names 2"),
    ],
)
def test_a_wrong_description_is_refused_by_name(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(small(tmp_path / "demo.yaml", **changes))


def test_a_missing_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml")


def test_the_turned_photograph_is_upright_once_its_orientation_is_applied(folder: Path) -> None:
    from PIL import ImageOps

    with Image.open(folder / "pictures" / "coffee.jpg") as picture:
        assert picture.size == (400, 600)
        assert ImageOps.exif_transpose(picture).size == (600, 400)


def test_the_tiny_picture_is_valid(folder: Path) -> None:
    body = (folder / "pictures" / "tiny.png").read_bytes()
    with Image.open(BytesIO(body)) as picture:
        picture.verify()
