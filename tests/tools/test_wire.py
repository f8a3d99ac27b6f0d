"""The encoding: what goes in comes out, and nothing that a liar writes does harm."""

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.tools.sandbox.guest import wire

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)
KEYS = st.recursive(SCALARS, lambda s: st.tuples(s, s) | st.frozensets(s, max_size=3), max_leaves=5)
VALUES = st.recursive(
    KEYS,
    lambda s: (
        st.lists(s) | st.tuples(s, s) | st.dictionaries(KEYS, s, max_size=4) | st.sets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_goes_in_comes_out(value: object) -> None:
    back = wire.decode(wire.encode(value))
    assert back == value and type(back) is type(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    try:
        wire.encode(wire.decode(data))
    except wire.WireError:
        pass


@given(VALUES, st.data())
def test_damaged_bytes_are_a_value_or_refused(value: object, data: st.DataObject) -> None:
    raw = bytearray(wire.encode(value))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        wire.decode(bytes(raw))
    except wire.WireError:
        pass


def test_keys_with_one_hash_cannot_hang_the_host() -> None:
    prime = 2**61 - 1
    keys = [b"i" + struct.pack("<I", 16) + (n * prime).to_bytes(16, "little") for n in range(50_000)]
    started = time.perf_counter()
    with pytest.raises(wire.WireError, match="share a hash"):
        wire.decode(b"e" + struct.pack("<I", len(keys)) + b"".join(keys))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"l\xff\xff\xff\xff",
        b"s\x04\0\0\0abc",
        b"e\x01\0\0\0l\0\0\0\0",
        b"l\x01\0\0\0" * 100 + b"N",
        b"NN",
    ],
)
def test_known_lies_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(data)


def test_nesting_has_a_limit_on_both_sides() -> None:
    value: list[object] = []
    for _ in range(wire.MAX_DEPTH - 1):
        value = [value]
    assert wire.decode(wire.encode(value)) == value
    with pytest.raises(wire.WireError, match="nested"):
        wire.encode([[value]])
