"""What stage `neighbours` knows of all images: their vectors, and their first regions, in files mapped into memory.

Images are in the order of their ids, which decides ties. Workers read the shards, and what they found is put together
here. Letters: N images, E width of a vector, R regions of all of them, D width of a feature.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairloom import vectors
from pairloom.errors import InputError
from pairloom.layout import BLOBS
from pairloom.table import Array, metadata
from stages.contract import Corpus
from stages.gathered import opened
from stages.negatives.inverted import mapped
from stages.negatives.nearest import Vectors, axes, of_length_one, shortened
from stages.negatives.stored import SAMPLE, halves_of, scales_of
from stages.negatives.table import fixed
from stages.negatives.veto_score import pictures_of

READ = ("image_id", "num_regions", "width", "height", "boxes", "features")
BLOCK = 1 << 14  # vectors that are moved at once
WIDTH = b"width"  # in a file's metadata: numbers of a vector or feature


@dataclass(frozen=True)
class Seen:
    """The first regions of each image."""

    ids: Array  # S16 (N,), sorted
    starts: Array  # int64 (N + 1,): image n has the regions starts[n] … starts[n + 1] − 1
    boxes: Array  # float32 (R, 4): shares of the picture's width and height
    features: Array  # float16 (R, D)

    @property
    def width(self) -> int:
        return int(self.features.shape[1])

    @property
    def image_ids(self) -> pa.Array:
        """binary(16) (N,)."""
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(self.ids), [None, pa.py_buffer(self.ids.data)])

    def places_of(self, wanted: Array) -> Array:
        """int64, of images by id. Raises ValueError for one that the index does not have."""
        places, there = _found(self.ids, wanted)
        if not there.all():
            raise ValueError("the index of the neighbours does not have these images")
        return places

    def sizes(self, places: Array) -> Array:
        """How many regions each of these images has."""
        found: Array = self.starts[places + 1] - self.starts[places]
        return found

    def of(self, lists: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """(boxes (r, 4), features (r, D)) of each list of places, its images one after the other."""
        rows = [
            np.concatenate([np.zeros(0, np.int64), *(np.arange(*self.starts[place : place + 2]) for place in places)])
            for places in lists
        ]
        return [self.boxes[own] for own in rows], [self.features[own] for own in rows]


def write_seen(corpus: Corpus, most: int, folder: Path) -> None:
    """Write what `open_seen` maps. Raises InputError if an image is there twice."""
    files = corpus.answers({"regions": READ}, first_regions, dict.fromkeys(corpus.sizes("regions"), most))
    ids = np.sort(np.concatenate([np.empty(0, "S16"), *(fixed(table["image_id"]) for table in _opened(files))]))
    if (ids[1:] == ids[:-1]).any():
        twice = ids[1:][ids[1:] == ids[:-1]][0].ljust(16, b"\0").hex()
        raise InputError(f"image {twice} is there twice", "table regions", "run curate, which unites them")
    counts = np.zeros(len(ids), np.int64)
    for table in _opened(files):
        counts[np.searchsorted(ids, fixed(table["image_id"]))] = table["num_regions"].to_numpy()
    starts = np.concatenate([[0], np.cumsum(counts)])
    width = _width(files)
    boxes = _made(folder / "boxes.npy", "<f4", (int(starts[-1]), 4))
    features = _made(folder / "features.npy", "<f2", (int(starts[-1]), width))
    for table in _opened(files):
        places = np.searchsorted(ids, fixed(table["image_id"]))
        own = zip(places.tolist(), table["boxes"].to_pylist(), table["features"].to_pylist(), strict=True)
        for place, box, feature in own:
            start, end = starts[place : place + 2]
            boxes[start:end] = np.frombuffer(box, "<f4").reshape(-1, 4)
            features[start:end] = np.frombuffer(feature, "<f2").reshape(-1, width)
    np.save(folder / "ids.npy", ids)
    np.save(folder / "starts.npy", starts)
    boxes.flush()
    features.flush()


def first_regions(regions: pa.Table, argument: int) -> pa.Table:
    """image_id, num_regions, boxes as shares of the picture, features as float16: of the first regions of each image.

    An image whose features float16 cannot hold has none, and so no part in what is shown.
    """
    notes = metadata(regions)
    width, kind = int(notes["feature_width"]), BLOBS["features"]
    counts, boxes, features = [], [], []
    columns = (regions[name].to_pylist() for name in ("num_regions", "width", "height"))
    blobs = BLOBS["boxes"].unpack(regions["boxes"]), kind.unpack(regions["features"], notes)
    for size, across, down, own, values in zip(*columns, *blobs, strict=True):
        first = values.reshape(size, width)[:argument]
        if vectors.unfit(first, "float16") is not None:
            first = first[:0]
        shares = own.reshape(size, 4)[: len(first)] / np.array([across, down, across, down], np.float32)
        counts.append(len(first))
        boxes.append(shares.astype("<f4").tobytes())
        features.append(first.astype("<f2").tobytes())
    found = {"image_id": regions["image_id"], "num_regions": pa.array(counts, pa.int64())}
    found |= {"boxes": pa.array(boxes, pa.large_binary()), "features": pa.array(features, pa.large_binary())}
    return pa.table(found).replace_schema_metadata({WIDTH: str(width)})


def open_seen(folder: Path) -> Seen:
    """Map what `write_seen` wrote."""
    return Seen(*(mapped(folder, name) for name in ("ids", "starts", "boxes", "features")))


def open_vectors(folder: Path) -> Vectors:
    """Map what `write_objects` or `write_embeddings` wrote."""
    return Vectors(*(mapped(folder, name) for name in Vectors._fields))


def write_objects(corpus: Corpus, min_score: float, folder: Path) -> None:
    """Write a vector of classes of each image: of those that it shows, the idf of each.

    idf is ln((1 + N) / (1 + images that show the class)) + 1, as scikit-learn has it.
    """
    read = ("image_id", "class_ids", "class_scores")
    files = corpus.answers({"regions": read}, classes_seen, dict.fromkeys(corpus.sizes("regions"), min_score))
    shown, images = np.zeros(_width(files), np.int64), 0
    for table in _opened(files):
        images += len(table)
        shown += np.bincount(table["classes"].combine_chunks().flatten().to_numpy(), minlength=len(shown))
    idf = np.log((1 + images) / (1 + shown)) + 1

    _write_vectors(((fixed(table["image_id"]), _of_classes(table, idf)) for table in _opened(files)), len(idf), folder)


def _of_classes(seen: pa.Table, idf: Array) -> Array:
    """uint16 (images, classes): the float16 bits of the idf of each class that an image shows."""
    classes = seen["classes"].combine_chunks()
    values = np.zeros((len(seen), len(idf)))
    images = np.repeat(np.arange(len(seen)), classes.value_lengths().to_numpy())
    shown = classes.flatten().to_numpy()
    values[images, shown] = idf[shown]
    return values.astype("<f2").view("<u2")


def classes_seen(regions: pa.Table, argument: float) -> pa.Table:
    """image_id and classes: those of regions with more confidence than the argument, each once, ascending."""
    ids, scores = (BLOBS[name].unpack(regions[name]) for name in ("class_ids", "class_scores"))
    classes = [np.unique(own[score > argument]) for own, score in zip(ids, scores, strict=True)]
    width = len(json.loads(metadata(regions)["classes"]))
    found = {"image_id": regions["image_id"], "classes": pa.array(classes, pa.list_(pa.uint16()))}
    return pa.table(found).replace_schema_metadata({WIDTH: str(width)})


def write_embeddings(corpus: Corpus, folder: Path) -> None:
    """Write the vector that stage `score` stored of each picture, zeros where it has none."""
    read = {"score": ("image_id", "image_embedding")}
    files = corpus.answers(read, picture_vectors, dict.fromkeys(corpus.sizes("score")))
    width = _width(files)
    stored = ((fixed(table["image_id"]), halves_of(table["vector"], width)) for table in _opened(files))
    _write_vectors(stored, width, folder)


def picture_vectors(score: pa.Table, argument: None) -> pa.Table:
    """image_id and vector, the bytes of float16. Raises InputError if stage `score` stored none."""
    width = int(metadata(score)["score_width"])
    vector = pa.array([own.tobytes() for own in pictures_of(score, score)], pa.binary(2 * width))
    return pa.table({"image_id": score["image_id"], "vector": vector}).replace_schema_metadata({WIDTH: str(width)})


def _write_vectors(found: Iterable[tuple[Array, Array]], width: int, folder: Path) -> None:
    """Write what `open_vectors` maps, of (ids, uint16 (images, E)) of some images at a time."""
    ids = np.load(folder / "ids.npy")
    halves = _made(folder / "halves.npy", "<u2", (len(ids), width))
    for own, rows in found:
        places, there = _found(ids, own)
        halves[places[there]] = rows[there]
    main = axes(of_length_one(halves[:SAMPLE]))  # ids are hashes, so that the first are like the others
    scales = _made(folder / "scales.npy", "<f4", (len(ids),))
    short = _made(folder / "short.npy", "<f4", (len(ids), main.shape[1] + 1))
    for start in range(0, len(ids), BLOCK):
        here = slice(start, start + BLOCK)
        scales[here] = scales_of(halves[here])
        short[here] = shortened(of_length_one(halves[here]), main)
    for file in (halves, scales, short):
        file.flush()


def _found(ids: Array, wanted: Array) -> tuple[Array, Array]:
    """(places, bool) of these ids among the sorted ones. The place of one that is not there means nothing."""
    places = np.searchsorted(ids, wanted).clip(max=max(len(ids) - 1, 0))
    return places, ids[places] == wanted if len(ids) else np.zeros(len(wanted), np.bool_)


def _made(path: Path, kind: str, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A file of zeros, mapped into memory."""
    return np.lib.format.open_memmap(path, "w+", np.dtype(kind), shape)


def _opened(files: Mapping[str, Path]) -> Iterator[pa.Table]:
    return map(opened, files.values())


def _width(files: Mapping[str, Path]) -> int:
    """Numbers of a vector of these files, which all have one."""
    return max((int(table.schema.metadata[WIDTH]) for table in _opened(files)), default=0)
