"""Draws the sample that a demo.yaml describes: pictures, what the server answers, the truth, and the list."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from demo import pictures, questions
from demo.backdrops import PACKAGES, SAMPLE, backgrounds, photograph
from demo.captions import english
from demo.folder import FOLDER, QUESTIONS, RULES, TRUTHS, clear
from demo.scenes import MAX_THINGS, Scene, compose
from demo.things import CLASSES, glyphs
from demo.translations import LANGUAGES, translated
from pairloom.errors import InputError
from pairloom.extra import as_extra
from schemas.truth import TRUTH
from schemas.urls import URLS

SCENE_SAVE = ("jpeg",) * 7 + ("png", "jpeg", "webp")  # taken in turn
SCENE_LICENCE = "Apache-2.0"  # things: Noto Color Emoji; backgrounds: ours, or CC0 and public domain
COLLECTIONS = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """An installed photograph, with captions by language."""

    file: str
    licence: str
    captions: dict[str, list[str]]
    save: str = "jpeg"


@dataclass(frozen=True, kw_only=True)
class Scenes:
    count: int
    sizes: list[list[int]]  # width, height, taken in turn
    captions: int
    languages: list[str]
    translated_every: int
    questions: int = 0  # of each
    labelled: bool = False  # whether the list names each picture's largest thing, in column `largest`
    things: Collection[str] = CLASSES  # names of those that may be drawn, at least seven


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A row that something is wrong with. `answer` is a rule of the server."""

    name: str
    captions: dict[str, list[str]]
    of: str | None = None
    change: str | None = None
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Demo:
    host: str
    seed: int
    scenes: Scenes
    photographs: list[Photograph]
    failures: list[Failure]


@dataclass(frozen=True)
class Item:
    """One row of the list, with what goes into the folder for it."""

    name: str
    captions: list[dict[str, str]]
    kind: str
    body: bytes | None = None
    licence: str | None = None
    source: str = "pairloom"
    checksum: str | None = None
    scene: Scene | None = None
    asked: list[questions.Asked] = field(default_factory=list)
    rule: dict[str, Any] | None = None
    largest: str | None = None
    file: str = field(default="")  # where the body goes if not under its own name


def draw(path: Path, folder: Path) -> pa.Table:
    """Write the demo's pictures and files (the names above) into the folder. Return its list as table `urls`.

    Photographs, scenes and failures are spread evenly over the list. What an earlier demo left there is removed.
    """
    demo = load(path)
    clear(folder)
    (folder / FOLDER).mkdir()
    photographs = [_photograph(entry) for entry in demo.photographs]
    originals = {entry.file: item for entry, item in zip(demo.photographs, photographs, strict=True)}
    rows, truths, rules = [], [], {}
    for item in spread(photographs, list(_scenes(demo)), [_failure(entry, originals) for entry in demo.failures]):
        if item.body is not None:
            (folder / FOLDER / (item.file or item.name)).write_bytes(item.body)
        if item.rule is not None:
            rules[f"/{FOLDER}/{item.name}"] = item.rule
        url = f"http://{demo.host}/{FOLDER}/{item.name}"
        rows.append((url, item))
        if item.scene is not None:
            truths.append((url, item.scene))
    (folder / RULES).write_text(json.dumps(rules, indent=1) + "\n", encoding="utf-8")
    pq.write_table(truth_table(truths), folder / TRUTHS)
    asked = [entry for _, item in rows for entry in _asked(item)]
    (folder / QUESTIONS).write_text(json.dumps(asked, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    return _list(rows)


def load(path: Path) -> Demo:
    """The description of a demo. Raises InputError if it is not one."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        scenes = Scenes(**raw.pop("scenes"))
        photographs = [Photograph(**entry) for entry in raw.pop("photographs")]
        failures = [Failure(**entry) for entry in raw.pop("failures")]
        demo = Demo(scenes=scenes, photographs=photographs, failures=failures, **raw)
        _check(demo)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, AttributeError, ValueError) as error:
        raise InputError(
            f"it is not a description of a demo: {error}",
            str(path),
            "write it like demo/demo.yaml, write demo for the one that ships, or name a list (sample.urls)",
        ) from error
    return demo


def _check(demo: Demo) -> None:
    """Raises ValueError where a word of the description has no meaning."""
    of = [entry.of for entry in demo.failures if entry.of]
    words = [
        ("save", {entry.save for entry in demo.photographs}, set(pictures.ENCODINGS)),
        ("change", {entry.change for entry in demo.failures if entry.change}, set(pictures.CHANGES)),
        ("languages", set(demo.scenes.languages), set(LANGUAGES)),
        ("package", {entry.file.partition("/")[0] for entry in demo.photographs}, set(PACKAGES)),
        ("of", set(of), {entry.file for entry in demo.photographs}),
        ("things", set(demo.scenes.things), set(CLASSES)),
    ]
    for name, used, known in words:
        if used - known:
            raise ValueError(f"{name} {sorted(used - known)[0]!r} is not one of {', '.join(sorted(known))}")
    if len(set(demo.scenes.things)) <= MAX_THINGS:  # a question about what is not there needs one more than are
        raise ValueError(f"things names {len(set(demo.scenes.things))}; name at least {MAX_THINGS + 1}")


def spread(*lists: list[Item]) -> list[Item]:
    """All items in one list, those of each list in their order and evenly spaced."""
    placed = [
        ((i + 0.5) / len(items), which, item) for which, items in enumerate(lists) for i, item in enumerate(items)
    ]
    return [item for _, _, item in sorted(placed, key=lambda entry: entry[:2])]


def _photograph(entry: Photograph) -> Item:
    ending, encode = pictures.ENCODINGS[entry.save]
    with Image.open(photograph(entry.file)) as picture:
        body = encode(picture)
    package, file = entry.file.split("/")
    return Item(
        name=f"{Path(file).stem}.{ending}",
        captions=_captions(entry.captions),
        kind="photograph",
        body=body,
        licence=entry.licence,
        source=COLLECTIONS[package],
        checksum=pictures.checksum(body),
    )


def _scenes(demo: Demo) -> Iterator[Item]:
    photographs = backgrounds(SAMPLE)
    drawn = [glyph for glyph in glyphs() if glyph.thing.name in demo.scenes.things]
    for number in range(demo.scenes.count):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([demo.seed, number])))
        width, height = demo.scenes.sizes[number % len(demo.scenes.sizes)]
        scene = compose(rng, drawn, photographs, (width, height))
        captions = [_caption(text, "en", "original") for text in english(scene, rng, demo.scenes.captions)]
        if number % demo.scenes.translated_every == 0:
            langs = demo.scenes.languages
            captions += [_caption(translated(scene, lang, rng), lang, "translation") for lang in langs]
        ending, encode = pictures.ENCODINGS[SCENE_SAVE[number % len(SCENE_SAVE)]]
        body = encode(Image.fromarray(scene.image))
        item = Item(
            f"scene-{number:04d}.{ending}", captions, "scene", body, SCENE_LICENCE, "pairloom scenes", scene=scene
        )
        apart = np.random.Generator(np.random.PCG64(np.random.SeedSequence([demo.seed, number, 1])))
        largest = _largest(scene) if demo.scenes.labelled else None
        yield replace(item, asked=questions.english(scene, apart, demo.scenes.questions), largest=largest)


def _caption(text: str, lang: str, kind: str) -> dict[str, str]:
    return {"text": text, "lang": lang, "kind": kind}


def _asked(item: Item) -> list[dict[str, Any]]:
    """The item's questions as LXMERT's files have them (stages/qa)."""
    name = Path(item.name).stem
    return [
        {"img_id": name, "sent": question, "label": {answer: 1.0}, "question_id": f"{name}-{number}"}
        for number, (question, answer) in enumerate(item.asked)
    ]


def _failure(entry: Failure, originals: dict[str, Item]) -> Item:
    original = originals[entry.of] if entry.of else None
    body = pictures.CHANGES[entry.change]((original and original.body) or b"") if entry.change else None
    return Item(
        name=entry.name,
        captions=_captions(entry.captions),
        kind="failure",
        body=body,
        licence=original.licence if original else None,
        checksum=pictures.checksum(b"what was listed") if entry.change == "wrong-checksum" else None,
        rule=entry.answer,
        file=Path((entry.answer or {}).get("file", "")).name,
    )


def _captions(by_language: dict[str, list[str]]) -> list[dict[str, str]]:
    return [{"text": text, "lang": lang} for lang, texts in by_language.items() for text in texts]


def _list(rows: Iterable[tuple[str, Item]]) -> pa.Table:
    rows = list(rows)
    return URLS.table(
        url=[url for url, _ in rows],
        captions=[item.captions for _, item in rows],
        licence=[item.licence for _, item in rows],
        source=[item.source for _, item in rows],
        checksum=[item.checksum for _, item in rows],
        extra=[as_extra({"kind": item.kind} | ({"largest": item.largest} if item.largest else {})) for _, item in rows],
    )


def _largest(scene: Scene) -> str:
    """The name of the thing that shows the most pixels."""
    pixels = np.bincount(scene.owner.ravel(), minlength=len(scene.things) + 1)[1:]
    return scene.things[int(pixels.argmax())].name


def truth_table(scenes: list[tuple[str, Scene]]) -> pa.Table:
    """Table `truth` of scenes with their URLs."""
    return TRUTH.table(
        url=[url for url, _ in scenes],
        width=[scene.image.shape[1] for _, scene in scenes],
        height=[scene.image.shape[0] for _, scene in scenes],
        things=[[asdict(thing) for thing in scene.things] for _, scene in scenes],
        relations=[[asdict(relation) for relation in scene.relations] for _, scene in scenes],
    )
