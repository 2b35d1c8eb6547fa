"""Stage `download`: fetch every URL of the list under guard and store upright, bounded pictures with their captions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

import pyarrow as pa

from formats.pictures.linked import LENGTH
from pairloom.errors import RunError
from pairloom.extra import EXTRA, as_dict, as_extra
from pairloom.table import metadata
from schemas.pairs import CAPTION, PAIRS
from stages import rows_done
from stages.contract import PARTIAL, Counts, kept
from stages.download import before, img2dataset_settings, pictures
from stages.download.address import door, host_of, without_credentials
from stages.download.config import OF_PIXELS as OF_PIXELS
from stages.download.config import Config as Config
from stages.download.decoders import Decoding
from stages.download.engine import Engine
from stages.download.fetch import Manners
from stages.download.finished import LINKED
from stages.download.host import Courtesy
from stages.download.img2dataset_engine import Img2dataset, refuse_missing
from stages.download.names import Doors
from stages.download.persistence import Persistence
from stages.download.places import Places
from stages.download.proxies import refuse_proxy
from stages.download.recalled import recall as recall
from stages.download.recalled import take_over
from stages.download.server import HOST, PictureServer
from stages.download.spool import Outcome, Spool, key_of
from stages.rejects import Reject, quarantine

INPUTS = ("urls",)
OUTPUT = PAIRS
VERSION = 4
OVERLAP = 16  # shards in work at once in a worker: most of them only wait for their last slow servers
BLOCK_BYTES = 16 << 20  # of pictures that become Arrow together


@dataclass(frozen=True)
class Tools:
    """What a worker keeps: the engine, where unfinished shards are noted, and the sample's server if there is one."""

    engine: Engine | Img2dataset
    folder: Path | None
    server: PictureServer | None
    checks_proxy: bool = False  # before the first row of the web
    keeps_failures: bool = True


def setup(config: Config, folder: Path | None) -> Tools:
    """Start the server if `serve` is set. Connections and decoders start with the first row.

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
    here = frozenset(name for name, place in config.sources if "://" not in place)
    linked = here if config.keep == "link" else frozenset()
    places = Places(config.sources, kept(folder) if folder else None, config.max_bytes, linked)
    own = Engine(manners, courtesy, persistence, decoding(config), places)
    engine = _other_engine(config, own) if config.engine == "img2dataset" else own
    return Tools(engine, folder, server, checks_proxy, config.earlier_failures == "keep")


def _other_engine(config: Config, own: Engine) -> Img2dataset:
    """Raises MissingExtraError where img2dataset is missing, ConfigError where its settings are wrong."""
    refuse_missing()
    settings = img2dataset_settings.read(config.img2dataset_config)
    return Img2dataset(own, settings, own.manners, own.decoding.limits, config.retries)


def resources(config: Config) -> tuple[Path, ...]:
    """The file of img2dataset's settings."""
    return (Path(config.img2dataset_config),) if config.img2dataset_config else ()


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

    A row without captions is downloaded like any other. Whether to keep it is for curate to say. Rows with the same
    URL and checksum are fetched once. This is the one stage that has the network and notes what is finished of a shard.
    """
    rows = list(zip(urls["url"].to_pylist(), urls["checksum"].to_pylist(), strict=True))
    known = before.failures(urls) if tools.keeps_failures else {}
    asked = [row for number, row in enumerate(rows) if number not in known]
    if tools.checks_proxy and not all(tools.engine.places.parse(url) for url, _ in asked):
        refuse_proxy(getproxies_environment())
    rows_done.expect(len(set(asked)))
    shard = metadata(urls).get("shard")
    failed: list[tuple[int, Outcome]] = []
    partial = tools.folder / PARTIAL / shard if tools.folder and shard else None
    if tools.folder and partial:
        take_over(asked, tools.folder, partial)
    with _asked(urls, asked, partial, tools.engine) as spool:
        found = ((n, known[n], b"") if n in known else (n, *spool.get(key_of(*row))) for n, row in enumerate(rows))
        table = pa.concat_tables(_stored(urls, found, failed))
    return table, rejects(urls.take(pa.array([row for row, _ in failed], pa.int64())), [each for _, each in failed])


def _asked(
    urls: pa.Table, rows: Sequence[tuple[str, str | None]], partial: Path | None, engine: Engine | Img2dataset
) -> Spool:
    if isinstance(engine, Engine):
        return engine.run(rows, partial)
    boxes = {}
    if engine.boxes is not None:
        for url, checksum, extra in zip(
            *(urls[name].to_pylist() for name in ("url", "checksum", "extra")), strict=True
        ):
            if (said := as_dict(extra).get(engine.boxes)) is not None:
                boxes[url, checksum] = said
    return engine.run(rows, partial, boxes)


def _stored(
    urls: pa.Table, found: Iterable[tuple[int, Outcome, bytes]], failed: list[tuple[int, Outcome]]
) -> Iterator[pa.Table]:
    """The rows that came, a few megabytes at a time, so that pictures lie in memory once. Others go to `failed`.

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
        image=[None if LINKED in outcome else picture for outcome, picture in found],
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
        extra=_extra(urls["extra"], [outcome.get(LINKED) for outcome, _ in found]),
    )


def _extra(listed: pa.ChunkedArray, linked: Sequence[int | None]) -> pa.Array | pa.ChunkedArray:
    """As listed, and of linked pictures how many bytes they have."""
    if not any(length is not None for length in linked):
        return listed
    each = zip(map(as_dict, listed.to_pylist()), linked, strict=True)
    rows = [row if size is None else row | {LENGTH: str(size)} for row, size in each]
    return pa.array([as_extra(row) for row in rows], EXTRA)


def _captions(listed: pa.ChunkedArray) -> pa.Array:
    """As listed. `original` is the same text until curate cleans it."""
    rows = [[item | {"original": item["text"]} for item in captions] for captions in listed.to_pylist()]
    return pa.array(rows, pa.list_(CAPTION))


def rejects(urls: pa.Table, failures: Sequence[Outcome]) -> pa.Table:
    """Quarantine rows for rows of `urls`. Credentials in a URL are blotted out."""
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
