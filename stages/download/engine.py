"""img2dataset's download loop with our own fetching, decoding and collecting in place of its own.

`img2dataset.downloader.Downloader` (1.47) brings the thread pool, the loop over a feather shard, the bound on
bodies in memory, and the call of a resizer and a writer. It prints and forgets rows whose handler raises, writes
statistics that count them as neither done nor failed, and hangs in its pool when interrupted. So its loop runs with
names of ours for its globals, in a thread of its own, and every row must come back.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import threading
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing.pool import ThreadPool
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pyarrow as pa

from stages.download.failure import Failure
from stages.download.fetch import Fetched, Fetcher
from stages.download.pictures import Picture


@dataclass(frozen=True)
class Stored:
    """A row that was downloaded."""

    picture: Picture
    sha256: bytes  # of the body as fetched


@dataclass(frozen=True)
class Engine:
    """Downloads lists of URLs; `normalise` turns a fetched body into a picture or raises Failure."""

    fetcher: Fetcher
    normalise: Callable[[Fetched], Picture]
    threads: int

    def run(self, urls: Sequence[str], checksums: Sequence[str | None]) -> list[Stored | Failure]:
        """What became of each URL, in order. Raises the first error that is no Failure."""
        if not urls:
            return []
        shard = _Shard(self, checksums)
        thread = threading.Thread(target=shard.run, args=[urls], daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:  # Ctrl-C: nothing new is begun, and threads that wait for a server die with the process
            self.fetcher.stop.set()
            shard.abandon()
            raise
        return shard.results(len(urls))


class _Body(BytesIO):
    """A fetched body as img2dataset passes it from fetching to decoding."""

    def __init__(self, key: int, fetched: Fetched) -> None:
        super().__init__()  # empty: the bytes are in `fetched`
        self.key = key
        self.fetched = fetched


@dataclass
class _Shard:
    """One run of img2dataset's loop; what comes out of it, by row."""

    engine: Engine
    checksums: Sequence[str | None]
    stored: dict[int, Stored] = field(default_factory=dict)
    failed: dict[int, Failure] = field(default_factory=dict)
    errors: list[BaseException] = field(default_factory=list)
    pools: list[ThreadPool] = field(default_factory=list)

    def run(self, urls: Sequence[str]) -> None:
        with _Keeping(self.errors):
            path = _feather(urls)
            names = {
                "download_image_with_retry": self.fetch,
                "ThreadPool": self.make_pool,
                "write_stats": _nothing,
                "print": _nothing,
                "traceback": SimpleNamespace(print_exc=self.keep_error),
            }
            _with_names(names)(_settings(self, len(urls)), (0, path))

    def make_pool(self, threads: int) -> ThreadPool:
        self.pools.append(ThreadPool(threads))
        return self.pools[-1]

    def abandon(self) -> None:
        """Let the process end without waiting for the pool, which waits for servers."""
        for pool in self.pools:
            pool._terminate.cancel()  # type: ignore[attr-defined]  # what would run, and hang, at exit

    def fetch(self, row: tuple[int, str], **_: Any) -> tuple[int, _Body | None, str | None]:
        """In place of img2dataset's function of the same arguments; must not raise, or its pool hangs."""
        key, url = row
        with _Keeping(self.errors):
            try:
                return key, _Body(key, self.engine.fetcher.fetch(url, self.checksums[key])), None
            except Failure as failure:
                self.failed[key] = failure
                return key, None, failure.reason
        return key, None, "error"

    def resize(self, body: _Body, boxes: Any) -> tuple[Any, ...]:
        """In place of img2dataset's resizer: (picture, its sizes, None), or an error at the end."""
        try:
            picture = self.engine.normalise(body.fetched)
        except Failure as failure:
            failure.attempts = body.fetched.attempts
            self.failed[body.key] = failure
            return None, None, None, None, None, failure.reason
        sizes = (picture.width, picture.height, picture.original_width, picture.original_height)
        self.stored[body.key] = Stored(picture, body.fetched.sha256)
        return picture, *sizes, None

    def keep_error(self) -> None:
        error = sys.exception()
        if error is not None:
            self.errors.append(error)

    def results(self, rows: int) -> list[Stored | Failure]:
        if self.errors:
            raise self.errors[0]
        done: dict[int, Stored | Failure] = {**self.stored, **self.failed}
        lost = sorted(set(range(rows)) - set(done))
        assert not lost, f"img2dataset's loop lost the rows {lost}"
        assert len(self.stored) + len(self.failed) == rows, "a row both failed and was stored"
        return [done[key] for key in range(rows)]


class _Writer:
    """In place of img2dataset's writers of files; the rows are in `_Shard` already."""

    def __init__(self, *_: Any) -> None: ...

    def write(self, *_: Any) -> None: ...

    def close(self) -> None: ...


class _Keeping:
    """Keeps an error for the thread that waits for us, instead of letting img2dataset's loop lose it."""

    def __init__(self, errors: list[BaseException]) -> None:
        self.errors = errors

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is not None:
            self.errors.append(error)
        return True


def _nothing(*_: Any, **__: Any) -> None: ...


def _feather(urls: Sequence[str]) -> str:
    """The URLs as the Arrow file that Downloader reads and removes, in memory."""
    import fsspec  # type: ignore[import-untyped]  # it has no types

    path = f"memory://pairloom/{uuid.uuid4().hex}.feather"
    table = pa.table({"url": pa.array(urls, pa.string())})
    with fsspec.open(path, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return path


def _with_names(names: dict[str, Any]) -> Callable[..., None]:
    """Downloader.download_shard with these names in place of its module's; the module itself stays as it is."""
    downloader = _img2dataset()
    return FunctionType(downloader.Downloader.download_shard.__code__, {**vars(downloader), **names})


@functools.cache
def _img2dataset() -> Any:
    """The module img2dataset.downloader; imported late, since that takes 3 s."""
    if importlib.util.find_spec("imghdr") is None:
        # Python 3.13 has no imghdr any more; img2dataset imports it for its Resizer, which is not used here.
        sys.modules["imghdr"] = ModuleType("imghdr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports, about what will be removed some day
        return importlib.import_module("img2dataset.downloader")


def _settings(shard: _Shard, rows: int) -> Any:
    return _img2dataset().Downloader(
        sample_writer_class=_Writer,
        resizer=shard.resize,
        thread_count=min(shard.engine.threads, rows),
        save_caption=False,
        extract_exif=False,
        output_folder="",
        column_list=["url"],
        timeout=None,  # the fetcher's own settings count, not these
        number_sample_per_shard=rows,
        oom_shard_count=1,
        compute_hash=None,
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=None,
        disallowed_header_directives=None,
    )
