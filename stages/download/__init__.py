"""Stage `download`: fetch every URL of the list under guard and store upright, bounded pictures with their captions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairloom.errors import ConfigError, RunError
from pairloom.table import metadata
from schemas.pairs import CAPTION, PAIRS
from stages.contract import PARTIAL, Counts
from stages.download import pictures
from stages.download.address import host_of, without_credentials
from stages.download.decoders import Decoding
from stages.download.engine import Engine
from stages.download.fetch import Manners
from stages.download.hosts import Courtesy
from stages.download.names import Doors
from stages.download.optout import DIRECTIVES
from stages.download.server import HOST, PictureServer
from stages.download.spool import Outcome, key_of
from stages.download.traffic import Persistence
from stages.rejects import Reject, quarantine

INPUTS = ("urls",)
OUTPUT = PAIRS
VERSION = 3
OVERLAP = 16  # shards in work at once in a worker: most of them only wait for their last slow servers
SAME_OUTPUT = {"affects_output": False}  # mark of settings whose change makes no shard due


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `download` of params.yaml. docs/download.md says how each is called in img2dataset."""

    # folder that a server on loopback offers as http://sample.invalid/ while the stage runs
    serve: str | None = field(default=None, metadata=SAME_OUTPUT)
    allow_hosts: tuple[str, ...] = ()  # HOST or HOST:PORT that may have private addresses, such as a mirror
    # What is asked of the web, and how
    timeout_s: float = 10.0  # for one attempt at one URL, redirects and body included
    header_timeout_s: float = 8.0  # until the headers of each hop are there
    retries: int = 2  # further attempts after a temporary failure (schemas/quarantine.py says which are)
    backoff_s: float = 0.5  # pause before the first retry, doubled before each further one, give or take a half
    max_wait_s: float = 60.0  # the longest Retry-After that is waited for
    max_redirects: int = 5
    max_bytes: int = 64 << 20  # of a body, decompressed
    robots: bool = True  # heed robots.txt
    disallowed_header_directives: tuple[str, ...] = DIRECTIVES  # of X-Robots-Tag that reserve a picture
    tdm: bool = True  # heed the header TDM-Reservation
    user_agent: str = "pairloom/0.1"
    contact: str | None = field(default=None, metadata=SAME_OUTPUT)  # an address to write to, part of the User-Agent
    connections: int = field(default=256, metadata=SAME_OUTPUT)  # at a time, for each worker process
    per_host_connections: int = field(default=8, metadata=SAME_OUTPUT)  # at a time, over all workers
    per_host_rate: float = field(default=20.0, metadata=SAME_OUTPUT)  # requests a second, over all workers
    # What is stored
    max_pixels: int = 89_000_000  # width × height of a picture before decoding
    max_dimension: int = 65_500  # pixels of its longer side
    max_frames: int = 1000  # of an animation, of which the first is stored
    resize: pictures.Resize = "longest"  # none, or which side max_side is of: longest, shortest, area (its root)
    max_side: int = 1024  # pixels
    upscale: bool = False  # whether smaller pictures are enlarged
    quality: int = 92  # of JPEGs that had to be re-encoded
    decoders: int | None = field(default=None, metadata=SAME_OUTPUT)  # processes a worker; null: the cores' share
    decoder_memory_mb: int = field(default=2048, metadata=SAME_OUTPUT)  # that decoding one picture may take
    # When to stop
    min_success_rate: float = field(default=0.5, metadata=SAME_OUTPUT)  # share of rows that must come through, 0 to 1
    # silent rows in a row after which the network is tested; null: never
    outage_after: int | None = field(default=1000, metadata=SAME_OUTPUT)
    workers: int = field(default=1, metadata=SAME_OUTPUT)  # told by the executor: the processes that share the limits

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
        self._check("max_dimension", self.max_dimension >= 1, "1 or more")
        self._check("max_frames", self.max_frames >= 1, "1 or more")
        self._check("header_timeout_s", self.header_timeout_s > 0, "more than 0")
        self._check("max_wait_s", self.max_wait_s >= 0, "0 or more")
        self._check("connections", self.connections >= 1, "1 or more")
        self._check("per_host_connections", self.per_host_connections >= 1, "1 or more")
        self._check("per_host_rate", self.per_host_rate > 0, "more than 0")
        self._check("decoders", self.decoders is None or self.decoders >= 1, "1 or more, or null")
        self._check("decoder_memory_mb", self.decoder_memory_mb >= 64, "64 or more")
        self._check("outage_after", self.outage_after is None or self.outage_after >= 1, "1 or more, or null")
        self._check("user_agent", _header(self.user_agent), "printable ASCII text")
        self._check("contact", self.contact is None or _header(self.contact), "printable ASCII text, or null")
        self._check("min_success_rate", 0 <= self.min_success_rate <= 1, "from 0 to 1")

    def _check(self, name: str, good: bool, wanted: str) -> None:
        if not good:
            raise ConfigError(f"download.{name} is {getattr(self, name)!r}", "params.yaml", f"set it to {wanted}")


def _header(value: str) -> bool:
    return value.isascii() and value.isprintable()


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the engine, where unfinished shards are noted, and the sample's server if there is one."""

    engine: Engine
    folder: Path | None
    server: PictureServer | None


def setup(config: Config, folder: Path | None) -> Tools:
    """Start the server if `serve` is set; connections and decoders start with the first row.

    folder: where finished rows of unfinished shards are noted. Raises InputError if the folder to serve is missing.
    """
    server = PictureServer(Path(config.serve)) if config.serve else None
    mapped = {HOST: server.address} if server else {}
    manners = Manners(
        doors=Doors(frozenset(map(str.lower, config.allow_hosts)), mapped),
        timeout_s=config.timeout_s,
        header_timeout_s=config.header_timeout_s,
        max_redirects=config.max_redirects,
        max_bytes=config.max_bytes,
        user_agent=f"{config.user_agent} (+{config.contact})" if config.contact else config.user_agent,
        robots=config.robots,
        directives=tuple(word.lower() for word in config.disallowed_header_directives),
        tdm=config.tdm,
        connections=config.connections,
    )
    courtesy = Courtesy(
        connections=max(1, config.per_host_connections // config.workers),
        pause_s=config.workers / config.per_host_rate,
        exempt=frozenset(mapped),
    )
    persistence = Persistence(
        retries=config.retries,
        backoff_s=config.backoff_s,
        max_wait_s=config.max_wait_s,
        outage_after=config.outage_after,
    )
    return Tools(Engine(manners, courtesy, persistence, decoding(config)), folder, server)


def decoding(config: Config) -> Decoding:
    """How pictures are decoded, in as many processes as this worker's share of the cores."""
    limits = pictures.Limits(
        max_pixels=config.max_pixels,
        max_side=config.max_side,
        quality=config.quality,
        resize=config.resize,
        upscale=config.upscale,
        max_dimension=config.max_dimension,
        max_frames=config.max_frames,
    )
    share = max(1, (os.cpu_count() or 1) // config.workers)
    return Decoding(limits, config.decoders or share, config.decoder_memory_mb)


def process(urls: pa.Table, tools: Tools) -> tuple[pa.Table, pa.Table]:
    """Every row either as a stored image or as a reject with its reason, in the order of the list.

    A row without captions is downloaded like any other; whether to keep it is for curate to say. Rows with the same
    URL and checksum are fetched once. This is the one stage that has the network and notes what is finished of a shard.
    """
    rows = list(zip(urls["url"].to_pylist(), urls["checksum"].to_pylist(), strict=True))
    shard = metadata(urls).get("shard")
    with tools.engine.run(rows, tools.folder / PARTIAL / shard if tools.folder and shard else None) as spool:
        found = [spool.get(key_of(*row)) for row in rows]
    stored = [row for row, (outcome, _) in enumerate(found) if "reason" not in outcome]
    failed = [row for row, (outcome, _) in enumerate(found) if "reason" in outcome]
    table = pairs(urls.take(pa.array(stored, pa.int64())), [found[row] for row in stored])
    return table, rejects(urls.take(pa.array(failed, pa.int64())), [found[row][0] for row in failed])


def pairs(urls: pa.Table, found: Sequence[tuple[Outcome, bytes]]) -> pa.Table:
    """Rows of `urls` with what was stored for each."""

    def column(name: str) -> list[Any]:
        return [outcome[name] for outcome, _ in found]

    return PAIRS.table(
        image_id=[bytes.fromhex(value) for value in column("image_id")],
        image=[picture for _, picture in found],
        format=column("format"),
        width=column("width"),
        height=column("height"),
        original_width=column("original_width"),
        original_height=column("original_height"),
        url=urls["url"],
        sha256=[bytes.fromhex(value) for value in column("sha256")],
        phash=pa.array(column("phash"), pa.uint64()),
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


def rejects(urls: pa.Table, failures: Sequence[Outcome]) -> pa.Table:
    """Quarantine rows for rows of `urls`; credentials in a URL are blotted out."""
    rows = [{**row, "url": without_credentials(row["url"])} for row in urls.to_pylist()]
    return quarantine(
        "download",
        [
            Reject(row["url"], failure["reason"], failure["detail"], row, failure["attempts"])
            for row, failure in zip(rows, failures, strict=True)
        ],
    )


def check(counts: Counts, config: Config, rejects: Iterable[pa.Table] = ()) -> None:
    """Raise RunError if too few rows came through, with the failures by reason and the hosts that failed most."""
    if counts.rows_out >= config.min_success_rate * counts.rows_in:
        return
    reasons = sorted(counts.rejected.items(), key=lambda item: (-item[1], item[0]))
    hosts = Counter(
        (host_of(key), reason)
        for table in rejects
        for key, reason in zip(table["key"].to_pylist(), table["reason"].to_pylist(), strict=True)
    )
    worst = sorted(hosts.items(), key=lambda item: (-item[1], item[0]))[:10]
    listed = "".join(f"\n  {host}: {rows} {reason}" for (host, reason), rows in worst)
    raise RunError(
        f"only {counts.rows_out} of {counts.rows_in} rows were downloaded "
        f"({', '.join(f'{rows} {reason}' for reason, rows in reasons)}){listed}",
        where="stage download, table quarantine",
        fix="look at the quarantine table, repair the network or the list, and try the failed rows again "
        "(`pairloom retry --reason dns,timeout,5xx`); or lower download.min_success_rate",
    )
