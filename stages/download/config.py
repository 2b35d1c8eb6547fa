"""Section `download` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pairloom.errors import ConfigError
from pairloom.typed import Positive, Range, Share, check_ranges
from stages.contract import A_PATH
from stages.download import pictures
from stages.download.address import door
from stages.download.failure import Failure
from stages.download.optout import DIRECTIVES

# Settings that decide what is stored of a picture. The others decide whether it is fetched, and how.
OF_PIXELS = ("max_pixels", "max_dimension", "max_frames", "resize", "max_side", "upscale", "quality", "keep")
SAME_OUTPUT = {"affects_output": False}  # mark of settings whose change makes no shard due
AT_DEFAULT = {"absent_at_default": True}  # mark of settings that earlier versions did not have


@dataclass(frozen=True, kw_only=True)
class Config:
    """Section `download` of params.yaml. docs/how-to/from-img2dataset.md has img2dataset's names."""

    # folder that a server on loopback offers as http://sample.invalid/ while the stage runs
    serve: str | None = field(default=None, metadata=SAME_OUTPUT | A_PATH)
    allow_hosts: tuple[str, ...] = ()  # HOST or HOST:PORT that may have private addresses, such as a mirror
    # connect directly although http_proxy or https_proxy is set. Else the run is refused then, unless `serve` is set
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
    # 429). Then its rows are left out as host-slow; null: no limit
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
    max_pixels: Annotated[int, Range(1, 89_478_485)] = 89_000_000  # width × height. More is never decoded
    max_dimension: Positive = 65_500  # pixels of its longer side
    max_frames: Positive = 1000  # of an animation, of which the first is stored
    resize: pictures.Resize = "longest"  # none, or which side max_side is of: longest, shortest, area (its root)
    max_side: Annotated[int, Range(1, 65_500)] = 1024  # pixels. 65,500 is the longest side of a JPEG
    upscale: bool = False  # whether smaller pictures are enlarged
    quality: Annotated[int, Range(1, 100)] = 92  # of JPEGs that had to be re-encoded
    # of pictures that need no change and lie in a source of this machine: their bytes, or link: only where they lie
    keep: Literal["bytes", "link"] = field(default="bytes", metadata=AT_DEFAULT)
    # what asks the web: pairloom, or img2dataset with fewer guards (docs/how-to/from-img2dataset.md)
    engine: Literal["pairloom", "img2dataset"] = field(default="pairloom", metadata=AT_DEFAULT)
    # file (YAML or JSON) of img2dataset's own settings, for engine: img2dataset
    img2dataset_config: str | None = field(default=None, metadata=SAME_OUTPUT | A_PATH)
    # processes of each worker that decode pictures; null: the cores' share
    decoders: Positive | None = field(default=None, metadata=SAME_OUTPUT)
    # megabytes that decoding one picture may take
    decoder_memory_mb: Annotated[int, Range(64)] = field(default=2048, metadata=SAME_OUTPUT)
    # name and path or address of each source: set by the executor, from `sample.sources`
    sources: tuple[tuple[str, str], ...] = field(default=(), metadata=SAME_OUTPUT | {"of_list": True})
    # rows of which the list says why another program failed (docs/how-to/import.md): left out for it, or fetched
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
        if self.img2dataset_config is not None and self.engine != "img2dataset":
            given = f"download.img2dataset_config is {self.img2dataset_config!r}, and the engine is {self.engine}"
            raise ConfigError(given, "params.yaml", "set download.engine: img2dataset, or leave the file out")
        if self.engine == "img2dataset" and self.serve:
            given = f"download.serve is {self.serve!r}, which img2dataset cannot reach"
            raise ConfigError(given, "params.yaml", "take download.engine: pairloom for the demo")


def _header(value: str) -> bool:
    return value.isascii() and value.isprintable()
