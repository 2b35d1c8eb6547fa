"""A recipe: what is trained, and how, as frozen dataclasses; a wrong key or value stops before any work."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
import pickle
import re
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pairloom.errors import ConfigError
from pairloom.loader.plan import Text
from trainer.contract import Alone, Matcher, Model, Numbering, Objective, Reading, Unit


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Section `training.adversarial`: arXiv:2006.06195, section 3, with the passes and norms of its code.

    steps: passes, the first with no perturbation; their gradients are added. lr: length of each step of the
    perturbation. most: its largest norm. kl: weight of KL(clean ‖ perturbed) + KL(perturbed ‖ clean) of what is
    predicted. together: words and regions are perturbed in the same passes, else in passes of their own, averaged.
    """

    steps: int
    lr: float
    words: bool = True
    regions: bool = True
    norm: Literal["l2", "linf"] = "l2"
    most: float | None = None
    kl: float = 1.5
    together: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or not (self.words or self.regions):
            raise ConfigError(
                f"adversarial.steps is {self.steps}, lr {self.lr}, words {self.words}, regions {self.regions}",
                "the recipe",
                "set at least one step, lr above 0, and words or regions",
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """Section `training`: the optimiser's settings."""

    steps: int
    batch_size: int  # rows; with max_tokens, rows that are sorted by length and cut into batches together
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float  # not on biases, norms and scales
    warmup: float  # share of the steps over which lr rises from 0
    schedule: Literal["linear", "cosine"]  # how lr falls to 0 afterwards
    clip: float | None  # largest norm of the gradient
    adversarial: Adversarial | None = None  # embeddings perturbed against the learner: trainer/adversarial.py
    balance: Literal["fixed", "adaptive"] = "fixed"  # of the losses of one step: trainer/balance.py
    max_tokens: int | None = None  # words and regions of a batch, instead of a number of rows


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Section `retrieval`: how images and texts of the val split are matched after training."""

    objective: str  # whose similarity decides
    max_images: int = 128  # pairs grow with its square


class Parts(Protocol):
    """Where the modules are that recipes name; systems.parts.Shelf is one. Small and frozen: it is pickled."""

    def home(self, kind: str, name: str) -> str | None:
        """Of a module of this kind (units, models, objectives): its dotted name or its file; None if there is none."""

    def names(self, kind: str) -> list[str]:
        """The modules of this kind."""


@dataclass(frozen=True)
class Part:
    """A module that the recipe names, with its settings.

    home: where it is, a dotted name or a file. For objectives alone: ratio, how often it is drawn; step, the name of
    the step that it shares with others, and weight, of its loss there, which counts from the share `start` of the
    training on. A step is one batch and one pass of the model, drawn as often as all its objectives.
    """

    home: str
    settings: Any
    ratio: float = 1
    step: str = ""
    weight: float = 1
    start: float = 0

    @property
    def module(self) -> Any:
        """trainer.contract says what it offers. Not a field: modules cannot be pickled."""
        return _module(self.home)

    @property
    def unit(self) -> Unit:
        module: Unit = self.module
        return module

    @property
    def model(self) -> Model:
        module: Model = self.module
        return module

    @property
    def objective(self) -> Objective:
        module: Objective = self.module
        return module

    @property
    def columns(self) -> tuple[str, ...]:
        """Of an objective: the columns that it reads beyond those of the units."""
        return self.module.columns(self.settings) if isinstance(self.module, Reading) else ()

    @property
    def numbered_by(self) -> tuple[str, ...]:
        """Of an objective: the lists of the shards' metadata whose entries its head numbers."""
        return self.module.NUMBERED_BY if isinstance(self.module, Numbering) else ()

    @property
    def shows_text_alone(self) -> bool:
        """Of an objective: whether it has rows of text without an image."""
        return isinstance(self.module, Alone) and self.module.text_alone(self.settings)

    def __reduce__(self) -> tuple[Any, ...]:
        # Settings of a user's own module can be unpickled only where that module has been imported from its file.
        return _unpickled, (self.home, pickle.dumps(self.settings), self.ratio, self.step, self.weight, self.start)

    @property
    def name(self) -> str:
        return Path(self.home).stem if self.home.endswith(".py") else self.home.rpartition(".")[2]


def _unpickled(home: str, settings: bytes, *others: Any) -> Part:
    _module(home)
    return Part(home, pickle.loads(settings), *others)


@functools.cache  # the loader asks for it with every row
def _module(home: str) -> Any:
    if not home.endswith(".py"):
        return importlib.import_module(home)
    name = "recipe_part_" + re.sub(r"\W", "_", home)  # of the whole path: models/x.py may lie beside objectives/x.py
    spec = importlib.util.spec_from_file_location(name, home)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Recipe:
    """A system, at one size."""

    name: str
    size: str
    paper: str
    text: Text
    units: Part
    model: Part
    objectives: dict[str, Part]
    training: Training
    retrieval: Retrieval | None  # None: nothing is matched
    expects: dict[str, float]  # how far above chance each score should come on the sample's scenes (systems/table.py)
    parts: Parts = field(repr=False)
    source: dict[str, Any] = field(repr=False, default_factory=dict)  # what it was read from, for the checkpoint

    def columns(self) -> tuple[str, ...]:
        """The columns of the shards that this recipe reads."""
        wanted = {"image_id", "captions", *self.units.unit.columns(self.units.settings)}
        wanted.update({"tags"} if self.text.second == "tags" else ())
        for part in self.objectives.values():
            wanted.update(part.columns)
        return tuple(sorted(wanted))

    def steps(self) -> dict[str, dict[str, Part]]:
        """The objectives of each kind of step, in the order in which they prepare its rows."""
        kinds: dict[str, dict[str, Part]] = {}
        for name, part in self.objectives.items():
            kinds.setdefault(part.step or name, {})[name] = part
        return kinds

    def numbered_by(self) -> frozenset[str]:
        """Keys of the shards' metadata whose entries an objective numbers by itself."""
        return frozenset(key for part in self.objectives.values() for key in part.numbered_by)

    def shows_text_alone(self) -> bool:
        """Whether an objective has rows of text without an image."""
        return any(part.shows_text_alone for part in self.objectives.values())


def parse(document: Mapping[str, Any], name: str, size: str, where: str, parts: Parts) -> Recipe:
    """A recipe from its document. Raises ConfigError naming the key."""
    known = {"paper", "text", "units", "model", "objectives", "training", "retrieval"}
    _exactly(document, known | {"expects"}, where, known)
    objectives = {key: _part("objectives", key, value, where, parts) for key, value in document["objectives"].items()}
    matched = document["retrieval"]
    retrieval = None if matched is None else build(Retrieval, matched, f"{where}, retrieval")
    if retrieval is not None and retrieval.objective not in objectives:
        given = f"retrieval.objective is {retrieval.objective}"
        raise ConfigError(given, where, f"take one of: {', '.join(objectives)}")
    if retrieval is not None and not isinstance(objectives[retrieval.objective].module, Matcher):
        given = f"objective {retrieval.objective} does not say how well image and text match"
        raise ConfigError(given, f"{where}, retrieval", "name one that has a `similarity`, or set retrieval to null")
    return Recipe(
        name=name,
        size=size,
        paper=document["paper"],
        text=build(Text, document["text"], f"{where}, text"),
        units=_only(document, "units", where, parts),
        model=_only(document, "model", where, parts),
        objectives=objectives,
        training=build(Training, document["training"], f"{where}, training"),
        retrieval=retrieval,
        expects=_expected(document.get("expects") or {}, {*objectives, "retrieval"}, where),
        parts=parts,
        source=dict(document),
    )


def _expected(margins: Mapping[str, Any], known: set[str], where: str) -> dict[str, float]:
    _exactly(margins, known, f"{where}, expects", set())
    return {name: _value(float, margin, f"{where}, expects.{name}") for name, margin in margins.items()}


def _only(document: Mapping[str, Any], section: str, where: str, parts: Parts) -> Part:
    if len(document[section]) != 1:
        raise ConfigError(f"{section} names {list(document[section])}", where, "name exactly one")
    ((name, value),) = document[section].items()
    return _part(section if section == "units" else f"{section}s", name, value, where, parts)


def _part(kind: str, key: str, value: Mapping[str, Any] | None, where: str, parts: Parts) -> Part:
    """The module of this name with its settings; or that of the setting `module`, to have one twice."""
    settings = dict(value or {})
    name = settings.pop("module", key)
    home = parts.home(kind, name)
    module: Any = None if home is None else _module(home)
    if home is None or not hasattr(module, "Settings"):
        raise ConfigError(f"{kind} has no {name}", where, f"take one of: {', '.join(parts.names(kind))}")
    shared = {setting: settings.pop(setting) for setting in ("ratio", "step", "weight", "start") if setting in settings}
    for setting in ("ratio", "weight"):
        given = shared.get(setting, 1)
        if not isinstance(given, int | float) or given <= 0:
            wrong = f"{kind}.{key}.{setting} is {given}"
            raise ConfigError(wrong, where, "set a number above 0, or leave the objective out")
    start = shared.get("start", 0)
    if not isinstance(start, int | float) or not 0 <= start < 1:
        raise ConfigError(f"{kind}.{key}.start is {start}", where, "set the share of the training, from 0 to below 1")
    return Part(home, build(module.Settings, settings, f"{where}, {kind}.{key}"), **shared)


Built = typing.TypeVar("Built")


def build(kind: type[Built], values: Mapping[str, Any], where: str) -> Built:
    """A dataclass from a mapping: no unknown key, none missing, each of its type. Raises ConfigError."""
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    required = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    _exactly(values, set(hints), where, required)
    built = kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in values.items()})
    return typing.cast(Built, built)


def _exactly(values: Mapping[str, Any], known: set[str], where: str, required: set[str] | None = None) -> None:
    unknown, missing = set(values) - known, (known if required is None else required) - set(values)
    if unknown:
        given = f"unknown setting {', '.join(sorted(unknown))}"
        raise ConfigError(given, where, f"known are: {', '.join(sorted(known))}")
    if missing:
        raise ConfigError(f"setting {', '.join(sorted(missing))} is missing", where, "add it")


def _value(hint: Any, value: Any, where: str) -> Any:
    """The value as the field's type; ints pass as floats, lists as tuples, nothing else is converted."""
    options = typing.get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(hint, value, where)  # type: ignore[arg-type]
    if typing.get_origin(hint) is Literal and value in options:
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        hint = next(option for option in options if option is not type(None))
        return _value(hint, value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = [options[0]] * len(value) if options[-1] is Ellipsis else list(options)
        if len(kinds) == len(value):
            return tuple(_value(one, item, where) for one, item in zip(kinds, value, strict=True))
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ConfigError(f"the value is {value!r}", where, f"it should be {_describe(hint)}")


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
