"""Members of a tar, read by their position. The index of a tar is made once and kept beside the tables."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from formats.pictures.errors import SourceError, explained
from formats.pictures.roots import File, Stream
from pairloom.table import Array

BLOCK = tarfile.BLOCKSIZE
AHEAD = 4 << 20  # bytes that are read at once where each read is a request
ENDS_EARLY = "the tar ends early"
PIECE = 50_000  # members that are written together
COLUMNS = pa.schema([("name", pa.binary()), ("offset", pa.int64()), ("size", pa.int64())])
FORMAT = b"1"  # of the index


@dataclass(frozen=True)
class Member:
    """A file in a tar: its name as stored, and where its bytes lie."""

    name: str
    offset: int
    size: int
    refused: str | None = None  # why it cannot be read


def members(stream: Stream) -> Iterator[Member]:
    """The files of a tar, in its order. Links and names that would lead out of it are refused by name.

    Raises SourceError unreadable where the tar is none, is packed, or ends early. The members before that came.
    """
    file, options = stream.file, {"encoding": "utf-8", "errors": "surrogateescape"}
    refuse_packed(file)
    end = 0
    try:
        with tarfile.open(fileobj=stream, mode="r:", errorlevel=1, **options) as tar:  # type: ignore[call-overload]
            while (found := tar.next()) is not None:
                tar.members = []  # or they would all stay in memory
                end = tar.offset
                if found.offset_data + found.size > file.size:
                    raise SourceError("unreadable", f"{ENDS_EARLY}, within {found.name!r}")
                if not found.isdir():
                    yield Member(found.name, found.offset_data, found.size, _refusal(found))
                stream.seek(end)
    except tarfile.TarError as error:
        raise SourceError("unreadable", f"{ENDS_EARLY}: {error}" if end else f"it is no tar: {error}") from error
    if file.read(end, BLOCK) != bytes(BLOCK):
        raise SourceError("unreadable", f"{ENDS_EARLY}, or is damaged: after byte {end} there is no mark of its end")


def _refusal(member: tarfile.TarInfo) -> str | None:
    if member.issym() or member.islnk():
        return "it is a link"
    if not member.isreg() or member.issparse():
        return "it is no plain file"
    if member.name.startswith("/"):
        return "its name is an absolute path"
    if ".." in member.name.split("/"):
        return "its name has '..'"
    return None


def refuse_packed(file: File) -> None:
    """Raise SourceError if the tar is packed, since its members then have no position."""
    magic = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
    if packing := magic.get(file.read(0, 2)):
        raise SourceError("unreadable", f"the tar is packed as {packing}: unpack it to a plain tar")


class Index:
    """Where the members of one tar lie, found by name, in a file of Arrow that is mapped into memory."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        self._names, self._offsets, self._sizes = (table[name].combine_chunks() for name in COLUMNS.names)
        facts = table.schema.metadata
        self.fault = facts[b"fault"].decode() or None  # where the tar ends early
        self._order = np.argsort(hashes := self._hashes(), kind="stable")
        self._sorted = hashes[self._order]

    def _hashes(self) -> Array:
        values = (xxhash.xxh3_64_intdigest(name.as_py()) for name in self._names)
        return np.fromiter(values, np.uint64, len(self._names))

    def find(self, name: str) -> Member | None:
        """The first member of this name."""
        raw = os.fsencode(name)
        wanted = np.uint64(xxhash.xxh3_64_intdigest(raw))
        at = int(np.searchsorted(self._sorted, wanted))
        while at < len(self._order) and self._sorted[at] == wanted:
            row = int(self._order[at])
            if self._names[row].as_py() == raw:
                return Member(name, self._offsets[row].as_py(), self._sizes[row].as_py())
            at += 1
        return None


def scanned(name: str, file: File, remote: bool, kept: Path | None) -> Iterator[tuple[Member, Stream]]:
    """The members of a tar with the stream to read them from. Its index, if there is none, is written at the end.

    Raises SourceError as `members` does.
    """
    stream, rows = Stream(file, AHEAD if remote else 0), _Rows()
    fault: SourceError | None = None
    try:
        for member in members(stream):
            rows.add(member)
            yield member, stream
    except SourceError as error:
        fault = error
    if kept is not None and not _is_of(_place(kept, name), file):
        _write(kept, name, file, rows, fault.detail if fault else "")
    if fault is not None:
        raise fault


def index_of(name: str, file: File, remote: bool, kept: Path | None) -> Index:
    """The index of a tar. Made if there is none in the folder `kept`, or the tar has changed since.

    name: source and path, which the index is kept under. kept: None for one that nobody comes back to.
    """
    if kept is None:
        with tempfile.TemporaryDirectory(prefix="pairloom-") as folder:
            return index_of(name, file, remote, Path(folder))
    if not _is_of(_place(kept, name), file):
        with suppress(SourceError):  # which the index notes
            deque(scanned(name, file, remote, kept), maxlen=0)
    return Index(_place(kept, name))


def _place(folder: Path, name: str) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.tar-index"


def _is_of(path: Path, file: File) -> bool:
    """Whether an index is there, and of this version of the tar."""
    try:
        with pa.OSFile(str(path)) as source:
            facts = pa.ipc.open_file(source).schema.metadata or {}
    except (OSError, pa.ArrowException):
        return False
    return facts.get(b"version") == file.version.encode() and facts.get(b"format") == FORMAT


@dataclass
class _Rows:
    """Members on their way into an index. Those that may not be read are left out."""

    pieces: list[pa.Table] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)

    def add(self, member: Member) -> None:
        if member.refused is None:
            self.members.append(member)
        if len(self.members) == PIECE:
            self._cut()

    def table(self) -> pa.Table:
        self._cut()
        return pa.concat_tables(self.pieces)

    def _cut(self) -> None:
        names = [os.fsencode(member.name) for member in self.members]
        places = [[member.offset for member in self.members], [member.size for member in self.members]]
        self.pieces.append(pa.table([names, *places], schema=COLUMNS))
        self.members = []


def _write(folder: Path, name: str, file: File, rows: _Rows, fault: str) -> None:
    """Write the index under its name, whole or not at all: two workers may do so at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"version": file.version, "format": FORMAT, "fault": fault, "tar": repr(name)}
    table = rows.table().replace_schema_metadata(facts)
    temporary = folder / f"{os.getpid()}-{os.urandom(4).hex()}.tmp"
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        temporary.replace(_place(folder, name))
    finally:
        temporary.unlink(missing_ok=True)


class Tar:
    """A tar whose members are asked for by name."""

    def __init__(self, name: str, file: File, remote: bool, kept: Path | None) -> None:
        self.file = file
        with explained(name):
            self.index = index_of(name, file, remote, kept)

    def place(self, name: str) -> Member:
        """Raises SourceError path-refused for a name that would lead out, not-found, or unreadable where it is cut."""
        if name.startswith("/") or ".." in name.split("/"):
            raise SourceError("path-refused", f"the member {name!r} is an absolute path or has '..'")
        found = self.index.find(name)
        if found is None and self.index.fault:
            raise SourceError("unreadable", f"the tar has no whole {name!r}: {self.index.fault}")
        if found is None:
            raise SourceError("not-found", f"the tar has no member {name!r}")
        return found

    def read(self, member: Member) -> bytes:
        return self.file.read(member.offset, member.size)

    def close(self) -> None:
        self.file.close()
