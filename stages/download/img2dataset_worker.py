"""The process in which img2dataset's Downloader runs for one shard, with our picture checks as its resizer.

argv: a folder with job.json. The outcome of each row goes to `outcomes` there, as stages/download/records.py writes.
It is a process of its own because img2dataset redirects its standard output while it decodes, keeps an opener for all
requests, and must not outlive the run: it ends when its standard input is closed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from formats.datasets.img2dataset import reason_of
from stages.download.address import Target, follow, parse
from stages.download.failure import Failure
from stages.download.img2dataset_checks import OURS, Checks, Stored
from stages.download.img2dataset_job import Job, open_records
from stages.download.img2dataset_settings import Resizing
from stages.download.names import LOOK_UPS, Doors
from stages.download.pictures import Limits
from stages.download.records import Records

ROW, ASKED = "row", "asked"
OF_ROW = pa.struct([("checksum", pa.string()), ("boxes", pa.string())])  # what the resizer must know of a row
COLUMNS = pa.schema([("url", pa.string()), (ROW, pa.int64()), (ASKED, OF_ROW)])  # that the Downloader reads
LOCK = threading.Lock()  # of the file of outcomes, while hosts are looked up


class OursError(Exception):
    """Becomes an outcome of ours. The Downloader notes what `str` gives."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(OURS + json.dumps({"reason": failure.reason, "detail": failure.detail}))


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address that may be asked."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        try:
            admit(follow(parse(req.full_url), newurl), self.doors)
        except Failure as failure:
            raise OursError(failure) from failure
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def admit(target: Target, doors: Doors) -> None:
    """Resolve the host, and refuse private addresses. Raises Failure dns or address-refused.

    img2dataset resolves once more when it connects: a name that changes its address in between is not noticed.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else "not a possible host name"
        raise Failure("dns", said) from error
    doors.admit(target.host, target.port, list(dict.fromkeys(str(entry[4][0]) for entry in found)))


class Writer:
    """Img2dataset's sample writer: each row's outcome to the file, under its number."""

    records: Records

    def __init__(self, *arguments: Any) -> None:
        """The Downloader gives shard, folder and schema, none of which is of use here."""

    def write(self, image: Stored | None, key: str, caption: str | None, meta: Mapping[str, Any]) -> None:
        if image is not None:
            note(self.records, meta[ROW], {**image.facts, "attempts": 1}, bytes(image))
            return
        message = meta["error_message"] or ""
        if message.startswith(OURS):
            facts = json.loads(message.removeprefix(OURS))
        else:
            detail = f"img2dataset: {meta['status']}, {message}"
            facts = {"reason": reason_of(meta["status"], message), "detail": detail[:300]}
        note(self.records, meta[ROW], {**facts, "attempts": 1})

    def close(self) -> None:
        """The file is closed when the process ends."""


def note(records: Records, row: int, facts: Mapping[str, Any], image: bytes = b"") -> None:
    records.append(row.to_bytes(16, "big"), facts, image)


def run(folder: Path, job: Job) -> None:
    """Every row's outcome. Those that may not be asked for first."""
    doors = Doors(frozenset(job.allowed))
    Writer.records = open_records(folder)
    urllib.request.install_opener(urllib.request.build_opener(Redirects(doors)))
    with ThreadPoolExecutor(LOOK_UPS) as pool:
        admitted = pool.map(lambda row: _admitted(row, job, doors), range(len(job.rows)))
        asked = [row for row, good in enumerate(admitted) if good]
    if not asked:
        return
    shard = folder / "shard.arrow"
    columns = {
        "url": [parse(job.rows[row][0]).url for row in asked],
        ROW: asked,
        ASKED: [{"checksum": job.rows[row][1], "boxes": job.rows[row][2]} for row in asked],
    }
    with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, COLUMNS) as writer:
        writer.write_table(pa.table(columns, schema=COLUMNS))
    _downloader(folder, job, len(asked)).download_shard((0, str(shard)))


def _admitted(row: int, job: Job, doors: Doors) -> bool:
    try:
        admit(parse(job.rows[row][0]), doors)
    except Failure as failure:
        facts = {"reason": failure.reason, "detail": failure.detail, "attempts": 1}
        with LOCK:
            note(Writer.records, row, facts)
        return False
    return True


def _downloader(folder: Path, job: Job, rows: int) -> Any:
    from img2dataset.downloader import Downloader  # type: ignore[import-untyped]

    resizing = None if job.resizing is None else Resizing(**job.resizing)
    return Downloader(
        sample_writer_class=Writer,
        resizer=Checks(Limits(**job.limits), resizing),
        thread_count=min(job.thread_count, rows),
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url", ROW, ASKED],
        timeout=job.timeout,
        number_sample_per_shard=max(10, rows),
        oom_shard_count=5,
        compute_hash=None,
        verify_hash_type=None,
        encode_format="jpg",
        retries=job.retries,
        user_agent_token=job.user_agent_token,
        disallowed_header_directives=list(job.directives) or None,
        blurring_bbox_col=ASKED,  # this column's value is handed to the resizer
    )


def end_with_parent() -> None:
    """End when nobody reads any more: a killed run leaves no process that still asks servers."""
    while os.read(0, 1):  # not by sys.stdin, whose lock a process that ends would find taken
        pass
    os._exit(1)


def main() -> None:
    folder = Path(sys.argv[1])
    threading.Thread(target=end_with_parent, daemon=True).start()
    said = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    run(folder, Job(**{**said, "rows": [cast(Any, tuple(row)) for row in said["rows"]]}))


if __name__ == "__main__":
    main()
