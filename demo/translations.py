"""Captions in other languages, phrased as labels and lists so that no article, gender or case can be wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import emoji
import numpy as np

from demo.captions import BY_NAME, pick
from demo.scenes import ATTRIBUTES, Scene, SceneThing


@dataclass(frozen=True)
class Language:
    """The words and patterns of one language. {0}, {1} are things, {list} several, {count} a number."""

    separator: str
    times: str  # a name and how often
    inventory: tuple[str, ...]
    number: tuple[str, ...]
    described: str  # a thing and its words
    words: dict[str, str]  # attribute -> label
    relations: dict[str, str]  # predicate -> pattern. The reversed ones are said the other way round


def _words(labels: str) -> dict[str, str]:
    """Labels of ATTRIBUTES in their order. Those of the sizes may be missing, and are then not said."""
    return dict(zip(ATTRIBUTES, labels.split(), strict=False))


LANGUAGES = {
    "de": Language(
        separator=", ",
        times="{count} × {0}",
        inventory=("Foto mit: {list}", "Im Bild: {list}.", "Zu sehen: {list}", "{list}"),
        number=("Anzahl der Dinge im Bild: {count}. Namen: {list}.",),
        described="{0} ({list})",
        words=_words("rot orange gelb grün blau lila rosa schwarz weiß grau klein groß"),
        relations={
            "left of": "Links: {0}; rechts: {1}",
            "above": "Oben: {0}; unten: {1}",
            "in front of": "Vorne: {0}; dahinter: {1}",
        },
    ),
    "es": Language(
        separator=", ",
        times="{count} × {0}",
        inventory=("Foto con: {list}", "En la imagen: {list}.", "Se ve lo siguiente: {list}", "{list}"),
        number=("Número de cosas en la imagen: {count}. Nombres: {list}.",),
        described="{0} ({list})",
        words=_words("rojo naranja amarillo verde azul morado rosa negro blanco gris"),
        relations={
            "left of": "A la izquierda: {0}; a la derecha: {1}",
            "above": "Arriba: {0}; abajo: {1}",
            "in front of": "Delante: {0}; detrás: {1}",
        },
    ),
    "fr": Language(
        separator=", ",
        times="{count} × {0}",
        inventory=("Photo avec : {list}", "Dans l’image : {list}.", "On voit ceci : {list}", "{list}"),
        number=("Nombre de choses dans l’image : {count}. Noms : {list}.",),
        described="{0} ({list})",
        words=_words("rouge orange jaune vert bleu violet rose noir blanc gris"),
        relations={
            "left of": "À gauche : {0} ; à droite : {1}",
            "above": "En haut : {0} ; en bas : {1}",
            "in front of": "Devant : {0} ; derrière : {1}",
        },
    ),
    "zh": Language(
        separator="、",
        times="{0}×{count}",
        inventory=("图中有：{list}", "这张图片里有：{list}。", "可以看到：{list}", "{list}"),
        number=("图中共有{count}个东西：{list}。",),
        described="{0}（{list}）",
        words=_words("红色 橙色 黄色 绿色 蓝色 紫色 粉色 黑色 白色 灰色 小 大"),
        relations={"left of": "{0}在{1}的左边", "above": "{0}在{1}的上方", "in front of": "{0}在{1}的前面"},
    ),
}
# The colour is named as a noun where an adjective would have to agree with the thing.
COLOUR_LABEL = {"de": "{}", "es": "color {}", "fr": "couleur {}", "zh": "{}"}
OPPOSITE = {"right of": "left of", "below": "above", "behind": "in front of"}


def translated(scene: Scene, language: str, rng: np.random.Generator) -> str:
    """One true caption in a language of `LANGUAGES`: a list, a number, a thing with its colour, or a relation."""
    kinds = (_inventory, _number, _described, _relation)
    text = kinds[int(rng.integers(len(kinds)))](scene, language, rng)
    return text[0].upper() + text[1:]


@cache
def name_in(language: str, name: str) -> str:
    """The class's name in a language that the emoji package knows. German nouns begin with a capital letter."""
    thing = BY_NAME[name]
    word = thing.words.get(language) or emoji.demojize(thing.emoji, language=language, delimiters=("", ""))
    word = word.replace("_", " ")
    return word[0].upper() + word[1:] if language == "de" else word


def _names(scene: Scene, language: str) -> str:
    groups = Counter(thing.name for thing in scene.things)
    spoken = LANGUAGES[language]
    one = {name: name_in(language, name) for name in groups}
    return spoken.separator.join(
        one[name] if count == 1 else spoken.times.format(one[name], count=count) for name, count in groups.items()
    )


def _inventory(scene: Scene, language: str, rng: np.random.Generator) -> str:
    return pick(LANGUAGES[language].inventory, rng).format(list=_names(scene, language))


def _number(scene: Scene, language: str, rng: np.random.Generator) -> str:
    return pick(LANGUAGES[language].number, rng).format(list=_names(scene, language), count=len(scene.things))


def _described(scene: Scene, language: str, rng: np.random.Generator) -> str:
    return _with_words(scene.things[int(rng.integers(len(scene.things)))], language)


def _relation(scene: Scene, language: str, rng: np.random.Generator) -> str:
    if not scene.relations:
        return _described(scene, language, rng)
    held = scene.relations[int(rng.integers(len(scene.relations)))]
    pair = [_with_words(scene.things[i], language) for i in (held.subject, held.object)]
    if held.predicate in OPPOSITE:
        pair.reverse()
    return LANGUAGES[language].relations[OPPOSITE.get(held.predicate, held.predicate)].format(*pair)


def _with_words(thing: SceneThing, language: str) -> str:
    spoken = LANGUAGES[language]
    name = name_in(language, thing.name)
    words = [COLOUR_LABEL[language].format(spoken.words[word]) for word in thing.attributes if word in spoken.words]
    return spoken.described.format(name, list=spoken.separator.join(words)) if words else name
