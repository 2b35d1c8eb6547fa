"""params.yaml with what the command line sets on top, and the check of all of it before any work."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from pairloom.errors import ConfigError
from pairloom.typed import build
from pipeline.config import RunConfig
from pipeline.stage import load, names, wanted

T = TypeVar("T")
DEFAULT = "params.yaml"


@dataclass(frozen=True)
class Params:
    """Sections of settings, by the names of the stages. `file` is what messages call the place they are from."""

    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    file: str = DEFAULT

    def section(self, name: str) -> dict[str, Any]:
        """A copy of a section. An empty one where there is none."""
        return dict(self.sections.get(name) or {})

    def with_section(self, name: str, **values: Any) -> Params:
        """The same with these settings of a section in place of its own."""
        return Params({**self.sections, name: {**self.section(name), **values}}, self.file)

    def build(self, kind: type[T], name: str) -> T:
        """The section as a Config. Raises ConfigError that names the file."""
        try:
            return build(kind, self.section(name), f"{self.file}, section {name}")
        except ConfigError as error:  # a Config's own checks know only the usual name
            what, where, fix = error.args
            raise type(error)(what, where.replace(DEFAULT, self.file), fix.replace(DEFAULT, self.file)) from error

    def of_stage(self, name: str) -> Any:
        """The Config of a stage, with the settings that it takes from other sections."""
        stage = load(name)
        listed = any(item.metadata.get("of_list") for item in fields(stage.config_type))
        params = self._with_sources(stage.name) if listed else self
        taken = {key: self._setting(path) for key, path in stage.takes.items()}
        section = taken | params.section(stage.name)
        return params.with_section(stage.name, **section).build(stage.config_type, stage.name)

    def _setting(self, path: str) -> Any:
        """The value of "section.key", or its default."""
        section, _, key = path.partition(".")
        return getattr(self.of_stage(section), key)

    def _with_sources(self, name: str) -> Params:
        """The same with the list's sources in this section: which these are, section `sample` says."""
        from stages import sample

        places = self.build(sample.Config, "sample").places()
        return self.with_section(name, sources=places) if places else self


def read_params(file: Path | None, settings: Sequence[str] = ()) -> Params:
    """The sections of a file, or of params.yaml where there is one, with settings such as "negatives.top_k=12" on top.

    Raises ConfigError if a file that was named is missing, or holds no mapping of mappings.
    """
    place = file or Path(DEFAULT)
    sections = _sections(place) if file is not None or place.exists() else {}
    return with_settings(Params(sections, str(place)), settings)


def with_settings(params: Params, settings: Sequence[str]) -> Params:
    """The same with these settings, each as "section.key=value", on top."""
    sections = dict(params.sections)
    for setting in settings:
        _set(sections, setting)
    return Params(sections, params.file)


def _sections(file: Path) -> dict[str, Any]:
    try:
        sections = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        fix = "name a parameter file with --params, or leave it out for the defaults"
        raise ConfigError(f"cannot read it: {said}", str(file), fix) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"it is not valid YAML: {error}", str(file), "correct the line it names") from error
    if sections is None:
        return {}
    if not isinstance(sections, dict) or not all(isinstance(one, dict | None) for one in sections.values()):
        raise ConfigError("it should hold one mapping a stage", str(file), "see the params.yaml that pairloom ships")
    return {str(name): one or {} for name, one in sections.items()}


def _set(sections: dict[str, Any], setting: str) -> None:
    """Put "section.key=value" into the sections. The value is YAML."""
    path, equals, text = setting.partition("=")
    *parents, key = path.strip().split(".")
    if not equals or not parents or not all((*parents, key)):
        fix = "write it as SECTION.KEY=VALUE, such as negatives.top_k=12"
        raise ConfigError(f"the setting is {setting!r}", "--set", fix)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of {path} is not valid YAML: {text!r}", "--set", "quote the value") from error
    place = sections
    for parent in parents:
        inner = place.get(parent)
        place[parent] = dict(inner) if isinstance(inner, dict) else {}
        place = place[parent]
    place[key] = value


def check_sections(params: Params, own: str | None = None) -> None:
    """Raise ConfigError if a section is neither a stage's nor one of `run`, `sample` and `train`. own: one more."""
    known = {"run", "sample", "train", *names(), *([own] if own else [])}
    unknown = sorted(params.sections.keys() - known)
    if unknown:
        raise ConfigError(f"there is no section {unknown[0]!r}", params.file, f"use one of {', '.join(sorted(known))}")


def check_settings(params: Params) -> None:
    """Raise ConfigError for the first setting of any section that a later stage would refuse."""
    from stages import sample

    params.build(RunConfig, "run")
    params.build(sample.Config, "sample")
    runs = wanted(params.of_stage)
    for name in runs:
        params.of_stage(name)
    for name in params.sections.keys() & set(names()) - set(runs):
        known = {item.name for item in fields(load(name).config_type)}
        unknown = sorted(params.section(name).keys() - known)
        if unknown:
            where = f"{params.file}, section {name}"
            raise ConfigError(f"there is no setting {unknown[0]}", where, f"use one of {', '.join(sorted(known))}")
    if params.sections.get("train") and importlib.util.find_spec("torch"):
        _check_training(params)


def _check_training(params: Params) -> None:
    from systems import recipes
    from trainer import loop

    for name, section in params.section("train").items():
        config = build(loop.Config, section or {}, f"{params.file}, section train.{name}")
        recipes.load(name, config.size, config.overrides(), config.variant)


def check_resources(params: Params) -> None:
    """Raise ConfigError if a file that a stage of this run reads beside its tables is missing, such as weights."""
    for file in _resources(params):
        if not file.is_file():
            raise ConfigError("this file is missing", str(file), f"put it there, or name another in {params.file}")


def _resources(params: Params) -> Iterator[Path]:
    for name in wanted(params.of_stage):
        yield from load(name).resources(params.of_stage(name))
