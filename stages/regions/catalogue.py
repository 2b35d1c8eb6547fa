"""The catalogue of detectors: one file of settings each in detectors/, checked and turned into a dataclass.

A detector's name is that of a file in detectors/, the path of a user's own file of the same form (ending in .yaml), or
`detectron2:CONFIG`, a config of detectron2's model zoo or the path of one. A file may start from another one with
`base: NAME` and give only what differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from pairloom.errors import ConfigError
from pairloom.typed import build
from stages.regions.numbers import Numbers
from stages.regions.published.settings import FasterRCNN

FOLDER = Path(__file__).parent / "detectors"
ZOO = "detectron2:"
ENDINGS = (".yaml", ".yml")  # of the user's own files


@dataclass(frozen=True, kw_only=True)
class Detector(Numbers):
    """The starter: how it sees a picture, proposes, pools and selects. Units are in detectors/starter.yaml."""

    name: str
    family: Literal["starter"]  # the module of stages/regions that loads it
    architecture: str
    backbone: str
    checkpoint: str
    licence: str
    short_side: int
    long_side: int
    anchor_sizes: tuple[int, ...]
    anchor_ratios: tuple[float, ...]
    rpn_channels: tuple[int, ...]
    rpn_before_nms: int
    rpn_nms: float
    rpn_proposals: int
    rpn_train_proposals: int
    pool_size: int
    pool_samples: int
    train_regions: int
    imagenet_regions: int
    imagenet_score: float
    feature_width: int
    prob_width: int
    selection: str


Entry: TypeAlias = Detector | FasterRCNN
FAMILIES: dict[str, type[Detector] | type[FasterRCNN]] = {"starter": Detector, "published": FasterRCNN}


def names() -> list[str]:
    """The detectors that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Entry:
    """The detector of this name. Raises ConfigError when there is none or its file says something impossible."""
    if name.startswith(ZOO):
        from stages.regions.published.zoo import from_config  # detectron2 takes seconds to import

        return from_config(name, name.removeprefix(ZOO))
    values = {"name": Path(name).stem} | settings(name)
    kind = FAMILIES.get(str(values.get("family")))
    if kind is None:
        raise ConfigError(
            f"detector {name} is of the family {values.get('family')!r}",
            where=str(file(name)),
            fix=f"set one of {', '.join(FAMILIES)}",
        )
    return build(kind, values, str(file(name)))


def starter() -> Detector:
    """The settings of the detector that ships with the project."""
    found = load("starter")
    assert isinstance(found, Detector)
    return found


def files(name: str) -> tuple[Path, ...]:
    """The files that decide a detector's settings: its own, and those it is based on."""
    if name.startswith(ZOO):
        from stages.regions.published.zoo import config_file

        return (config_file(name.removeprefix(ZOO)),)
    path = file(name)
    base = yaml.safe_load(path.read_text(encoding="utf-8")).get("base")
    return (path, *(files(_beside(path, str(base))) if base else ()))


def is_own(name: str) -> bool:
    """Whether a detector's name is the path of a file of the user's."""
    return name.endswith(ENDINGS) and not name.startswith(ZOO)


def _beside(path: Path, base: str) -> str:
    """The `base` that a file names: one that lies beside it, or as it is."""
    return str(path.parent / base) if is_own(base) and (path.parent / base).is_file() else base


def file(name: str) -> Path:
    """The file of this detector's settings. Raises ConfigError when there is none."""
    path = Path(name) if is_own(name) else FOLDER / f"{name}.yaml"
    if not path.is_file() or (path.parent == FOLDER and path.stem not in names()):
        raise ConfigError(
            f"there is no detector {name!r}",
            where="regions.detector in params.yaml",
            fix=f"choose one of {names()}, a .yaml file of your own, or {ZOO}CONFIG",
        )
    return path


def settings(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The plain values of a detector's file, laid over those of the file it is based on."""
    path = file(name)
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"it is not valid YAML: {error}", where=str(path), fix="correct the line it names") from error
    if not isinstance(values, dict):
        raise ConfigError("it is not a mapping", where=str(path), fix="see the files of stages/regions/detectors")
    base = values.pop("base", None)
    if base is None:
        return values
    base = _beside(path, str(base))
    if base in (name, *above):
        raise ConfigError("it is based on itself", where=str(path), fix="name another detector as `base`")
    return merged(settings(base, (name, *above)), values)


def is_detector(path: Path) -> bool:
    """Whether a YAML file seems to be a detector's settings: it says what it is based on, or of which family it is."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(values, dict) and isinstance(values.get("base", values.get("family")), str)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings one in another are merged, anything else is replaced."""
    both = {
        key: merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both
