"""Keys of pictures as files of features, lists of captions and folders write them, brought together.

A picture is 391895 to COCO's captions, COCO_val2014_000000391895 to LXMERT, coco_val2014_000000391895.npz to UNITER
and val2014/COCO_val2014_000000391895.jpg to others. So a key is looked for as it is, then without folder and ending,
then by the number at its end alone, and a form that stands for two different keys is not used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

ENDING = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|npz|npy|pth)$", re.IGNORECASE)
NUMBER = re.compile(r"(\d+)$")
Hashes = npt.NDArray[np.uint64]


def forms(key: str) -> tuple[str, str, str]:
    """The key as it is, without folder and ending, and the number at its end (or the second form, without one)."""
    plain = ENDING.sub("", key.rpartition("/")[2])
    number = NUMBER.search(plain)
    return key, plain, str(int(number[1])) if number else plain


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


class Keys:
    """Finds the rows of a list by a picture's key. 24 bytes of memory a row, and nothing of the texts."""

    def __init__(self, listed: Iterable[str]) -> None:
        hashed = np.array([[_hash(form) for form in forms(key)] for key in listed], np.uint64).reshape(-1, len(FORMS))
        self._exact = hashed[:, 0]
        self._orders = [np.argsort(hashed[:, form], kind="stable") for form in FORMS]
        self._sorted: list[Hashes] = [hashed[order, form] for form, order in zip(FORMS, self._orders, strict=True)]

    def __len__(self) -> int:
        return len(self._exact)

    def rows(self, key: str, tried: Sequence[int] = range(3)) -> npt.NDArray[np.int64]:
        """The rows of this picture in their order. None where there are none, or those of several pictures.

        tried: forms of the key, as `forms` numbers them.
        """
        texts = forms(key)
        for form in tried:
            wanted = np.uint64(_hash(texts[form]))
            start, stop = (int(np.searchsorted(self._sorted[form], wanted, side)) for side in ("left", "right"))
            found: npt.NDArray[np.int64] = self._orders[form][start:stop]
            if len(found) and len(np.unique(self._exact[found])) == 1:
                return np.sort(found)
        return np.empty(0, np.int64)


FORMS: Sequence[int] = range(3)


class Seen:
    """Which keys came before: a hash of each, some 60 bytes in a set of Python's."""

    def __init__(self) -> None:
        self._hashes: set[int] = set()

    def first(self, key: str) -> bool:
        """Whether this key comes for the first time."""
        known, number = len(self._hashes), _hash(key)
        self._hashes.add(number)
        return len(self._hashes) > known
