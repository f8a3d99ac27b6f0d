"""The data-only encoding and the frames between a sandbox and its host.

Every value is a tag byte and a payload; sizes come first, so a reader never searches and never allocates
more than it was sent. The reader treats its input as hostile: depth, sizes and hash collisions are bounded.
"""

import struct
from typing import Any

FRAME = struct.Struct("<IBI")
"""Bytes of payload, kind, number of the call."""
RUN, VALUE, DONE, READY, FAILED = b"RVDYF"
VALUE_COST = 64
"""Bytes that a value is charged besides its own."""
MAX_DEPTH = 64
MAX_INT_BYTES = 1780
"""An int beyond about 4,280 digits could not be printed by the host."""
MAX_SAME_HASH = 100
"""Keys that share a hash make a dict quadratic: more than this many are no accident."""

_SIZE = struct.Struct("<I")
_FLOAT = struct.Struct("<d")
_CONTAINERS: dict[type, bytes] = {list: b"l", tuple: b"t", set: b"e", frozenset: b"z", dict: b"m"}
_BUILD: dict[bytes, type] = {tag: kind for kind, tag in _CONTAINERS.items()}


class WireError(ValueError):
    """Bytes that no honest writer makes, or a value that cannot be sent."""


def frame(kind: int, call: int, payload: bytes) -> bytes:
    """A payload with its size, its kind and the number of the call that it belongs to."""
    return FRAME.pack(len(payload), kind, call) + payload


def encode(value: object) -> bytes:
    """The bytes of a value made of exact built-in types.

    >>> decode(encode({"a": (1, 2.5, None)}))
    {'a': (1, 2.5, None)}

    Raises:
        WireError: Another type, nesting beyond `MAX_DEPTH`, an int or text that cannot be sent.
    """
    parts: list[bytes] = []
    _write(value, parts, 0)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes], depth: int) -> None:
    kind = type(value)
    if depth > MAX_DEPTH:
        raise WireError(f"a value nested deeper than {MAX_DEPTH} cannot be sent")
    if kind in _CONTAINERS:
        parts += (_CONTAINERS[kind], _SIZE.pack(len(value)))
        for item in value.items() if kind is dict else value:
            for part in item if kind is dict else (item,):
                _write(part, parts, depth + 1)
        return
    tag, payload = _scalar(value, kind)
    parts.append(tag)
    if tag in b"isb":
        parts.append(_SIZE.pack(len(payload)))
    parts.append(payload)


def _scalar(value: Any, kind: type) -> tuple[bytes, bytes]:
    if value is None or kind is bool:
        return {None: b"N", True: b"T", False: b"F"}[value], b""
    if kind is int:
        size = value.bit_length() // 8 + 1
        if size > MAX_INT_BYTES:
            raise WireError(f"an int of {size} bytes cannot be sent: at most {MAX_INT_BYTES}")
        return b"i", value.to_bytes(size, "little", signed=True)
    if kind is float:
        return b"d", _FLOAT.pack(value)
    if kind is bytes:
        return b"b", value
    if kind is str:
        try:
            return b"s", value.encode()
        except UnicodeEncodeError:
            raise WireError("text with lone surrogates cannot be sent") from None
    raise WireError(f"{kind.__name__} cannot be sent: only plain built-in types, and containers of them")


def decode(data: bytes) -> Any:
    """The value that `encode` was given.

    Raises:
        WireError: Anything that `encode` would not have written.
    """
    value, end = _read(data, 0, 0)
    if end != len(data):
        raise WireError("bytes left over after the value")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    tag, at = _take(data, at, 1)
    if tag in b"NTF":
        return {b"N": None, b"T": True, b"F": False}[tag], at
    if tag == b"d":
        raw, at = _take(data, at, 8)
        return _FLOAT.unpack(raw)[0], at
    if tag not in b"isbltezm":
        raise WireError(f"unknown tag {tag!r}")
    raw, at = _take(data, at, 4)
    (size,) = _SIZE.unpack(raw)
    if tag in b"isb":
        raw, at = _take(data, at, size)
        return _text_or_number(tag, raw), at
    if depth >= MAX_DEPTH:
        raise WireError("nested too deeply")
    return _read_container(tag, size, data, at, depth + 1)


def _take(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - at:
        raise WireError("cut short")
    return data[at : at + size], at + size


def _text_or_number(tag: bytes, raw: bytes) -> int | str | bytes:
    if tag == b"b":
        return raw
    if tag == b"i":
        if not 0 < len(raw) <= MAX_INT_BYTES:
            raise WireError(f"an int of {len(raw)} bytes")
        return int.from_bytes(raw, "little", signed=True)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise WireError("text that is not UTF-8") from None


def _read_container(tag: bytes, size: int, data: bytes, at: int, depth: int) -> tuple[Any, int]:
    count = size * 2 if tag == b"m" else size
    if count > len(data) - at:  # every item takes at least one byte
        raise WireError("cut short")
    items: list[Any] = []
    for _ in range(count):
        item, at = _read(data, at, depth)
        items.append(item)
    if tag in b"lt":
        return _BUILD[tag](items), at
    keys = items[::2] if tag == b"m" else items
    _check_hashes(keys)
    return (dict(zip(keys, items[1::2], strict=True)) if tag == b"m" else _BUILD[tag](keys)), at


def _check_hashes(keys: list[Any]) -> None:
    try:
        hashes = {hash(key) for key in keys}
    except TypeError:
        raise WireError("a key that cannot be hashed") from None
    if len(keys) - len(hashes) > MAX_SAME_HASH:
        raise WireError("too many keys share a hash")
