"""Stage qa through the executor: each question reaches its image or the quarantine, whatever the workers and shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairloom.errors import InputError
from pairloom.extra import as_extra
from pairloom.names import name_of, stem
from pairloom.store.folder import open_folder
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.executor import Done, Options, run_stage
from schemas.pairs import PAIRS
from stages.qa import Config, QuestionFile
from tests.building import numbered, write_table


def write_pairs(data: Path, *shards: list[dict[str, Any]]) -> None:
    """Table curate: each image a url, perhaps a source and extra."""
    tables: list[Any] = []
    number = 0
    for rows in shards:
        ids = [(number + row).to_bytes(16, "big") for row in range(len(rows))]
        number, one = number + len(rows), [1] * len(rows)
        made = PAIRS.table(
            image_id=ids, image=[b"x"] * len(rows), format=["png"] * len(rows), width=one, height=one,
            original_width=one, original_height=one, url=[row["url"] for row in rows], sha256=[bytes(32)] * len(rows),
            phash=one, captions=[[{"text": "a", "original": "a", "lang": None}]] * len(rows),
            source=[row.get("source") for row in rows], extra=[as_extra(row.get("extra", {})) for row in rows],
        )  # fmt: skip
        tables.append(made)
    for stage in ("download", "curate"):
        write_table(data / stage, PAIRS, numbered(tables), stage)


def write_questions(path: Path, asked: list[tuple[str, str, str]]) -> str:
    """A file of LXMERT's form: (image, question, answer) of each."""
    entries = [
        {"img_id": image, "sent": text, "label": {answer: 1.0} if answer else {}, "question_id": number}
        for number, (image, text, answer) in enumerate(asked)
    ]
    path.write_text(json.dumps(entries), encoding="utf-8")
    return str(path)


def few(*sources: QuestionFile, match: str = "url") -> Config:
    """For files of so few questions."""
    return Config(sources=sources, match=match, min_answer_count=1)


def made(data: Path, config: Config, **run: Any) -> Done:
    return run_stage("qa", config, data, Options(RunConfig(**{"cluster": "inline", **run}), redo=True, plain=True))


def told(data: Path) -> tuple[dict[int, list[str]], list[tuple[str, str]]]:
    """(the questions of each image by its number, question id and reason of those left out)."""
    rows = [row for _, table in open_folder(data / "qa").tables() for row in table.to_pylist()]
    out = [row for _, table in open_folder(data / "quarantine" / "qa").tables() for row in table.to_pylist()]
    found = {int.from_bytes(row["image_id"], "big"): [one["text"] for one in row["qa"]] for row in rows}
    return found, [(row["key"], row["reason"]) for row in out]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(
    images=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=7),
    asked=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["", "who?", "what?"])), max_size=9),
    cut=st.integers(0, 7),
)
def test_every_question_is_at_its_image_or_in_quarantine_with_the_reason(
    tmp_path_factory: pytest.TempPathFactory, images: list[str], asked: list[tuple[str, str]], cut: int
) -> None:
    data = tmp_path_factory.mktemp("data")
    rows = [{"url": f"http://host/{number}/{name}.jpg"} for number, name in enumerate(images)]
    write_pairs(data, rows[:cut], rows[cut:])
    file = write_questions(data / "q.json", [(name, text, "yes") for name, text in asked])
    expected: dict[int, list[str]] = {number: [] for number in range(len(images))}
    left_out = []
    for number, (name, text) in enumerate(asked):
        if images.count(name) == 1 and text:
            expected[images.index(name)].append(text)
        else:
            reason = "no-image" if name not in images else "several-images"
            left_out.append((str(number), reason if text else "no-question"))
    config = Config(sources=(QuestionFile(file=file),), min_answer_count=1)
    if not any(expected.values()):
        with pytest.raises(InputError, match="no question found its image"):
            made(data, config)
        return
    done = made(data, config)
    assert told(data) == (expected, left_out)
    assert sum(done.counts.rejected.values()) == len(left_out)
    assert done.summary["questions"] == sum(map(len, expected.values()))


def test_answers_are_normalised_counted_over_all_shards_and_named_in_each(tmp_path: Path) -> None:
    write_pairs(tmp_path, [{"url": "http://host/a.png"}], [{"url": "http://host/b.png"}])
    asked = [
        ("a", "1", "A Dog."),
        ("b", "2", "dog"),
        ("b", "3", "yes"),
        ("a", "4", "yes"),
        ("a", "5", "odd"),
        ("a", "6", ""),
    ]
    config = Config(sources=(QuestionFile(file=write_questions(tmp_path / "q.json", asked)),), min_answer_count=2)
    done = made(tmp_path, config)
    assert done.summary == {"images": 2, "questions": 6, "answered": 5, "sources": {"lxmert": 6}}
    for name, table in open_folder(tmp_path / "qa").tables():
        notes = table.schema.metadata
        assert (notes[b"answers"], notes[b"answer_count"]) == (b'["dog", "yes"]', b"2"), name
    first = open_folder(tmp_path / "qa").read("00000")["qa"][0].as_py()[0]
    assert first == {"text": "1", "answers": [{"text": "dog", "score": 1.0}], "source": "lxmert", "question_id": "0"}
    (tmp_path / "answers.json").write_text('[{"ans": "net"}]')
    made(tmp_path, Config(sources=config.sources, answers=str(tmp_path / "answers.json")))
    assert open_folder(tmp_path / "qa").metadata("00001")["answers"] == '["net"]'


def test_a_collection_an_own_name_and_a_column_of_the_list_tell_images_apart(tmp_path: Path) -> None:
    write_pairs(tmp_path, [
        {"url": "http://host/1.jpg", "source": "coco", "extra": {"id": "x/17"}},
        {"url": "http://host/vg/1.jpg", "source": "genome", "extra": {"id": "18.png"}},
        {"url": "http://host/b%20c.JPG?size=1.png", "extra": {}},
    ])  # fmt: skip
    one = write_questions(tmp_path / "one.json", [("1", "genome's?", "yes")])
    two = write_questions(tmp_path / "two.json", [("b c", "both?", "no")])
    made(tmp_path, few(QuestionFile(file=one, of="genome"), QuestionFile(file=two, image="folder/{}.jpeg")))
    assert told(tmp_path) == ({0: [], 1: ["genome's?"], 2: ["both?"]}, [])
    own = tmp_path / "names.json"
    own.write_text('{"1": "17"}')
    made(tmp_path, few(QuestionFile(file=one, names=str(own)), QuestionFile(file=two, names=str(own)), match="id"))
    assert told(tmp_path) == ({0: ["genome's?"], 1: [], 2: []}, [("0", "no-image")])
    own.write_text('["17"]')
    with pytest.raises(InputError, match="write one object of texts"):
        made(tmp_path, Config(sources=(QuestionFile(file=one, names=str(own)),), match="id"))


def test_a_picture_of_two_collections_is_called_by_both_names(tmp_path: Path) -> None:
    """curate keeps one row of a picture that COCO and Visual Genome both have. Download has both."""
    write_pairs(tmp_path, [{"url": "http://host/coco/COCO_train2014_000000000009.jpg", "source": "coco"}],
                [{"url": "http://host/vg/7.jpg", "source": "genome"}])  # fmt: skip
    (_, coco), (_, genome) = open_folder(tmp_path / "download").tables()
    place = genome.schema.get_field_index("image_id")
    same = genome.set_column(place, genome.schema.field(place), coco["image_id"])
    write_table(tmp_path / "download", PAIRS, numbered([coco, same]), "download")
    write_table(tmp_path / "curate", PAIRS, numbered([coco, genome.slice(0, 0)]), "curate")
    one = write_questions(tmp_path / "one.json", [("COCO_train2014_000000000009", "coco's?", "yes")])
    two = write_questions(tmp_path / "two.json", [("7", "genome's?", "no")])
    sources = (QuestionFile(file=one, of="coco"), QuestionFile(file=two, of="genome"))
    made(tmp_path, Config(sources=sources, min_answer_count=1))
    assert told(tmp_path) == ({0: ["coco's?", "genome's?"]}, [])
    made(tmp_path, Config(sources=sources, min_answer_count=1, all_names=False))
    assert told(tmp_path) == ({0: ["coco's?"]}, [("0", "no-image")])


def test_a_name_of_a_picture_that_curate_left_out_is_no_image(tmp_path: Path) -> None:
    write_pairs(tmp_path, [{"url": "http://host/a.png"}, {"url": "http://host/b.png"}])
    whole = open_folder(tmp_path / "curate").read("00000")
    write_table(tmp_path / "curate", PAIRS, numbered([whole.slice(0, 1)]), "curate")
    made(tmp_path, few(QuestionFile(file=write_questions(tmp_path / "q.json", [("a", "1", "x"), ("b", "2", "x")]))))
    assert told(tmp_path) == ({0: ["1"]}, [("1", "no-image")])


def test_no_match_at_all_shows_a_name_of_each_side(tmp_path: Path) -> None:
    write_pairs(tmp_path, [{"url": "http://host/COCO_train2014_000000000009.jpg"}])
    file = write_questions(tmp_path / "q.json", [("9", "who?", "I")])
    with pytest.raises(InputError, match="one asks for '9', while an image is called 'COCO_train2014_000000000009'"):
        made(tmp_path, Config(sources=(QuestionFile(file=file),)))
    with pytest.raises(InputError, match=r"no image has a name by qa\.match: number"):
        made(tmp_path, Config(sources=(QuestionFile(file=file),), match="number"))


def test_files_without_a_frequent_answer_are_refused(tmp_path: Path) -> None:
    write_pairs(tmp_path, [{"url": "http://host/a.png"}])
    for answer, told_so in (
        ("x", "best one of 9 questions: the most frequent, 'x', is that of 1"),
        ("", "none has one"),
    ):
        file = write_questions(tmp_path / "q.json", [("a", "1", answer)])
        with pytest.raises(InputError, match=told_so):
            made(tmp_path, Config(sources=(QuestionFile(file=file),)))


def test_more_images_find_what_was_left_out(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "q.json", [("a", "1", "x"), ("b", "2", "x")])
    one = few(QuestionFile(file=file))
    write_pairs(tmp_path, [{"url": "http://host/a.png"}])
    made(tmp_path, one)
    assert told(tmp_path) == ({0: ["1"]}, [("1", "no-image")])
    write_pairs(tmp_path, [{"url": "http://host/a.png"}], [{"url": "http://host/b.png"}])
    made(tmp_path, one)
    assert told(tmp_path) == ({0: ["1"], 1: ["2"]}, [])


def test_names_leave_folders_endings_and_queries_out() -> None:
    assert name_of({"url": "https://h/x/COCO_val2014_000000000042.jpg?a=b.c"}, "url") == "COCO_val2014_000000000042"
    assert name_of({"url": "", "extra": [("file", "a.b/v1.2")]}, "file") == "v1.2"
    assert name_of({"url": "", "extra": None}, "file") == ""
    assert stem("c.tar.JPEG") == "c.tar"


def test_the_command_line_makes_the_table_and_the_shards_take_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.stages.test_shards import tables

    pairs, regions, tags, negatives = tables([0, 1])
    file = write_questions(tmp_path / "q.json", [("u", "who?", "I")])
    write_pairs(tmp_path / "data", [{"url": "http://host/u.png"}, {"url": "http://host/v.png"}])
    params = tmp_path / "params.yaml"
    params.write_text(f"qa: {{sources: [{{file: {file}}}], min_answer_count: 1}}\n")
    common = ["--params", str(params), "--data", str(tmp_path / "data"), "--metrics", str(tmp_path), "--quiet"]
    assert main(["stage", "qa", "--cluster", "inline", *common]) == 0
    assert "2 rows in, 2 out" in capsys.readouterr().out
    qa = open_folder(tmp_path / "data" / "qa").read("00000")
    ids = [pairs["image_id"][0].as_py(), pairs["image_id"][1].as_py()]
    qa = qa.set_column(0, qa.schema.field(0), pa.array(ids, pa.binary(16)))
    from stages import shards

    joined, rejects = shards.process(pairs, regions, tags, negatives, qa, shards.Config(qa=True))
    assert rejects.num_rows == 0
    assert [[one["text"] for one in row] for row in joined["qa"].to_pylist()] == [["who?"], []]
    assert (joined.schema.metadata[b"answers"], joined.schema.metadata[b"answer_count"]) == (b'["i"]', b"1")
    without, _ = shards.process(pairs, regions, tags, negatives, shards.Config())
    assert without["qa"].null_count == 2
    assert b"answers" not in without.schema.metadata


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "q.json", [(str(n % 7), f"{n}?", "x") for n in range(30)])
    sums = []
    for workers in (1, 2):
        data = tmp_path / str(workers)
        write_pairs(data, *([{"url": f"http://host/{n}.png"}] for n in range(5)))
        run = {"cluster": "local", "workers": workers} if workers > 1 else {}
        made(data, Config(sources=(QuestionFile(file=file),)), **run)
        folders = (data / "qa", data / "quarantine" / "qa")
        sums.append([path.read_bytes() for folder in folders for path in sorted(folder.glob("*.parquet"))])
    assert sums[0] == sums[1]
