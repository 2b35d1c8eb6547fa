"""Where a table lies: a folder of this machine, or an address in a bucket, such as s3://bucket/folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from pairloom.errors import InputError, PairloomError

BUCKETS = ("s3", "gs", "az")  # schemes of the stores that tables are pushed to and pulled from
SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)  # pathlib makes one slash of the two


@dataclass(frozen=True)
class Address:
    """A folder that is not of this machine. `path` is without slashes at its ends."""

    scheme: str
    bucket: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.path}" if self.path else "")

    @property
    def parent(self) -> Address:
        """The folder that this one lies in. Raises InputError for a whole bucket."""
        if not self.path:
            raise InputError("this takes a folder in a bucket", str(self), f"name one, such as {self}/folder")
        return Address(self.scheme, self.bucket, self.path.rpartition("/")[0])

    @property
    def name(self) -> str:
        """The last of its names."""
        return (self.path or self.bucket).rpartition("/")[2]

    def __truediv__(self, name: str) -> Address:
        return Address(self.scheme, self.bucket, f"{self.path}/{name}".strip("/"))


def parse(text: str | Path) -> Path | Address:
    """What a person named: a path, file:// as a path, or an address. `./s3:/folder` is a path.

    Raises InputError where an address has no bucket.
    """
    found = SCHEME.fullmatch(str(text))
    if found is None:
        return Path(text)
    scheme, rest = found.groups()
    if scheme == "file":
        return Path("/" + unquote(rest.removeprefix("localhost/")))
    bucket, _, path = rest.strip("/").partition("/")
    if not bucket:
        raise InputError("the address names no bucket", str(text), f"name one, such as {scheme}://bucket/folder")
    return Address(scheme, bucket, path.strip("/"))


def local(text: str | Path) -> Path:
    """The path that a person named. Raises InputError where it is an address: what asks works on this machine alone."""
    place = parse(text)
    if isinstance(place, Address):
        fix = (
            f"`pairloom pull {place} DIR` copies a table here, and `pairloom push DIR {place}` copies one there "
            "(other files travel with the store's own program)"
        )
        raise InputError("this takes a folder of this machine, not an address", str(place), fix)
    return place


def in_bucket(text: str | Path) -> Address:
    """The address in a bucket that a person named. Raises InputError where it is another place."""
    place = parse(text)
    if not isinstance(place, Address) or place.scheme not in BUCKETS:
        schemes = ", ".join(f"{scheme}://" for scheme in BUCKETS)
        raise InputError("this takes an address in a bucket", str(place), f"name one that begins with {schemes}")
    return place


@contextmanager
def named(folder: Path, address: Address) -> Iterator[None]:
    """Errors of the block name an address in the place of the folder that stands for it."""
    try:
        yield
    except PairloomError as error:
        told = [part.replace(str(folder), str(address)) if isinstance(part, str) else part for part in error.args]
        error.args = tuple(told)
        raise
