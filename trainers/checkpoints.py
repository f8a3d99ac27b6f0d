"""Checkpoints of a run: one safetensors file for each committed step, whole or not at all.

Tensors stand under their names; everything else of the state is JSON in the file's own metadata, beside a
digest of both. So a file is one write and one rename, and a torn one is recognised.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from agentrl.codec import decode, encode
from agentrl.errors import ConfigError
from agentrl.runs import writable
from agentrl.store.errors import StoreError
from agentrl.store.files import write_whole

TENSOR = "$tensor"
ALIGNMENT = 8
"""The bytes of the largest number, of which a file's head takes a multiple."""
NAME = re.compile(r"step-(\d{6,})\.safetensors")
START = 0
"""The step of the checkpoint with the weights that a run starts from; it is never removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """How often a run is saved."""

    every: int = 1
    """Steps between checkpoints; work since the last one is done again after a crash."""
    keep: int = 2
    """How many are kept, so that a torn one has another behind it."""

    def __post_init__(self) -> None:
        for name in ("every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"checkpoint.{name}={getattr(self, name)}: need 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """The checkpoints in one folder that belong to one run."""

    folder: Path
    run: str
    keep: int = 2

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the state behind a step, then remove what is older than the last `keep`.

        Raises:
            StoreError: It cannot be written; what was there before is as it was.
        """
        with writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / file_name(step), pack({"run": self.run, "step": step} | dict(state)))
            for old in [s for s in self.steps() if s not in (START, step)][self.keep - 1 :]:
                (self.folder / file_name(old)).unlink(missing_ok=True)

    def steps(self) -> list[int]:
        """Give the steps that have a checkpoint, the latest first."""
        found = (NAME.fullmatch(f.name) for f in self.folder.glob("*"))
        return sorted((int(m[1]) for m in found if m), reverse=True)

    def load(self, step: int) -> dict[str, Any] | None:
        """Read the state behind a step; None where there is none of this run.

        Raises:
            TornError: The file is not as it was written.
        """
        file = self.folder / file_name(step)
        if not file.is_file():
            return None
        state = unpack(file)
        return state if state["run"] == self.run else None

    def latest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Read the last whole state, and say which files were passed over.

        Raises:
            StoreError: Steps were trained, and none of their checkpoints is whole.
        """
        torn: list[str] = []
        steps = self.steps()
        for step in steps:
            try:
                state = self.load(step)
            except TornError as error:
                torn.append(str(error))
                continue
            if state is not None:
                return state, torn
        if torn and steps[0] > START:
            raise StoreError(
                f"{torn[0]}, and no other checkpoint is whole: put back a copy, or start anew with --fresh"
            )
        return None, torn

    def discard_after(self, step: int) -> None:
        """Remove the checkpoints behind a step, and those of another run of this name."""
        with writable(self.folder):
            for other in self.steps():
                if other > step:
                    (self.folder / file_name(other)).unlink()


def load_weights(targets: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copy saved weights into a model's.

    Raises:
        ConfigError: They are another model's.
    """
    if targets.keys() != weights.keys():
        name = min(targets.keys() ^ weights.keys())
        raise ConfigError(f"the checkpoint is another model's: tensor {name!r} is in one of them only")
    with torch.no_grad():
        for name, tensor in weights.items():
            targets[name].copy_(tensor)


class TornError(Exception):
    """A checkpoint is not as it was written; names the file."""


def file_name(step: int) -> str:
    """Name a checkpoint.

    >>> file_name(12)
    'step-000012.safetensors'
    """
    return f"step-{step:06d}.safetensors"


def pack(state: Mapping[str, Any]) -> Iterator[bytes | memoryview]:
    """Give a state of tensors and plain data as one safetensors file, piece by piece.

    The tensors are not copied: safetensors' own writer holds the file in memory, as large as all of them.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(encode(without_tensors(state, tensors)), separators=(",", ":"))
    placed = dict(sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])))  # so aligned
    yield head_of(placed, {"state": plain, "sha256": digest(plain, tensors)})
    yield from map(content, placed.values())


def head_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Write what a safetensors file begins with: where each of `tensors` stands, in their order."""
    head: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        kind = type_name(tensor.dtype)
        head[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


@functools.cache
def type_name(dtype: torch.dtype) -> str:
    """Give the name that safetensors has for a type.

    >>> type_name(torch.float32), type_name(torch.uint8)
    ('F32', 'U8')
    """
    whole = save({"x": torch.empty(0, dtype=dtype)})
    return str(json.loads(whole[8:])["x"]["dtype"])


def content(tensor: Tensor) -> memoryview:
    """Give the bytes of a contiguous tensor, where they are."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def unpack(file: Path) -> dict[str, Any]:
    """Read what `pack` wrote.

    Raises:
        TornError: It is not as it was written.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
            metadata = opened.metadata() or {}
        plain = metadata["state"]
    except (SafetensorError, OSError, KeyError) as error:
        raise TornError(f"{file} is torn ({' '.join(str(error).split())})") from error
    if digest(plain, tensors) != metadata.get("sha256"):
        raise TornError(f"{file} is torn (its digest is another)")
    state: dict[str, Any] = with_tensors(decode(json.loads(plain)), tensors)
    return state


def digest(plain: str, tensors: Mapping[str, Tensor]) -> str:
    """Give a fingerprint of data and tensors."""
    found = hashlib.sha256(plain.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        found.update(content(tensor))
    return found.hexdigest()


def without_tensors(value: Any, tensors: dict[str, Tensor], name: str = "") -> Any:
    """Give a state with names in the place of its tensors, which are put into `tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {TENSOR: name}
    if isinstance(value, Mapping):
        return {k: without_tensors(v, tensors, f"{name}.{k}".lstrip(".")) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(without_tensors(v, tensors, f"{name}.{i}") for i, v in enumerate(value))
    return value


def with_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Put tensors back where `without_tensors` left their names."""
    if isinstance(value, dict):
        if value.keys() == {TENSOR}:
            return tensors[value[TENSOR]]
        return {k: with_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(with_tensors(v, tensors) for v in value)
    return value
