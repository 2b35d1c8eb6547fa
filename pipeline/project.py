"""A data project of a user's own: its dvc.yaml, derived from the stages, and the versions that stand for our code."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from pairloom.errors import ConfigError, InputError
from pairloom.store.folder import ASIDE, MANIFEST
from pipeline.stage import asking, load, on_request, order
from stages import sample

TEMPLATES = Path(__file__).parent / "templates"
VERSIONS = "versions.yaml"
HEAD = """# The pipeline: DVC orders the stages, pairloom's executor knows the shards. Outputs are `persist`, so that a
# killed stage resumes, and not cached: DVC looks at the manifests, which hold all shards' hashes (docs/how-to/dvc.md).
# {versions} stands for pairloom's code: after an upgrade, `pairloom init --refresh .` writes it again, and DVC reruns
# the stages of which it changed. With `data/shards` and `true` below DVC keeps the shards and models in its cache, so
# that `dvc push` takes them.
vars:
- shards_out: &shards data/shards/_pairloom/manifest.json
- cached: &cached false
"""
STORED = {"persist": True, "cache": False}
CACHED = "*cached"  # in the text, the anchor above: DVC takes no ${...} where it wants true or false
SHARDS = "*shards "  # another anchor: a key that is one ends with a space
MANIFEST_OF_SHARDS = f"data/shards/{MANIFEST}"


def stages(urls: str) -> dict[str, Any]:
    """The stages of a dvc.yaml. urls: the list. A path of this machine is a dependency."""
    found: dict[str, Any] = {"sample": _sample(urls)}
    for name in (*order()[:-1], *on_request(), "shards"):
        found[name] = _stage(name)
    found["train"] = {
        "foreach": "${train}",
        "do": {
            "cmd": "pairloom train --recipe ${key} --shards data/shards --out models/${key}",
            "deps": [MANIFEST_OF_SHARDS],
            "params": ["train.${key}", {VERSIONS: ["pairloom"]}],
            "outs": [{"models/${key}": {"cache": CACHED}}],
            "metrics": [{"metrics/train-${key}.json": {"cache": False}}],
            "plots": [{"plots/train-${key}.csv": {"cache": False}}],
        },
    }
    reported = ("sample", *order(), *on_request())
    found["report"] = {
        "cmd": "pairloom report --data data --out data/report/index.html",
        "deps": [MANIFEST_OF_SHARDS, *(_state(f"quarantine/{name}") for name in found if name in reported)],
        "outs": [{"data/report": {"cache": False}}],
    }
    return found


def _stage(name: str) -> dict[str, Any]:
    asked = asking(name)
    inputs = (*load(name).always, *load(name).asks)
    table = {SHARDS: {"persist": True, "cache": CACHED}} if name == "shards" else {_state(name): STORED}
    return {
        "cmd": f"pairloom stage {name} --redo{' --if-asked' if asked else ''}",
        "deps": [_state(needed) for needed in inputs],
        "params": [name, *asked, {VERSIONS: [name]}],
        "outs": [table, {_state(f"quarantine/{name}"): STORED}],
        "metrics": [{f"metrics/{name}.json": {"cache": False}}],
    }


def _state(table: str) -> str:
    """What DVC knows of a table: the folder of its manifest. The shards beside it would be a million files to hash."""
    return f"data/{table}/{ASIDE}"


def _sample(urls: str) -> dict[str, Any]:
    local = [] if "://" in urls else ["${sample.urls}"]
    return {
        "cmd": "pairloom stage sample --redo",
        **({"deps": local} if local else {}),
        "params": ["sample", {VERSIONS: ["sample"]}],
        "outs": [{"data/sample": STORED}, {_state("urls"): STORED}, {_state("quarantine/sample"): STORED}],
        "metrics": [{"metrics/sample.json": {"cache": False}}],
    }


def versions() -> dict[str, Any]:
    """pairloom's version, and of each stage its own and its table's."""
    return {"pairloom": version("pairloom"), **{name: version_of(name) for name in ("sample", *order(), *on_request())}}


def version_of(name: str) -> str:
    """What stands for a stage's code in versions.yaml."""
    if name == "sample":
        return str(sample.VERSION)
    stage = load(name)
    return f"{stage.version} (table {stage.output.version})"


def is_outdated(folder: Path, name: str) -> bool:
    """Whether a folder's versions.yaml, if it has one, notes another version of a stage than this pairloom's."""
    file = folder / VERSIONS
    return file.is_file() and (yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get(name) != version_of(name)


def write(folder: Path, urls: str, format: str | None = None) -> list[Path]:
    """Write the project's files into a folder. Returns their paths. Raises ConfigError if one of them is there already.

    format: of a data set (docs/how-to/import.md), where `urls` is no list.
    """
    head = HEAD.format(versions=VERSIONS)
    texts = {
        "dvc.yaml": head + _as_yaml({"stages": stages(urls)}),
        "params.yaml": _params(urls, format),
        VERSIONS: yaml.safe_dump(versions(), sort_keys=False),
    }
    there = [name for name in texts if (folder / name).exists()]
    if there:
        fix = "name another folder, or remove them; `pairloom init --refresh` only updates versions.yaml"
        raise ConfigError(f"the folder has {', '.join(there)} already", str(folder), fix)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        ignore(folder)
    except OSError as error:
        fix = "name a folder that can be written"
        raise InputError(f"cannot write the project: {error.strerror or error}", str(folder), fix) from error
    return [folder / name for name in (*texts, ".gitignore")]


def _params(urls: str, format: str | None) -> str:
    text = (TEMPLATES / "params.yaml").read_text(encoding="utf-8").replace("{urls}", _quoted(urls))
    if format is None:
        return text
    asked = f"  format: {_quoted(format)} # what `urls` is: docs/how-to/import.md\n"
    return text.replace("  rows_per_shard:", f"{asked}  rows_per_shard:", 1).replace("  url_column: url\n", "")


def ignore(folder: Path) -> list[str]:
    """Keep what runs make out of git: the lines that its .gitignore lacked. Lines that are there stay."""
    file = folder / ".gitignore"
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    wanted = (TEMPLATES / "gitignore").read_text(encoding="utf-8").splitlines()
    added = [line for line in wanted if line not in before.splitlines()]
    start = before if not before or before.endswith("\n") else f"{before}\n"
    if added:
        file.write_text(start + "".join(f"{line}\n" for line in added), encoding="utf-8")
    return added


def refresh(folder: Path) -> list[str]:
    """Write the versions again. Returns the names of those that changed. Raises InputError without a project."""
    file = folder / VERSIONS
    if not file.is_file():
        raise InputError("there is no data project here", str(file), "make one with `pairloom init DIR`")
    before, now = yaml.safe_load(file.read_text(encoding="utf-8")) or {}, versions()
    file.write_text(yaml.safe_dump(now, sort_keys=False), encoding="utf-8")
    return [name for name in now if before.get(name) != now[name]]


def _as_yaml(values: dict[str, Any]) -> str:
    text: str = yaml.dump(values, Dumper=_Plain, sort_keys=False, width=120)
    return text.replace(f"'{CACHED}'", CACHED).replace(f"'{SHARDS}'", SHARDS)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # everything is written out where it stands


def _quoted(text: str) -> str:
    return yaml.safe_dump(text, width=1000).splitlines()[0]
