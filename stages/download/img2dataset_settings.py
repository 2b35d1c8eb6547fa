"""The settings of img2dataset that its engine takes from a file (download.img2dataset_config), under its own names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, build, check_ranges

Interpolation = Literal["nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4"]
# What img2dataset's command takes as well, and pairloom does itself or in another way.
ELSEWHERE = {
    "url_list": "the list is sample.urls",
    "input_format": "sample.urls tells it",
    "output_folder": "--out names it",
    "output_format": "tables are written; `pairloom export SHARDS --as webdataset --out TARS` writes tars",
    "url_col": "it is sample.url_column",
    "caption_col": "it is sample.caption_column",
    "save_additional_columns": "every further column is kept in `extra`",
    "number_sample_per_shard": "it is sample.rows_per_shard",
    "processes_count": "it is run.workers",
    "distributor": "it is run.cluster",
    "subjob_size": "run.cluster decides it",
    "max_shard_retry": "a run that stopped is run again",
    "incremental_mode": "what is finished is kept",
    "oom_shard_count": "shards are tables",
    "compute_hash": "SHA-256 is always stored",
    "verify_hash": "the list's column `checksum` is compared",
    "extract_exif": "pictures are turned upright, and EXIF is not kept",
    "disable_all_reencoding": "what is stored is always a picture that can be decoded",
    "enable_wandb": "metrics are files",
    "wandb_project": "metrics are files",
}


@dataclass(frozen=True, kw_only=True)
class Resizing:
    """What img2dataset's Resizer takes. The defaults are img2dataset's."""

    image_size: Positive = 256
    resize_mode: Literal["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"] = "border"
    resize_only_if_bigger: bool = False
    upscale_interpolation: Interpolation = "lanczos"
    downscale_interpolation: Interpolation = "area"
    encode_quality: Annotated[int, Range(0, 100)] = 95
    encode_format: Literal["jpg", "png", "webp"] = "jpg"
    skip_reencode: bool = False
    min_image_size: Annotated[int, Range(0)] = 0
    max_image_area: Annotated[float, Range(above=0)] | None = None
    max_aspect_ratio: Annotated[float, Range(1)] | None = None

    def __post_init__(self) -> None:
        check_ranges(self)

    def arguments(self) -> dict[str, Any]:
        """For its Resizer, which writes no limit as infinity."""
        limits = {"max_image_area", "max_aspect_ratio"}
        return {key: value for key, value in asdict(self).items() if not (key in limits and value is None)}


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How it asks the web. What the file leaves out is as section `download` says."""

    thread_count: Positive | None = None
    timeout: Annotated[float, Range(above=0)] | None = None
    retries: Annotated[int, Range(0)] | None = None
    user_agent_token: str | None = None
    disallowed_header_directives: tuple[str, ...] | None = None
    bbox_col: str | None = None  # of `extra`: boxes x1 y1 x2 y2 as shares of the sides, in JSON, which are blurred

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Settings:
    """resizing: None where the file says nothing of it. Then pictures are stored as section `download` says."""

    asking: Asking = Asking()
    resizing: Resizing | None = None


def read(file: str | None) -> Settings:
    """The settings of a file, YAML or JSON. Raises ConfigError that names the file and the setting."""
    if file is None:
        return Settings()
    try:
        said = yaml.safe_load(Path(file).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        fix = "write settings of img2dataset as YAML or JSON, a line a setting"
        raise ConfigError(f"img2dataset's settings cannot be read: {error}", file, fix) from error
    if not isinstance(said, Mapping):
        raise ConfigError(f"img2dataset's settings are {said!r}", file, "write NAME: VALUE, a line a setting")
    for name in said:
        if name in ELSEWHERE:
            raise ConfigError(f"{name} is no setting of the engine: {ELSEWHERE[name]}", file, "leave it out")
    asked = {name: value for name, value in said.items() if name in Asking.__dataclass_fields__}
    others = {name: value for name, value in said.items() if name not in asked}
    resizes = others or asked.get("bbox_col")
    return Settings(build(Asking, asked, file), build(Resizing, others, file) if resizes else None)
