"""Episodes to bytes and back, lossless to the bit; plain JSON, so nothing is executed on reading."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentrl import environment, episode, message, task
from agentrl.errors import ConfigError

TAG = "$"
TYPES: dict[str, type] = {
    t.__name__: t
    for t in (
        *(message.Text, message.Image, message.ToolResult, message.Call, message.Action),
        *(environment.Observation, environment.CallRecord, environment.StepResult, task.Task),
        *(episode.Columns, episode.Segment, episode.Context, episode.Turn, episode.Failure),
        *(episode.Episode, episode.Group),
    )
}
FIELDS = {kind: tuple(f.name for f in dataclasses.fields(kind)) for kind in TYPES.values()}
PLAIN = {type(None), bool, int, float, str}
ARRAYS = {"<i4", "<f4", "|b1"}


def to_bytes(value: Any) -> bytes:
    r"""Write an episode, a group, or any part of one.

    Halves of a character that stand side by side stay two: JSON's escapes would join them.

    >>> from_bytes(to_bytes(message.Text("é\ud83d\ude00"))).text == "é\ud83d\ude00"
    True
    """
    text = json.dumps(encode(value), separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> Any:
    """Read what `to_bytes` wrote.

    Raises:
        ConfigError: It is not that.
    """
    try:
        return decode(json.loads(data))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"this is no recorded episode: {type(error).__name__}: {error}") from error


def encode(value: Any) -> Any:
    """Turn a value into JSON data with tags for what JSON lacks."""
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in FIELDS:
        return {TAG: kind.__name__, **{name: encode(getattr(value, name)) for name in FIELDS[kind]}}
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, tuple):
        return {TAG: "tuple", "v": [encode(v) for v in value]}
    if isinstance(value, Mapping):
        return _encode_mapping(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def _encode_array(value: NDArray[Any]) -> Any:
    if value.dtype.str not in ARRAYS:
        value = value.astype(value.dtype.newbyteorder("<"))
    data = binascii.b2a_base64(value.tobytes(), newline=False).decode("ascii")
    return {TAG: "array", "dtype": value.dtype.str, "shape": list(value.shape), "data": data}


def _encode_mapping(value: Mapping[Any, Any]) -> Any:
    if TAG not in value and all(type(k) is str for k in value):
        return {k: encode(v) for k, v in value.items()}
    return {TAG: "map", "v": [[encode(k), encode(v)] for k, v in value.items()]}


def decode(data: Any) -> Any:
    """Turn JSON data back into the value."""
    if isinstance(data, list):
        return [decode(v) for v in data]
    if not isinstance(data, dict):
        return data
    kind = data.get(TAG)
    if kind is None:
        return {k: decode(v) for k, v in data.items()}
    if kind == "tuple":
        return tuple(decode(v) for v in data["v"])
    if kind == "map":
        return {decode(k): decode(v) for k, v in data["v"]}
    if kind == "array":
        return _decode_array(data)
    return TYPES[kind](**{k: decode(v) for k, v in data.items() if k != TAG})


def _decode_array(data: dict[str, Any]) -> Any:
    if data["dtype"] not in ARRAYS:
        raise ValueError(f"an array of dtype {data['dtype']!r}: known are {sorted(ARRAYS)}")
    flat = np.frombuffer(base64.b64decode(data["data"]), dtype=data["dtype"])
    return flat.reshape(data["shape"]).copy()
