"""WebDataset: tars of KEY.jpg, KEY.txt and KEY.json, as open_clip, img2dataset's readers and Energon take them.

KEY.txt is the first caption, KEY.json has all of them with what else is known, under img2dataset's names where it has
such. With features also KEY.features.npy [n, d] and KEY.boxes.npy <f4 [n, 4] in pixels. A key ends at its first dot, so
that one with a dot or a slash is written with _ for it. KEY.json has the true one. Energon reads a folder that
has .nv-meta: which tar is of which split, how many samples each has, and where they begin (KEY.tar.idx).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from formats.exports.pairs import ENDINGS, Caption, Pair, parts
from formats.exports.settings import Settings
from pairloom.errors import InputError
from pairloom.store.names import shard_name

ENCODINGS = ("jpg", "png", "webp")
PICTURES = "taken"
FILES = "*.tar"
UNFIT = frozenset("./\\ ")


def entry(pair: Pair, settings: Settings) -> tuple[str, list[tuple[str, bytes]]]:
    """(name in the tar, (ending, content) of each of its files) of a pair."""
    return tar_name(pair.key), list(members(pair, settings))


class Writer:
    """FOLDER/00000.tar …. A tar ends with the pair that fills it."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._counts: list[int] = list(state.get("counts", []))  # pairs of each tar
        self._starts: list[int] = list(state.get("starts", []))  # of the pairs of the last one
        self._tar: tarfile.TarFile | None = None
        for left in [*folder.glob("*.tar"), *folder.glob("*.tar.idx")]:
            if int(left.name.partition(".")[0]) >= len(self._counts):  # of a run that was killed
                left.unlink()
        if self._starts:
            self._open(int(state["length"]))

    def add(self, entry: tuple[str, list[tuple[str, bytes]]]) -> None:
        if self._tar is None:
            self._counts.append(0)
            self._open(0)
        assert self._tar is not None
        self._starts.append(self._tar.offset)
        name, files = entry
        for ending, content in files:
            _put(self._tar, f"{name}.{ending}", content)
        self._counts[-1] += 1
        if self._tar.offset >= self._settings.shard_bytes:
            self._end()

    @property
    def _path(self) -> Path:
        return self._folder / f"{shard_name(len(self._counts) - 1)}.tar"

    def _open(self, length: int) -> None:
        """The last tar, with so many bytes of it kept."""
        self._file = self._path.open("r+b" if length else "w+b")
        self._file.truncate(length)
        self._file.seek(length)
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)

    def _end(self) -> None:
        if self._tar is None:
            return
        end = self._tar.offset
        self._tar.close()
        self._file.close()
        if self._settings.energon:
            np.array([*self._starts, end], "<u8").tofile(self._path.with_suffix(".tar.idx"))
        self._tar, self._starts = None, []

    def flush(self) -> dict[str, Any]:
        if self._tar is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        length = self._tar.offset if self._tar is not None else 0
        return {"counts": self._counts, "starts": self._starts, "length": length}

    def close(self) -> None:
        self._end()
        counts = {f"{shard_name(number)}.tar": count for number, count in enumerate(self._counts)}
        (self._folder / "sizes.json").write_text(json.dumps(counts) + "\n", encoding="utf-8")  # webdataset's own list


def tar_name(key: str) -> str:
    """What the key's files begin with: the key itself, or one without dots and slashes that stands for it alone."""
    plain = "".join("_" if character in UNFIT or not character.isprintable() else character for character in key)
    if plain == key:
        return key
    return f"{plain}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def members(pair: Pair, settings: Settings) -> Iterator[tuple[str, bytes]]:
    """(ending, content) of a pair's files."""
    if pair.image:
        yield ENDINGS.get(pair.format, pair.format), pair.image
    yield "txt", (pair.captions[0].text if pair.captions else "").encode()
    yield "json", json.dumps(facts(pair), ensure_ascii=False).encode()
    if settings.with_features and pair.regions is not None:
        for name, values in (("features", pair.regions.features), ("boxes", pair.regions.boxes)):
            file = io.BytesIO()
            np.save(file, np.asarray(values))
            yield f"{name}.npy", file.getvalue()


def facts(pair: Pair) -> dict[str, Any]:
    """What KEY.json has."""
    return {
        "key": pair.key,
        "caption": pair.captions[0].text if pair.captions else "",
        "captions": [{"text": one.text, "lang": one.lang, "kind": one.kind} for one in pair.captions],
        "url": pair.url,
        "width": pair.width,
        "height": pair.height,
        "licence": pair.licence,
        "source": pair.source,
        "tags": list(pair.tags),
        **{name: value for name, value in pair.extra.items() if name != "key"},
    }


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    try:
        tar.addfile(member, io.BytesIO(content))
    except ValueError as error:  # a name that is too long
        raise InputError(f"a tar can't hold {name!r}: {error}", str(tar.name), "take another --key") from error


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of all tars of a folder, or of one."""
    for path in parts(folder, FILES):
        with tarfile.open(path) as tar:
            files: dict[str, bytes] = {}
            before = ""
            for member in tar:
                name, _, ending = member.name.partition(".")
                if name != before and files:
                    yield _pair(files)
                    files = {}
                before = name
                file = tar.extractfile(member)
                files[ending] = file.read() if file else b""
            if files:
                yield _pair(files)


def _pair(parts: Mapping[str, bytes]) -> Pair:
    said = json.loads(parts["json"])
    ending = next((each for each in ENCODINGS if each in parts), "")
    return Pair(
        key=said["key"],
        image=parts.get(ending, b""),
        format={"jpg": "jpeg"}.get(ending, ending),
        width=said["width"],
        height=said["height"],
        captions=[Caption(one["text"], one["lang"], one["kind"]) for one in said["captions"]],
    )


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Energon's description of the folder, where it is asked for."""
    if not settings.energon:
        return
    counts: dict[str, int] = {}
    for split in splits:
        sizes = json.loads((out / split / "sizes.json").read_text(encoding="utf-8"))
        counts |= {f"{split}/{name}": count for name, count in sizes.items()}
    meta = out / ".nv-meta"
    meta.mkdir(exist_ok=True)
    parts = {split: [name for name in counts if name.startswith(f"{split}/")] for split in splits}
    sample = {"__module__": "megatron.energon", "__class__": "CaptioningSample"}
    (meta / ".info.json").write_text(json.dumps({"shard_counts": counts}), encoding="utf-8")
    files = {
        "split.yaml": {"exclude": [], "split_parts": parts},
        "dataset.yaml": {"sample_type": sample, "field_map": {"image": "jpg,png,webp", "caption": "txt"}},
    }
    for name, content in files.items():
        (meta / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
