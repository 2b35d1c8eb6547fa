"""A recipe: what is trained, and how, as frozen dataclasses. A wrong key or value stops before any work."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pickle
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pairloom.errors import ConfigError
from pairloom.loader.plan import Text
from pairloom.typed import Positive, Range, Share, build, check_ranges
from trainer.contract import Alone, Matcher, Model, Numbering, Objective, Reading, Several, Unit


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """Section `training.adversarial`: arXiv:2006.06195, section 3, with the passes and norms of its code.

    steps: passes, the first with no perturbation. Their gradients are added. lr: length of each step of the
    perturbation. most: its largest norm. kl: weight of KL(clean ‖ perturbed) + KL(perturbed ‖ clean) of what is
    predicted. together: words and regions are perturbed in the same passes, else in passes of their own, averaged.
    """

    steps: Positive
    lr: Annotated[float, Range(above=0)]
    words: bool = True
    regions: bool = True
    norm: Literal["l2", "linf"] = "l2"
    most: float | None = None
    kl: float = 1.5
    together: bool = True

    def __post_init__(self) -> None:
        check_ranges(self)
        if not (self.words or self.regions):
            raise ConfigError(
                "neither words nor regions are perturbed", "training.adversarial", "set one of them to true"
            )


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """An entry of `training.sgd_of`: stochastic gradient descent for some parameters, on the schedule of the others."""

    lr: Annotated[float, Range(above=0)]
    momentum: Share = 0.9
    weight_decay: Annotated[float, Range(0)] = 0.0  # not on biases, norms and scales

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Training:
    """Section `training`: the optimiser's settings."""

    steps: Positive
    batch_size: Positive  # rows; with max_tokens, rows that are sorted by length and cut into batches together
    lr: Annotated[float, Range(0)]
    betas: tuple[Share, Share]
    eps: Annotated[float, Range(0)]
    weight_decay: Annotated[float, Range(0)]  # not on biases, norms and scales
    warmup: Share  # share of the steps over which lr rises from 0
    schedule: Literal["linear", "cosine", "drops"]  # how lr falls afterwards: to 0, or to a tenth at each of `drops`
    clip: Annotated[float, Range(above=0)] | None  # largest norm of the gradient
    drops: tuple[Share, ...] = ()  # shares of the steps
    optimiser: Literal["adamw", "bert_adam"] = "adamw"  # see trainer/bert_adam.py
    lr_of: Mapping[str, float] = field(default_factory=dict)  # another lr for parameters whose names begin so
    sgd_of: Mapping[str, Sgd] = field(default_factory=dict)  # another optimiser for parameters whose names begin so
    adversarial: Adversarial | None = None  # embeddings perturbed against the learner: trainer/adversarial.py
    balance: Literal["fixed", "adaptive"] = "fixed"  # of the losses of one step: trainer/balance.py
    max_tokens: Positive | None = None  # words and regions of a batch, instead of a number of rows

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.schedule == "drops") != bool(self.drops):
            given = f"training.schedule is {self.schedule} and training.drops {list(self.drops)}"
            raise ConfigError(given, "the recipe", "set schedule to drops, and drops such as [0.6, 0.9], or neither")


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Section `retrieval`: how images and texts of the val split are matched after training."""

    objective: str  # whose similarity decides
    max_images: Positive = 128  # pairs grow with its square

    def __post_init__(self) -> None:
        check_ranges(self)


class Parts(Protocol):
    """Where the modules are that recipes name, such as systems.parts.Shelf. Small and frozen: it is pickled."""

    def home(self, kind: str, name: str) -> str | None:
        """Of a module of this kind (units, models, objectives): its dotted name or its file. None if there is none."""

    def names(self, kind: str) -> list[str]:
        """The modules of this kind."""


@dataclass(frozen=True)
class Part:
    """A module that the recipe names, with its settings.

    home: where it is, a dotted name or a file. For objectives alone: ratio, how often it is drawn; step, the name of
    the step that it shares with others, and weight, of its loss there, which counts from the share `start` of the
    training on. A step is one batch and one pass of the model, drawn as often as all its objectives. One that is
    `apart` has a pass to itself on the same rows, made ready for it alone.
    """

    home: str
    settings: Any
    ratio: Annotated[float, Range(above=0)] = 1
    step: str = ""
    weight: Annotated[float, Range(above=0)] = 1
    start: Annotated[float, Range(0, below=1)] = 0
    apart: bool = False

    def __post_init__(self) -> None:
        check_ranges(self)

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
        shared = (self.ratio, self.step, self.weight, self.start, self.apart)
        return _unpickled, (self.home, pickle.dumps(self.settings), *shared)

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


@dataclass(frozen=True, kw_only=True)
class Document:
    """The sections of a recipe's file, its sizes merged into it; of a part's settings, the part's module knows more."""

    paper: str
    text: Text
    units: Mapping[str, Any]
    model: Mapping[str, Any]
    objectives: Mapping[str, Any]
    training: Training
    retrieval: Retrieval | None
    expects: Mapping[str, float] | None = None


def parse(document: Mapping[str, Any], name: str, size: str, where: str, parts: Parts) -> Recipe:
    """A recipe from its document. Raises ConfigError naming the key."""
    read = build(Document, document, where)
    objectives = {key: _part("objectives", key, value, where, parts) for key, value in read.objectives.items()}
    if read.retrieval is not None and read.retrieval.objective not in objectives:
        given = f"retrieval.objective is {read.retrieval.objective}"
        raise ConfigError(given, where, f"take one of: {', '.join(objectives)}")
    if read.retrieval is not None and not isinstance(objectives[read.retrieval.objective].module, Matcher):
        given = f"objective {read.retrieval.objective} does not say how well image and text match"
        raise ConfigError(given, f"{where}, retrieval", "name one that has a `similarity`, or set retrieval to null")
    _refuse_unread_texts(read.text, objectives, where)
    _refuse_passes(objectives, read.training, where)
    expects = dict(read.expects or {})
    if unknown := expects.keys() - objectives.keys() - {"retrieval"}:
        given = f"expects names {', '.join(sorted(unknown))}"
        raise ConfigError(given, where, f"take one of: {', '.join([*objectives, 'retrieval'])}")
    return Recipe(
        name=name,
        size=size,
        paper=read.paper,
        text=read.text,
        units=_only("units", read.units, where, parts),
        model=_only("models", read.model, where, parts),
        objectives=objectives,
        training=read.training,
        retrieval=read.retrieval,
        expects=expects,
        parts=parts,
        source=dict(document),
    )


def _refuse_unread_texts(text: Text, objectives: Mapping[str, Part], where: str) -> None:
    """Raises ConfigError where more texts are drawn than any objective compares the image with."""
    count = sum(draw.count for draw in text.draw)
    if count > 1 and not any(isinstance(part.module, Several) for part in objectives.values()):
        given = f"text.draw draws {count} texts of an image, and no objective reads more than one"
        raise ConfigError(given, where, "draw one text, or name an objective that has SEVERAL_TEXTS")


def _refuse_passes(objectives: Mapping[str, Part], training: Training, where: str) -> None:
    """Raises ConfigError where a step has no first pass, or several that adversarial training would perturb."""
    apart = [name for name, part in objectives.items() if part.apart]
    shared = {part.step for part in objectives.values() if part.step and not part.apart}
    for name in apart:
        if objectives[name].step not in shared:
            given = f"objective {name} is apart, but no other objective of its step has a first pass"
            raise ConfigError(given, where, "give both one `step`, and leave `apart` out of one of them")
    if apart and training.adversarial is not None:
        given = f"objective {apart[0]} is apart, and training is adversarial"
        raise ConfigError(given, where, "leave out `apart` or training.adversarial: it perturbs one pass a step")


def _only(kind: str, section: Mapping[str, Any], where: str, parts: Parts) -> Part:
    if len(section) != 1:
        raise ConfigError(f"{kind} are {list(section)}", where, "name exactly one")
    ((name, value),) = section.items()
    return _part(kind, name, value, where, parts)


SHARED = ("ratio", "step", "weight", "start", "apart")  # settings that every objective has, beside those of its module


def _part(kind: str, key: str, value: Mapping[str, Any] | None, where: str, parts: Parts) -> Part:
    """The module of this name with its settings, or that of the setting `module`, to have one twice."""
    settings = dict(value or {})
    name = settings.pop("module", key)
    home = parts.home(kind, name)
    module: Any = None if home is None else _module(home)
    if home is None or not hasattr(module, "Settings"):
        raise ConfigError(f"{kind} has no {name}", where, f"take one of: {', '.join(parts.names(kind))}")
    shared: dict[str, Any] = {key: settings.pop(key) for key in SHARED if key in settings}
    inside = f"{where}, {kind}.{key}"
    return build(Part, {"home": home, "settings": build(module.Settings, settings, inside), **shared}, inside)
