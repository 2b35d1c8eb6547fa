"""The recipes: one YAML file a system, or a user's own file, which may extend one of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pairloom.errors import ConfigError, InputError
from systems.parts import Shelf

if TYPE_CHECKING:  # to list recipes should not take the seconds that torch does
    from trainer.recipe import Recipe

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The recipes that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def path_of(recipe: str | Path) -> Path:
    """The file of a recipe: a name of ours, or a user's own .yaml file. Raises ConfigError if there is none."""
    if _is_file(recipe):
        if not Path(recipe).is_file():
            raise ConfigError("there is no such recipe file", str(recipe), "check the path, or name one of ours")
        return Path(recipe)
    if recipe not in names():
        fix = f"take one of: {', '.join(names())}; or name a .yaml file"
        raise ConfigError(f"there is no recipe {str(recipe)!r}", "systems/recipes", fix)
    return FOLDER / f"{recipe}.yaml"


def name_of(recipe: str | Path) -> str:
    """What the recipe is called: in metrics, checkpoints and params.yaml."""
    return Path(recipe).stem if _is_file(recipe) else str(recipe)


def _is_file(recipe: str | Path) -> bool:
    return isinstance(recipe, Path) or recipe.endswith((".yaml", ".yml"))


def load(
    recipe: str | Path, size: str = "base", overrides: Mapping[str, Any] | None = None, variant: str | None = None
) -> Recipe:
    """A recipe of ours by name, or a user's by its file.

    `sizes.<size>`, then `variants.<variant>`, then the overrides, replace single settings.

    A user's file may `extends: uniter`, or another file beside it, and name modules of his own (systems.parts.Shelf).
    Raises ConfigError.
    """
    from trainer.recipe import parse

    path, name = path_of(recipe), name_of(recipe)
    document = document_of(recipe)
    sizes = document.pop("sizes", {})
    if size != "base" and size not in sizes:
        raise ConfigError(f"recipe {name} has no size {size}", str(path), f"take one of: {', '.join(['base', *sizes])}")
    variants = document.pop("variants", {})
    if variant is not None and variant not in variants:
        fix = f"take one of: {', '.join(variants)}" if variants else "leave it out: this recipe has none"
        raise ConfigError(f"recipe {name} has no variant {variant}", str(path), fix)
    document = merge(merge(document, sizes.get(size, {})), variants[variant] if variant is not None else {})
    document = merge(document, overrides or {})
    if only := document.pop("only", None):  # of the objectives of the recipe that it extends
        left_out = document["objectives"].keys() - set(only)
        for part in ("objectives", "expects"):
            kept = {key: value for key, value in (document.get(part) or {}).items() if key not in left_out}
            document[part] = kept
    where = str(path) if _is_file(recipe) else f"systems/recipes/{name}.yaml"
    return parse(document, name, size, where, Shelf(str(path.parent.resolve()) if _is_file(recipe) else None))


def document_of(recipe: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The file as mappings, on top of the recipe that it `extends`, whose promises are not its own.

    above: the files that extend this one. Raises ConfigError for a circle of them, InputError where it is not YAML.
    """
    path = path_of(recipe).resolve()
    if path in above:
        circle = " → ".join(file.name for file in (*above, path))
        raise ConfigError(f"recipes extend each other in a circle: {circle}", str(path), "leave one `extends` out")
    document = _read(path)
    below = document.pop("extends", None)
    if below is None:
        return document
    if _is_file(below):
        below = path.parent / below
    extended = document_of(below, (*above, path)) | {"expects": {}}
    if listed := extended.get("variants"):
        extended["variants"] = {name: variant | {"expects": {}} for name, variant in listed.items()}
    return merge(extended, document)


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`. Mappings are merged, all else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def variants(recipe: str | Path) -> list[str]:
    """The names of its variants."""
    return list(document_of(recipe).get("variants", {}))


def in_brief(recipe: str | Path) -> dict[str, Any]:
    """Its paper and the names of its objectives, without importing them."""
    document = document_of(recipe)
    objectives = [name for name in document["objectives"] if name in document.get("only", document["objectives"])]
    return {"paper": document["paper"], "objectives": objectives}


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"the recipe cannot be read: {error}", str(path), "see `pairloom recipe show uniter`"
        ) from error
    if not isinstance(document, dict):
        raise InputError("the recipe holds no settings", str(path), "see `pairloom recipe show uniter`")
    return document
