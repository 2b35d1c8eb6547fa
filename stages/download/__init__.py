"""Stage `download`: fetch every URL of the list under guard and store upright, bounded pictures with their captions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.request import getproxies_environment

import pyarrow as pa

from pairloom.errors import ConfigError, RunError
from pairloom.table import metadata
from pairloom.typed import Positive, Range, Share, check_ranges
from schemas.pairs import CAPTION, PAIRS
from stages.contract import A_PATH, PARTIAL, Counts, kept
from stages.download import before, pictures
from stages.download.address import door, host_of, without_credentials
from stages.download.decoders import Decoding
from stages.download.engine import Engine
from stages.download.failure import Failure
from stages.download.fetch import Manners
from stages.download.host import Courtesy
from stages.download.names import Doors
from stages.download.optout import DIRECTIVES
from stages.download.persistence import Persistence
from stages.download.places import Places
from stages.download.proxies import refuse_proxy
from stages.download.recalled import recall as recall
from stages.download.recalled import take_over
from stages.download.server import HOST, PictureServer
from stages.download.spool import Outcome, key_of
from stages.rejects import Reject, quarantine

INPUTS = ("urls",)
OUTPUT = PAIRS
VERSION = 4
OVERLAP = 16  # shards in work at once in a worker: most of them only wait for their last slow servers
# Settings that decide what is stored of a picture; the others decide whether it is fetched, and how.
OF_PIXELS = ("max_pixels", "max_dimension", "max_frames", "resize", "max_side", "upscale", "quality")
BLOCK_BYTES = 16 << 20  # of pictures that become Arrow together
SAME_OUTPUT = {"affects_output": False}  # mark of settings whose change makes no shard due


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `download` of params.yaml. docs/download.md says how each is called in img2dataset."""

    # folder that a server on loopback offers as http://sample.invalid/ while the stage runs
    serve: str | None = field(default=None, metadata=SAME_OUTPUT | A_PATH)
    allow_hosts: tuple[str, ...] = ()  # HOST or HOST:PORT that may have private addresses, such as a mirror
    # connect directly although http_proxy or https_proxy is set; else the run is refused then, unless `serve` is set
    ignore_proxy: bool = field(default=False, metadata=SAME_OUTPUT)
    # What is asked of the web, and how
    timeout_s: Annotated[float, Range(above=0)] = 10.0  # for one attempt at one URL, redirects and body included
    header_timeout_s: Annotated[float, Range(above=0)] = 8.0  # until the headers of each hop are there
    # further attempts after a temporary failure (schemas/quarantine.py says which are)
    retries: Annotated[int, Range(0)] = 2
    # pause before the first retry, doubled before each further one, give or take a half
    backoff_s: Annotated[float, Range(0)] = 0.5
    max_wait_s: Annotated[float, Range(0)] = 60.0  # the longest Retry-After that is waited for
    # seconds, in all, that a worker may stand idle for the pauses that one host asks for (Crawl-delay, Retry-After,
    # 429); then its rows are left out as host-slow; null: no limit
    max_host_s: Annotated[float, Range(above=0)] | None = 1800.0
    max_redirects: Annotated[int, Range(0)] = 5  # hops that one URL may lead through
    max_bytes: Positive = 64 << 20  # of a picture's body, decompressed
    robots: bool = True  # heed robots.txt
    disallowed_header_directives: tuple[str, ...] = DIRECTIVES  # of X-Robots-Tag that reserve a picture
    tdm: bool = True  # heed the header TDM-Reservation
    user_agent: str = "pairloom/0.1"  # what servers are told, with `contact` behind it
    contact: str | None = field(default=None, metadata=SAME_OUTPUT)  # an address to write to, part of the User-Agent
    connections: Positive = field(default=256, metadata=SAME_OUTPUT)  # requests at a time, for each worker process
    per_host_connections: Positive = field(default=8, metadata=SAME_OUTPUT)  # requests at a time, over all workers
    # requests a second, over all workers
    per_host_rate: Annotated[float, Range(above=0)] = field(default=20.0, metadata=SAME_OUTPUT)
    # What is stored
    max_pixels: Annotated[int, Range(1, 89_478_485)] = 89_000_000  # width × height; more is never decoded
    max_dimension: Positive = 65_500  # pixels of its longer side
    max_frames: Positive = 1000  # of an animation, of which the first is stored
    resize: pictures.Resize = "longest"  # none, or which side max_side is of: longest, shortest, area (its root)
    max_side: Annotated[int, Range(1, 65_500)] = 1024  # pixels; 65,500 is the longest side of a JPEG
    upscale: bool = False  # whether smaller pictures are enlarged
    quality: Annotated[int, Range(1, 100)] = 92  # of JPEGs that had to be re-encoded
    # processes of each worker that decode pictures; null: the cores' share
    decoders: Positive | None = field(default=None, metadata=SAME_OUTPUT)
    # megabytes that decoding one picture may take
    decoder_memory_mb: Annotated[int, Range(64)] = field(default=2048, metadata=SAME_OUTPUT)
    # name and path or address of each source: set by the executor, from `sample.sources`
    sources: tuple[tuple[str, str], ...] = field(default=(), metadata=SAME_OUTPUT | {"of_list": True})
    # rows of which the list says why another program failed (docs/import.md): left out for that reason, or fetched
    earlier_failures: Literal["keep", "fetch"] = field(default="keep", metadata=SAME_OUTPUT)
    # When to stop
    min_success_rate: Share = field(default=0.5, metadata=SAME_OUTPUT)  # share of rows that must come through
    # silent rows in a row after which the network is tested; null: never
    outage_after: Positive | None = field(default=1000, metadata=SAME_OUTPUT)
    workers: int = field(default=1, metadata=SAME_OUTPUT)  # set by the executor: the processes that share the limits

    def __post_init__(self) -> None:
        check_ranges(self)
        for text in self.allow_hosts:
            try:
                door(text)
            except (ValueError, Failure) as error:
                fix = "write HOST or HOST:PORT, such as mirror.example, 10.0.0.7:8080 or [::1]:8080"
                raise ConfigError(f"download.allow_hosts has {text!r}", "params.yaml", fix) from error
        for name in ("user_agent", "contact"):
            value = getattr(self, name)
            if value is not None and not _header(value):
                raise ConfigError(f"download.{name} is {value!r}", "params.yaml", "set it to printable ASCII text")


def _header(value: str) -> bool:
    return value.isascii() and value.isprintable()


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the engine, where unfinished shards are noted, and the sample's server if there is one."""

    engine: Engine
    folder: Path | None
    server: PictureServer | None
    checks_proxy: bool = False  # before the first row of the web
    keeps_failures: bool = True


def setup(config: Config, folder: Path | None) -> Tools:
    """Start the server if `serve` is set; connections and decoders start with the first row.

    folder: where finished rows of unfinished shards are noted. Raises InputError if the folder to serve is missing, and
    ConfigError if the environment names a proxy.
    """
    checks_proxy = not (config.serve or config.ignore_proxy)
    if checks_proxy and not config.sources:
        refuse_proxy(getproxies_environment())
    server = PictureServer(Path(config.serve)) if config.serve else None
    mapped = {HOST: server.address} if server else {}
    manners = Manners(
        doors=Doors(frozenset(map(door, config.allow_hosts)), mapped),
        timeout_s=config.timeout_s,
        header_timeout_s=config.header_timeout_s,
        max_redirects=config.max_redirects,
        max_bytes=config.max_bytes,
        user_agent=f"{config.user_agent} (+{config.contact})" if config.contact else config.user_agent,
        robots=config.robots,
        robots_again_s=config.backoff_s,
        robots_tries=config.retries + 1,
        directives=tuple(word.lower() for word in config.disallowed_header_directives),
        tdm=config.tdm,
        connections=config.connections,
    )
    courtesy = Courtesy(
        connections=max(1, config.per_host_connections // config.workers),
        pause_s=config.workers / config.per_host_rate,
        max_host_s=config.max_host_s,
        exempt=frozenset(mapped),
    )
    persistence = Persistence(
        retries=config.retries,
        backoff_s=config.backoff_s,
        max_wait_s=config.max_wait_s,
        outage_after=config.outage_after,
    )
    places = Places(config.sources, kept(folder) if folder else None, config.max_bytes)
    engine = Engine(manners, courtesy, persistence, decoding(config), places)
    return Tools(engine, folder, server, checks_proxy, config.earlier_failures == "keep")


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
    known = before.failures(urls) if tools.keeps_failures else {}
    asked = [row for number, row in enumerate(rows) if number not in known]
    if tools.checks_proxy and not all(tools.engine.places.parse(url) for url, _ in asked):
        refuse_proxy(getproxies_environment())
    shard = metadata(urls).get("shard")
    failed: list[tuple[int, Outcome]] = []
    partial = tools.folder / PARTIAL / shard if tools.folder and shard else None
    if tools.folder and partial:
        take_over(asked, tools.folder, partial)
    with tools.engine.run(asked, partial) as spool:
        found = ((n, known[n], b"") if n in known else (n, *spool.get(key_of(*row))) for n, row in enumerate(rows))
        table = pa.concat_tables(_stored(urls, found, failed))
    return table, rejects(urls.take(pa.array([row for row, _ in failed], pa.int64())), [each for _, each in failed])


def _stored(
    urls: pa.Table, found: Iterable[tuple[int, Outcome, bytes]], failed: list[tuple[int, Outcome]]
) -> Iterator[pa.Table]:
    """The rows that came, a few megabytes at a time, so that pictures lie in memory once; others go to `failed`.

    found: (row, outcome, picture) of each row.
    """
    block: list[tuple[int, Outcome, bytes]] = []
    size = 0

    def taken() -> pa.Table:
        return pairs(urls.take(pa.array([row for row, *_ in block], pa.int64())), [each for _, *each in block])

    for row, outcome, picture in found:
        if "reason" in outcome:
            failed.append((row, outcome))
            continue
        block.append((row, outcome, picture))
        size += len(picture)
        if size >= BLOCK_BYTES:
            yield taken()
            block, size = [], 0
    yield taken()


def pairs(urls: pa.Table, found: Sequence[Sequence[Any]]) -> pa.Table:
    """Rows of `urls` with what was stored for each: (outcome, picture)."""

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
    """As listed; `original` is the same text until curate cleans it."""
    rows = [[item | {"original": item["text"]} for item in captions] for captions in listed.to_pylist()]
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
    rejects = list(rejects)
    if counts.rows_out >= config.min_success_rate * (counts.rows_in - sum(map(before.failed, rejects))):
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
        "(`pairloom retry FOLDER --reason dns,timeout,host-down,5xx`); or lower download.min_success_rate",
    )
