"""The state of an object as plain data, so that two states can be compared and a difference named."""

from __future__ import annotations

import itertools
import random
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

APART = frozenset({"shared", "_play", "_np_random", "_np_random_seed", "spec"})
"""Attributes that belong to the framework or to all instances."""
RUNTIME = frozenset(
    {"_thread", "threading", "asyncio", "_asyncio", "concurrent", "queue", "_queue", "socket", "_io"}
)
RUNTIME |= frozenset(
    {"subprocess", "selectors", "weakref", "contextlib", "contextvars", "logging", "sqlite3"}
)
"""Modules whose objects run things instead of holding data."""
LIMIT = 20_000
Leaves = dict[str, str]


def leaves_of(root: object, *, apart: frozenset[str] = APART) -> Leaves:
    """Give every plain value inside an object, by path.

    >>> class Shop:
    ...     def __init__(self): self.prices = {"pear": 12}
    >>> leaves_of(Shop())
    {".prices['pear']": '12'}
    """
    return dict(itertools.islice(_walk(root, "", _common(root), apart), LIMIT))


def _common(root: object) -> set[int]:
    """Give the identities of what lies in the resources that instances share."""
    found: set[int] = set()
    waiting = [getattr(root, "shared", None)]
    while waiting and len(found) < LIMIT:
        value = waiting.pop()
        if value is not None and id(value) not in found and _plain(value) is None:
            found.add(id(value))
            waiting += [child for _, child in _children(value, APART)]
    return found


def changed(old: Leaves, new: Leaves) -> str | None:
    """Name the first difference of two states, or None."""
    for path in [*old, *new]:
        if old.get(path) != new.get(path):
            before, after = old.get(path, "nothing"), new.get(path, "nothing")
            return f"self{path}: {before[:60]} became {after[:60]}"
    return None


def _walk(value: Any, path: str, above: set[int], apart: frozenset[str]) -> Iterator[tuple[str, str]]:
    plain = _plain(value)
    if plain is not None:
        yield path, plain
        return
    if id(value) in above or path.count(".") + path.count("[") > 12:
        return
    above = above | {id(value)}
    children = list(_children(value, apart))
    if not children:
        yield path, f"{type(value).__name__}()"
    for name, child in children:
        yield from _walk(child, path + name, above, apart)


def _plain(value: Any) -> str | None:
    if isinstance(value, (str, int, float, bool, bytes, bytearray, type(None), np.generic)):
        return repr(value)
    if isinstance(value, np.ndarray):
        return f"array{value.shape} {value.tobytes()!r}" if value.dtype != object else repr(value.tolist())
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, random.Random):
        return repr(hash(value.getstate()))
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(repr, value)))
    return None


def _children(value: Any, apart: frozenset[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", child) for key, child in value.items())
    elif isinstance(value, (list, tuple, deque)):
        yield from ((f"[{i}]", child) for i, child in enumerate(value))
    elif isinstance(value, type) or callable(value) or type(value).__module__.partition(".")[0] in RUNTIME:
        return
    else:
        slots = [s for k in type(value).__mro__ for s in _slots(k) if hasattr(value, s)]
        own = dict(getattr(value, "__dict__", {})) | {s: getattr(value, s) for s in slots}
        yield from ((f".{name}", child) for name, child in own.items() if name not in apart)


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (
        (slots,)
        if isinstance(slots, str)
        else tuple(s for s in slots if s not in {"__dict__", "__weakref__"})
    )
