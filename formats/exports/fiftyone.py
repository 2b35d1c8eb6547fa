"""FiftyOne's own layout (FiftyOneDataset): metadata.json, samples.json and the pictures under data/.

A sample has `captions` (classifications whose label is the text, with `lang` and `kind` where these are known),
`regions` (detections with class, score and `attribute`), `object_tags` (classifications), key, url, licence, source and
split. Its tag is the split. FiftyOne draws ids at random. Here they are made of the key, so that the same shards give
the same files. metadata.json says that it is of VERSION, and any later FiftyOne brings it up to date as it reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from formats.exports.numbering import Lists
from formats.exports.pairs import Caption, Pair
from formats.exports.settings import Settings
from formats.features.writing import put

VERSION = "1.0.0"
PICTURES = "needed"
FOLDER = "data"
TEXTS = ("key", "url", "licence", "source", "split")
FIELD = "fiftyone.core.fields."
TEXT, FLOAT, INT, ID, DATE = (f"{FIELD}{name}Field" for name in ("String", "Float", "Int", "ObjectId", "DateTime"))
LIST, EMBEDDED, VECTOR = (f"{FIELD}{name}Field" for name in ("List", "EmbeddedDocument", "Vector"))


def entry(pair: Pair, settings: Settings) -> tuple[str, bytes, dict[str, Any]]:
    """(the picture's file below the folder, its bytes, the sample but for its id)."""
    digest = hashlib.sha256(pair.key.encode("utf-8", "surrogatepass"))
    sample: dict[str, Any] = {"filepath": f"{FOLDER}/{pair.file_name}", "tags": [pair.split] if pair.split else []}
    sample |= {"metadata": _metadata(pair), "_media_type": "image", "_rand": _share(digest.digest())}
    said = [{"label": one.text, "lang": one.lang, "kind": one.kind} for one in pair.captions]
    words = [{"label": text} for text in pair.tags]
    sample["captions"] = _labels("Classification", pair.key, "caption", said)
    sample["regions"] = _labels("Detection", pair.key, "region", _regions(pair, settings))
    sample["object_tags"] = _labels("Classification", pair.key, "tag", words)
    sample |= {name: getattr(pair, name) or None for name in TEXTS}
    return sample["filepath"], pair.image, sample


class Writer:
    """FOLDER/metadata.json, FOLDER/samples.json and FOLDER/data."""

    def __init__(self, folder: Path, settings: Settings, state: Mapping[str, Any]) -> None:
        self._folder, self._settings = folder, settings
        self._lists = Lists(folder, ("samples",), state.get("lists", {}))
        self._count = int(state.get("count", 0))

    def add(self, entry: tuple[str, bytes, dict[str, Any]]) -> None:
        name, image, sample = entry
        put(self._folder, name, image)
        # FiftyOne shows samples by their id, so it begins with the place in the order.
        self._lists.add("samples", sample | {"_id": {"$oid": f"{self._count:08x}{_hex(sample['key'])[:16]}"}})
        self._count += 1

    def flush(self) -> dict[str, Any]:
        return {"lists": self._lists.flush(), "count": self._count}

    def close(self) -> None:
        self._lists.close()
        self._lists.write(self._folder / "samples.json", {"samples": "@samples"})
        text = json.dumps(_document(self._settings), ensure_ascii=False, indent=1)
        (self._folder / "metadata.json").write_text(text + "\n", encoding="utf-8")


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _share(digest: bytes) -> float:
    """A number from 0 to 1, by which FiftyOne draws samples at random."""
    return int.from_bytes(digest[:4]) / 2**32


def _metadata(pair: Pair) -> dict[str, Any]:
    sides = {"width": pair.width, "height": pair.height} if pair.width and pair.height else {}
    kind = f"image/{pair.format}" if pair.format else None
    return {"_cls": "ImageMetadata", "size_bytes": len(pair.image), "mime_type": kind, **sides}


def _labels(kind: str, key: str, what: str, labels: list[dict[str, Any]]) -> dict[str, Any]:
    """FiftyOne's list of labels of this kind. What is None is left out."""
    found = []
    for number, label in enumerate(labels):
        own = {name: value for name, value in label.items() if value is not None}
        head = {"_id": {"$oid": _hex(f"{key}\n{what}\n{number}")[:24]}, "_cls": kind, "tags": []}
        found.append(head | ({"attributes": {}} if kind == "Detection" else {}) | own)
    return {"_cls": f"{kind}s", f"{kind.lower()}s": found}


def _regions(pair: Pair, settings: Settings) -> list[dict[str, Any]]:
    """The regions, boxes as x y width height in shares of the picture's sides."""
    found = pair.regions
    if found is None:
        return []
    sides = [found.width, found.height] * 2 if found.width and found.height else [1] * 4
    corners = found.boxes.astype(np.float64) / sides
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    columns: dict[str, list[Any]] = {
        "label": _named(found.class_ids, settings.classes),
        "confidence": _scores(found.class_scores),
        "attribute": _named(found.attribute_ids, settings.attributes),
        "attribute_confidence": _scores(found.attribute_scores),
    }
    return [
        {"bounding_box": box, **{name: values[row] for name, values in columns.items() if values}}
        for row, box in enumerate(boxes)
    ]


def _named(ids: Any, names: Any) -> list[str]:
    return [names[number] for number in ids.tolist()] if ids is not None and names else []


def _scores(scores: Any) -> list[float]:
    return [round(score, 6) for score in scores.astype(np.float64).tolist()] if scores is not None else []


def _field(name: str, kind: str, subfield: str | None = None, of: str | None = None, **more: Any) -> dict[str, Any]:
    """A field of FiftyOne's schema. of: the class of its embedded documents."""
    own = {"name": name, "ftype": kind, "embedded_doc_type": of, "subfield": subfield, "fields": more.get("fields", [])}
    own |= {"db_field": more.get("stored", name), "description": more.get("description"), "info": None}
    return own | {"read_only": more.get("read_only", False)}


def _label_field(name: str, kind: str, fields: list[dict[str, Any]], description: str) -> dict[str, Any]:
    """A field that holds a list of labels of this kind."""
    common = [_field("id", ID, stored="_id"), _field("tags", LIST, TEXT), _field("label", TEXT)]
    common += [_field("confidence", FLOAT)]
    of = f"fiftyone.core.labels.{kind}"
    inner = _field(f"{kind.lower()}s", LIST, EMBEDDED, of, fields=common + fields)
    outer = [inner] if kind == "Detection" else [inner, _field("logits", VECTOR)]
    return _field(name, EMBEDDED, of=f"{of}s", fields=outer, description=description)


def _document(settings: Settings) -> dict[str, Any]:
    """What FiftyOne knows of the whole dataset, above all its schema."""
    logits = _field("logits", VECTOR)
    facts = [_field("size_bytes", INT), _field("mime_type", TEXT), _field("width", INT), _field("height", INT)]
    facts += [_field("num_channels", INT)]
    attributes = _field("attributes", f"{FIELD}DictField", EMBEDDED, "fiftyone.core.labels.Attribute")
    boxes = [attributes, _field("bounding_box", LIST, FLOAT), _field("mask", f"{FIELD}ArrayField")]
    boxes += [_field("mask_path", TEXT), _field("index", INT)]
    boxes += [_field("attribute", TEXT), _field("attribute_confidence", FLOAT)]
    fields = [_field("id", ID, stored="_id"), _field("filepath", TEXT), _field("tags", LIST, TEXT)]
    fields += [_field("metadata", EMBEDDED, of="fiftyone.core.metadata.ImageMetadata", fields=facts)]
    fields += [_field("_media_type", TEXT), _field("_rand", FLOAT)]
    fields += [_field(name, DATE, read_only=True) for name in ("created_at", "last_modified_at")]
    spoken = [logits, _field("lang", TEXT), _field("kind", TEXT)]
    fields += [_label_field("captions", "Classification", spoken, "a caption each; lang: its language")]
    fields += [_label_field("regions", "Detection", boxes, "the detector's regions, best first")]
    fields += [_label_field("object_tags", "Classification", [logits], "words made of the regions")]
    fields += [_field(name, TEXT) for name in TEXTS]
    head = {"name": settings.name, "version": VERSION, "media_type": "image", "group_media_types": {}, "tags": []}
    head |= {"info": {"made_by": "pairloom"}, "app_config": {}, "classes": {"regions": list(settings.classes)}}
    empty = ("default_mask_targets", "mask_targets", "skeletons", "annotation_runs", "brain_methods", "evaluations")
    head |= {key: {} for key in (*empty, "runs")} | {"saved_views": [], "workspaces": [], "default_classes": []}
    return head | {"sample_fields": fields, "frame_fields": []}


def read(folder: Path) -> Iterator[Pair]:
    """The pairs of a folder. Its JSON is in memory."""
    for sample in json.loads((folder / "samples.json").read_text(encoding="utf-8"))["samples"]:
        said = sample["captions"]["classifications"]
        captions = [Caption(one["label"], one.get("lang"), one.get("kind")) for one in said]
        facts = sample["metadata"]
        yield Pair(
            key=sample["key"],
            image=(folder / sample["filepath"]).read_bytes(),
            format="",
            width=facts.get("width", 0),
            height=facts.get("height", 0),
            captions=captions,
        )


def finish(out: Path, splits: dict[str, int], settings: Settings) -> None:
    """Nothing belongs to all splits."""
