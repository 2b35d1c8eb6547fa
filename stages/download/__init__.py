"""Stage `download`: fetch every URL of the list under guard and store upright, bounded pictures with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from schemas.errors import ConfigError, RunError
from schemas.pairs import CAPTION, PAIRS
from schemas.rejects import Reject, quarantine
from stages.contract import Counts
from stages.download import pictures
from stages.download.address import without_credentials
from stages.download.engine import Engine, Stored
from stages.download.failure import Failure
from stages.download.fetch import Fetched, Fetcher
from stages.download.server import HOST, PictureServer
from stages.download.wire import Doors

INPUTS = ("urls",)
OUTPUT = PAIRS
VERSION = 1
SAME_OUTPUT = {"affects_output": False}  # mark of settings whose change makes no shard due


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `download` of params.yaml."""

    # folder that a server on loopback offers as http://sample.invalid/ while the stage runs
    serve: str | None = field(default=None, metadata=SAME_OUTPUT)
    allow_hosts: tuple[str, ...] = ()  # HOST or HOST:PORT that may have private addresses, such as a mirror
    timeout_s: float = 10.0  # for one attempt at one URL, redirects and body included
    retries: int = 2  # further attempts after a temporary failure (schemas/quarantine.py says which are)
    backoff_s: float = 0.5  # pause before the first retry, doubled before each further one
    max_redirects: int = 5
    max_bytes: int = 64 << 20  # of a body, decompressed
    max_pixels: int = 89_000_000  # width × height of a picture before decoding
    max_side: int = 1024  # pixels; larger pictures are scaled down, smaller ones never up
    quality: int = 92  # of JPEGs that had to be re-encoded
    threads: int = field(default=32, metadata=SAME_OUTPUT)  # connections at a time, for each worker process
    user_agent: str = "pairloom/0.1 (builds image-text data sets)"  # add an address to write to
    min_success_rate: float = field(default=0.5, metadata=SAME_OUTPUT)  # share of rows that must come through, 0 to 1

    def __post_init__(self) -> None:
        self._check("timeout_s", self.timeout_s > 0, "more than 0")
        self._check("retries", self.retries >= 0, "0 or more")
        self._check("backoff_s", self.backoff_s >= 0, "0 or more")
        self._check("max_redirects", self.max_redirects >= 0, "0 or more")
        self._check("max_bytes", self.max_bytes > 0, "more than 0")
        # Pillow itself warns above 89,478,485 pixels and refuses twice that.
        self._check("max_pixels", 0 < self.max_pixels <= 89_478_485, "from 1 to 89478485")
        self._check("max_side", 1 <= self.max_side <= 65_500, "from 1 to 65500, the longest side of a JPEG")
        self._check("quality", 1 <= self.quality <= 100, "from 1 to 100")
        self._check("threads", self.threads >= 1, "1 or more")
        self._check("user_agent", self.user_agent.isascii() and self.user_agent.isprintable(), "printable ASCII text")
        self._check("min_success_rate", 0 <= self.min_success_rate <= 1, "from 0 to 1")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ConfigError(f"download.{name} is {getattr(self, name)!r}", "params.yaml", f"set it to {wanted}")


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the engine, and the sample's server if one is asked for."""

    engine: Engine
    server: PictureServer | None


def setup(config: Config, folder: Path) -> Tools:
    """Start the server if `serve` is set. Raises InputError if its folder is missing."""
    server = PictureServer(Path(config.serve)) if config.serve else None
    fetcher = Fetcher(
        doors=Doors(frozenset(map(str.lower, config.allow_hosts)), {HOST: server.address} if server else {}),
        timeout_s=config.timeout_s,
        retries=config.retries,
        backoff_s=config.backoff_s,
        max_redirects=config.max_redirects,
        max_bytes=config.max_bytes,
        user_agent=config.user_agent,
    )
    limits = pictures.Limits(config.max_pixels, config.max_side, config.quality)

    def normalise(fetched: Fetched) -> pictures.Picture:
        return pictures.normalise(fetched.body, fetched.kind, limits)

    return Tools(Engine(fetcher, normalise, config.threads), server)


def process(urls: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """Every row either as a stored image or as a reject with its reason, in the order of the list.

    A row without captions is downloaded like any other; whether to keep it is for curate to say.
    """
    results = tools.engine.run(urls["url"].to_pylist(), urls["checksum"].to_pylist())
    stored = [row for row, result in enumerate(results) if isinstance(result, Stored)]
    failed = [row for row, result in enumerate(results) if isinstance(result, Failure)]
    table = pairs(urls.take(pa.array(stored, pa.int64())), [r for r in results if isinstance(r, Stored)])
    failures = [r for r in results if isinstance(r, Failure)]
    return table, rejects(urls.take(pa.array(failed, pa.int64())), failures)


def pairs(urls: pa.Table, results: Sequence[Stored]) -> pa.Table:
    """Rows of `urls` with what was stored for each."""
    found = [result.picture for result in results]
    return PAIRS.table(
        image_id=[picture.image_id for picture in found],
        image=[picture.image for picture in found],
        format=[picture.format for picture in found],
        width=[picture.width for picture in found],
        height=[picture.height for picture in found],
        original_width=[picture.original_width for picture in found],
        original_height=[picture.original_height for picture in found],
        url=urls["url"],
        sha256=[result.sha256 for result in results],
        phash=pa.array([picture.phash for picture in found], pa.uint64()),
        licence=urls["licence"],
        source=urls["source"],
        captions=_captions(urls["captions"]),
        extra=urls["extra"],
    )


def _captions(listed: pa.ChunkedArray) -> pa.Array:
    """text and lang as listed; `original` is the same text until curate cleans it."""
    rows = [
        [{"text": item["text"], "original": item["text"], "lang": item["lang"]} for item in captions]
        for captions in listed.to_pylist()
    ]
    return pa.array(rows, pa.list_(CAPTION))


def rejects(urls: pa.Table, failures: Sequence[Failure]) -> pa.Table:
    """Quarantine rows for rows of `urls`; credentials in a URL are blotted out."""
    rows = [{**row, "url": without_credentials(row["url"])} for row in urls.to_pylist()]
    return quarantine(
        "download",
        [
            Reject(row["url"], failure.reason, failure.detail, row, failure.attempts)
            for row, failure in zip(rows, failures, strict=True)
        ],
    )


def check(counts: Counts, config: Config) -> None:
    """Raise RunError if too few rows came through, with the failures by reason."""
    if counts.rows_out >= config.min_success_rate * counts.rows_in:
        return
    reasons = sorted(counts.rejected.items(), key=lambda item: (-item[1], item[0]))
    raise RunError(
        f"only {counts.rows_out} of {counts.rows_in} rows were downloaded "
        f"({', '.join(f'{rows} {reason}' for reason, rows in reasons)})",
        where="stage download, table quarantine/download",
        fix="look at the quarantine table, mend the network or the list, and run again; "
        "or lower download.min_success_rate",
    )
