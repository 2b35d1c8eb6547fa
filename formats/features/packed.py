"""Arrays in msgpack as the package msgpack-numpy writes them, read without the pickles that it would open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from formats.features.record import Array, BrokenError


def loads(data: bytes | memoryview) -> Any:
    """What msgpack.dumps wrote with msgpack-numpy's patch. Raises BrokenError for damage and for pickled objects."""
    try:
        return msgpack.unpackb(data, object_hook=_array, raw=False, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BrokenError(f"it is not msgpack: {error}") from error


def _array(item: dict[Any, Any]) -> Any:
    """The array or number that a mapping stands for. msgpack-numpy writes its keys as bytes."""
    own = {key.decode() if isinstance(key, bytes) else key: value for key, value in item.items()}
    if "nd" not in own:
        return item
    kind = own.get("kind", b"")
    if kind in (b"O", "O", b"V", "V"):
        raise BrokenError("an array of Python objects is not read")
    values = np.frombuffer(own["data"], np.dtype(_text(own["type"])))
    return values.reshape(own["shape"]) if own["nd"] else values[0]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def dumps(arrays: Mapping[str, Array]) -> bytes:
    """Arrays by their names as msgpack-numpy reads them."""
    content = {
        name: {b"nd": True, b"type": values.dtype.str, b"kind": b"", b"shape": values.shape, b"data": values.tobytes()}
        for name, values in arrays.items()
    }
    packed: bytes = msgpack.packb(content, use_bin_type=True)
    return packed
