"""The engine contract."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from agentrl.episode import Columns, Floats, Ids
from agentrl.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to draw tokens and when to stop.

    Temperature 0 is greedy: the behaviour log-prob is then 0 by definition, the untempered one as always.
    """

    max_tokens: int | None = None
    """None: as many as the limits of the episode allow; asked of an engine directly, as its context holds."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 = all."""
    stop_ids: frozenset[int] = frozenset()
    """The stop token itself is sampled, returned and trained on."""
    stop_strings: tuple[str, ...] = ()
    """Found across token borders; the tokens up to the one that completes the string are returned."""

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens={self.max_tokens}: need 1 or more")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature={self.temperature}: need 0 (greedy) or a finite number above it")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}: need a value in (0, 1]")
        if self.top_k < 0:
            raise ConfigError(f"top_k={self.top_k}: need 0 (all) or more")
        if "" in self.stop_strings:
            raise ConfigError(f"stop_strings={self.stop_strings!r}: leave out '', which every text holds")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Newly sampled tokens; the last chunk of a request has a `finish`."""

    ids: Ids
    columns: Columns
    finish: Literal["stop", "length"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do, so that a recipe is refused before it starts and not in the middle."""

    returns_ids: bool = True
    logprobs: bool = True
    score: bool = True
    update: bool = True
    deterministic: bool = False
    """A completion is a function of weights, ids and request seed, bit for bit, whatever else is served."""
    max_context: int | None = None
    dtype: str | None = None
    """Of the weights, such as 'float32'; None where log-probs follow from no weights."""


class Engine(Protocol):
    """Samples continuations. One engine serves many requests at once."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""
        ...

    @property
    def version(self) -> int:
        """Version of the weights that serve now."""
        ...

    def generate(self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int) -> AsyncGenerator[Chunk]:
        """Sample a continuation of `ids`, in one or more chunks.

        Random numbers are a function of (seed, position of the token in the context). Closing the iterator
        cancels
        the request and frees its place.

        Raises:
            EngineError: The engine died.
            ConfigError: The prompt does not fit into the context.
        """
        ...

    async def score(self, ids: Sequence[int] | Ids) -> Floats:
        """Give the untempered log-prob of each token after the first: an array of length len(ids) - 1."""
        ...

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        """Take new weights between two sampling steps; what was cached under older weights is dropped."""
        ...

    async def pause(self) -> None:
        """Sample nothing until `resume`; requests wait."""
        ...

    async def resume(self) -> None:
        """Go on."""
        ...

    async def close(self) -> None:
        """Release everything; open requests end with `EngineError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completion:
    """A finished request."""

    ids: Ids
    columns: Columns
    finish: Literal["stop", "length"]
