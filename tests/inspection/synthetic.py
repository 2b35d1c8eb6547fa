"""A small but complete dataset, as the pipeline would write it: every table, two shards each, rows in quarantine."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from inspection.tables import table_of
from pairloom.extra import as_extra
from pairloom.store.folder import Header, open_folder
from pairloom.store.writing import Writer, write_shard
from pipeline.stage import flow
from schemas.truth import TRUTH
from stages.rejects import Reject, quarantine

CLASSES = ("cat", "cup", "rocket", "woman", "red square", "blue square")
ATTRIBUTES = ("orange", "white", "tall", "smiling")
WIDTH = 4  # of features
PER_SHARD = 10
METADATA = {
    "detector": "starter",
    "checkpoint": "0" * 64,
    "feature_width": str(WIDTH),
    "prob_width": "3",
    "classes": json.dumps(CLASSES),
    "attributes": json.dumps(ATTRIBUTES),
}
SETTINGS = {"ceiling": 0.5, "top_k": 3, "max_colour_distance": None}  # of stages that have such
FLOW = flow()
SCORED = {"score_model": "made-up", "score_checkpoint": "0" * 64, "score_precision": "float32", "score_width": "4"}
TABLE_OF = {"download": "pairs", "curate": "pairs"}  # the others have the name of their stage
Row = dict[str, Any]


def make_dataset(root: Path, images: Sequence[Image.Image] = ()) -> Path:
    """Write the tables below `root`: two shards of scenes, the given pictures among them. Returns `root`."""
    rows = [
        _pair(i, image) for i, image in enumerate([*images, *(_scene(i) for i in range(2 * PER_SHARD - len(images)))])
    ]
    shards = {f"{n:05}": rows[n * PER_SHARD : (n + 1) * PER_SHARD] for n in range(2)}
    urls = {
        name: [*part[:3], {"url": f"http://sample.invalid/gone-{name}.jpg", "captions": part[0]["captions"]}, *part[3:]]
        for name, part in shards.items()
    }
    _write(root, "urls", {name: [_url(row) for row in part] for name, part in urls.items()}, {})
    gone = {
        name: [Reject(part[3]["url"], "not-found", "status 404", part[3], attempts=2)] for name, part in urls.items()
    }
    _write(root, "download", shards, gone)
    _write(root, "score", {name: [_score(row) for row in part] for name, part in shards.items()}, {}, SCORED)
    short = {
        name: [Reject(part[-1]["image_id"].hex(), "caption-length", "the longest has 1 word", part[-1])]
        for name, part in shards.items()
    }
    stays = shards["00001"][0]["image_id"].hex()
    short["00001"] += [Reject(stays, reason, "'x' has 1 word", {}) for reason in ("caption-dropped", "caption-lost")]
    kept = {name: part[:-1] for name, part in shards.items()}
    _write(root, "curate", kept, short)
    blind = {"00000": [Reject(kept["00000"][4]["image_id"].hex(), "no-regions", "nothing above 0.2", {})]}
    seen = {
        name: [_regions(row) for i, row in enumerate(part) if (name, i) != ("00000", 4)] for name, part in kept.items()
    }
    _write(root, "regions", seen, blind, METADATA)
    tags = {name: [_tags(row) for row in part] for name, part in seen.items()}
    _write(root, "tags", tags, {})
    corpus = [row for part in kept.values() for row in part]
    _write(root, "negatives", {name: [_negatives(row, corpus) for row in part] for name, part in kept.items()}, {})
    _write_asked_for(root, kept, corpus)
    near = {name: [_neighbours(row, corpus) for row in part] for name, part in seen.items()}
    _write(root, "neighbours", near, {}, {"neighbour_top_k": "1", "neighbour_width": str(WIDTH)})
    _write_shards(root, corpus, seen, tags)
    _write_truth(root, rows[len(images) :])
    return root


def _write(
    root: Path,
    stage: str,
    shards: dict[str, list[Row]],
    rejects: dict[str, list[Reject]],
    metadata: dict[str, str] | None = None,
) -> None:
    table = table_of(TABLE_OF.get(stage, stage))
    header = Header(table.name, table.version, "sample" if stage == "urls" else stage, 1, SETTINGS, {}, "0.1.0")
    before = FLOW.main_input(stage)
    source = open_folder(root / before).shards if before else ()
    sizes = {entry.name: entry.rows for entry in source}
    writers = [Writer.open(root / stage, header)]
    writers[0].begin([])
    if stage != "urls":
        of_rejects = replace(header, table="quarantine", table_version=1)
        writers.append(Writer.open(root / "quarantine" / stage, of_rejects))
        writers[1].begin([])
    for name, rows in shards.items():
        columns = {column.name: [row.get(column.name) for row in rows] for column in table.columns}
        own = {"pairloom": json.dumps(asdict(header))}
        entry = write_shard(root / stage, name, table.table(metadata=(metadata or {}) | own, **columns))
        left_out = rejects.get(name, [])
        reasons = dict(Counter(reject.reason for reject in left_out))
        rows_in = 0 if stage == "urls" else sizes.get(name, len(rows))
        writers[0].record(replace(entry, rows_in=rows_in, rejected=reasons, fingerprint=f"made of {name}"))
        if left_out:
            writers[1].record(write_shard(root / "quarantine" / stage, name, quarantine(stage, left_out)))
    for writer in writers:
        writer.finish()


def _scene(seed: int) -> tuple[Image.Image, list[list[float]], list[int]]:
    """A picture with a red and a blue square, and their boxes and classes."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (160, 120), tuple(int(x) for x in random.integers(160, 255, 3)))
    boxes = []
    for colour in ("red", "blue"):
        x, y = random.integers(0, 100), random.integers(0, 70)
        side = int(random.integers(20, 45))
        box = [float(x), float(y), float(x + side), float(y + side)]
        ImageDraw.Draw(image).rectangle((*box[:2], box[2] - 1, box[3] - 1), fill=colour)
        boxes.append(box)
    return image, boxes, [4, 5]


def _pair(i: int, content: Any) -> Row:
    """content: a scene, or a photograph, which gets two boxes."""
    image, boxes, classes = (
        content if isinstance(content, tuple) else (content, _two_boxes(content), [i % 4, (i + 1) % 4])
    )
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=85)
    data = sink.getvalue()
    texts = [
        ("en", f"picture {i} shows a {CLASSES[classes[0]]}"),
        ("en", f"a {CLASSES[classes[1]]}, too, in number {i}"),
        ("de", f"das Bild mit der Nummer {i}"),
        ("zh", f"第{i}张图片"),
    ]
    return {
        "image_id": hashlib.sha256(data).digest()[:16], "image": data, "format": "jpeg",
        "width": image.width, "height": image.height, "original_width": image.width, "original_height": image.height,
        "url": f"http://sample.invalid/pictures/{i:03}.jpg", "sha256": hashlib.sha256(data).digest(),
        "phash": (2 * i + 1) * 0x0123456789ABCDEF % 2**64,
        "licence": "CC0-1.0", "source": "photographs" if not isinstance(content, tuple) else "scenes",
        "captions": [{"text": text, "original": text, "lang": lang} for lang, text in texts],
        "extra": as_extra({"number": str(i)}), "boxes": boxes, "classes": classes,
    }  # fmt: skip


def _two_boxes(image: Image.Image) -> list[list[float]]:
    width, height = image.size
    return [
        [width * 0.1, height * 0.1, width * 0.6, height * 0.9],
        [width * 0.4, height * 0.3, width * 1.0, height * 0.8],
    ]


def _url(row: Row) -> Row:
    captions = [{"text": caption["text"], "lang": caption["lang"]} for caption in row["captions"]]
    return (
        {"extra": [], "source": None}
        | {key: row[key] for key in ("url", "licence") if key in row}
        | {"captions": captions}
    )


def _regions(row: Row) -> Row:
    random = np.random.default_rng(len(row["image"]))
    count = len(row["boxes"])
    blobs = {
        "boxes": (row["boxes"], "<f4"),
        "class_ids": (row["classes"], "<u2"),
        "class_scores": (np.linspace(0.9, 0.7, count), "<f4"),
        "attribute_ids": (random.integers(0, len(ATTRIBUTES), count), "<u2"),
        "attribute_scores": (random.random(count), "<f4"),
        "features": (random.normal(size=(count, WIDTH)), "<f2"),
        "prob_ids": ([[c, (c + 1) % 6, (c + 2) % 6] for c in row["classes"]], "<u2"),
        "prob_values": ([[score, 0.05, 0.03] for score in np.linspace(0.9, 0.7, count)], "<f2"),
        "prob_background": ([0.02] * count, "<f4"),
    }
    packed = {name: np.asarray(values, dtype).tobytes() for name, (values, dtype) in blobs.items()}
    image = {key: row[key] for key in ("image_id", "width", "height")}
    return image | {"source": None, "num_regions": count, "proposals": None, "grid": None, **packed}


def _tags(row: Row) -> Row:
    classes = np.frombuffer(row["class_ids"], "<u2").tolist()
    scores = np.frombuffer(row["class_scores"], "<f4").tolist()
    tags = [
        {"text": CLASSES[c], "region": i, "class_id": c, "attribute_id": None, "score": scores[i], "count": 1}
        | {"start": sum(len(CLASSES[before]) + 1 for before in classes[:i])}
        for i, c in enumerate(classes)
    ]
    return {"image_id": row["image_id"], "tags": tags}


def _negatives(row: Row, corpus: list[Row]) -> Row:
    others = [other for other in corpus if other["image_id"] != row["image_id"]][:2]
    lists = [
        [
            {
                "image_id": other["image_id"],
                "caption_index": k,
                "text": other["captions"][k]["text"],
                "similarity": 0.4 - n / 10,
            }
            for n, other in enumerate(others)
        ]
        for k in range(len(row["captions"]))
    ]
    return {"image_id": row["image_id"], "negatives": lists, "short": [1] * len(lists)}


def _write_asked_for(root: Path, kept: dict[str, list[Row]], corpus: list[Row]) -> None:
    """The tables of the stages that run only where they are asked for."""
    crops = {"patch_size": "32", "patch_width": str(WIDTH), "patch_count": "1", "pyramid_count": "0"}
    _write(root, "patches", {name: [_patches(row) for row in part] for name, part in kept.items()}, {}, crops)
    lost = {"00000": [Reject("q-9", "no-image", "'x.jpg', asked for by 9", {})]}  # of a question: no image is left out
    answers = {"answers": json.dumps(["red"]), "answer_count": "1"}
    _write(root, "qa", {name: [_questions(row) for row in part] for name, part in kept.items()}, lost, answers)
    similar = {name: [_similar(row, corpus) for row in part] for name, part in kept.items()}
    _write(root, "similar", similar, {}, {"similar_top_k": "8"})


def _score(row: Row) -> Row:
    texts = [caption["text"] for caption in row["captions"]] + [""]  # one that cleaning emptied
    similarity = [0.5] * (len(texts) - 1) + [None]
    heads = [{"name": "aesthetic", "value": 5.0}]
    return row | {"num_texts": len(texts), "texts": texts, "similarity": similarity, "heads": heads}


def _patches(row: Row) -> Row:
    box = np.asarray([0, 0, row["width"], row["height"]], "<f4")
    features = np.full(WIDTH, 0.5, "<f2")
    return {"image_id": row["image_id"], "patch_boxes": box.tobytes(), "patch_features": features.tobytes()}


def _questions(row: Row) -> Row:
    answers = [{"text": "red", "score": 1.0}, {"text": "blue", "score": 0.3}]
    asked = {"text": "which colour?", "answers": answers, "source": "hand", "question_id": row["url"]}
    return {"image_id": row["image_id"], "qa": [asked]}


def _similar(row: Row, corpus: list[Row]) -> Row:
    return {"image_id": row["image_id"], "similar": _negatives(row, corpus)["negatives"]}


def _neighbours(row: Row, corpus: list[Row]) -> Row:
    """Another image with one region."""
    other = next(each["image_id"] for each in corpus if each["image_id"] != row["image_id"])
    near = [{"image_id": other, "similarity": 0.5, "num_regions": 1}]
    box, features = np.asarray([0, 0, 1, 1], "<f4"), np.full(WIDTH, 0.5, "<f2")
    own = {"neighbour_boxes": box.tobytes(), "neighbour_features": features.tobytes()}
    return {"image_id": row["image_id"], "neighbours": near, "neighbour_regions": 1} | own


def _write_shards(root: Path, corpus: list[Row], seen: dict[str, list[Row]], tags: dict[str, list[Row]]) -> None:
    regions = {row["image_id"]: row for part in seen.values() for row in part}
    named = {row["image_id"]: row for part in tags.values() for row in part}
    whole = [
        {**row, **regions[row["image_id"]], **named[row["image_id"]], **_negatives(row, corpus)}
        for row in corpus
        if row["image_id"] in regions
    ]
    order = np.random.default_rng(0).permutation(len(whole))
    shuffled = [whole[i] for i in order]
    parts = {"train-00000": shuffled[:-4], "val-00000": shuffled[-4:]}
    split = {name: [row | {"split": name.split("-")[0]} for row in part] for name, part in parts.items()}
    _write(root, "shards", split, {}, METADATA)


def _write_truth(root: Path, scenes: list[Row]) -> None:
    things = [
        [
            {"name": CLASSES[c], "attributes": ["red"], "box": box, "visible": 1.0}
            for c, box in zip(row["classes"], row["boxes"], strict=True)
        ]
        for row in scenes
    ]
    columns = {name: [row[name] for row in scenes] for name in ("url", "width", "height")}
    (root / "sample").mkdir()
    truth = TRUTH.table(metadata=None, **columns, things=things, relations=[[]] * len(scenes))
    pq.write_table(truth, root / "sample" / "truth.parquet")


def rewrite(folder: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write a shard anew, changed, with a manifest that fits: the file is sound, what it says may not be."""
    before = open_folder(folder)
    old = next(entry for entry in before.shards if entry.name == name)
    entry = write_shard(folder, name, change(before.read(name)))
    writer = Writer.open(folder, before.header)
    writer.begin(list(writer.done))
    writer.record(replace(old, rows=entry.rows, bytes=entry.bytes, sha256=entry.sha256))
    writer.finish()


def edit(column: str, row: int, change: Callable[[Any], Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of one value, for `rewrite`."""

    def apply(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = change(values[row])
        place = table.column_names.index(column)
        return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))

    return apply


def edit_blob(column: str, row: int, dtype: str, place: int, value: float) -> Callable[[pa.Table], pa.Table]:
    """A change of one number in one blob, for `rewrite`."""

    def change(blob: bytes) -> bytes:
        numbers = np.frombuffer(blob, dtype).copy()
        numbers[place] = value
        return numbers.tobytes()

    return edit(column, row, change)
