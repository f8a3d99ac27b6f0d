"""An engine that replays given turns: the fake that we ship, so that nothing is ever mocked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from agentrl.engine.protocol import Capabilities, Chunk, Sampling
from agentrl.episode import Columns, Floats, Ids, as_ids
from agentrl.errors import ConfigError, EngineError

if TYPE_CHECKING:
    from torch import Tensor

Script = Callable[[tuple[int, ...], int], Sequence[int]]


class ScriptedEngine:
    """Answers each request with given ids, as a policy that is certain of them: log-prob 0, entropy 0.

    >>> from agentrl.engine.complete import complete
    >>> engine = ScriptedEngine([[5, 6, 2], [7, 2]])
    >>> first = asyncio.run(complete(engine, [1], Sampling(stop_ids=frozenset({2})), seed=0))
    >>> first.ids.tolist(), first.finish
    ([5, 6, 2], 'stop')

    Args:
        script: The turns in the order of the requests, or a function (ids so far, seed) -> ids of the turn.
        latency_seconds: Time that each request takes.
        error: Raised by each request instead of an answer.
        max_context: Longest prompt plus completion; None: any.
        decode: Turns ids into text; needed for stop strings.
    """

    def __init__(
        self,
        script: Sequence[Sequence[int]] | Script,
        *,
        latency_seconds: float = 0.0,
        error: Exception | None = None,
        max_context: int | None = None,
        decode: Callable[[Sequence[int]], str] | None = None,
    ) -> None:
        self._script = script if callable(script) else _in_order(script)
        self._latency_seconds, self._error = latency_seconds, error
        self._max_context, self._decode = max_context, decode
        self._running = asyncio.Event()
        self._running.set()
        self._closed = False
        self._version = 0
        self.prompts: list[tuple[int, ...]] = []
        """The prompts of all requests so far."""
        self.open = 0
        """Requests under way."""

    @property
    def capabilities(self) -> Capabilities:
        """What a script can do; the same request gets the same answer only from a function."""
        return Capabilities(deterministic=True, max_context=self._max_context)

    @property
    def version(self) -> int:
        """Version of the last update."""
        return self._version

    async def generate(
        self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int
    ) -> AsyncGenerator[Chunk, None]:
        """Replay a turn, cut at the first stop and at the limits."""
        prompt = tuple(int(i) for i in ids)
        self._check(prompt, sampling)
        self.prompts.append(prompt)
        self.open += 1
        try:
            await asyncio.sleep(self._latency_seconds)
            await self._running.wait()
            if self._closed:
                raise EngineError("the engine was closed")
            if self._error is not None:
                raise self._error
            yield self._chunk(prompt, sampling, [int(i) for i in self._script(prompt, seed)])
        finally:
            self.open -= 1

    def _check(self, prompt: tuple[int, ...], sampling: Sampling) -> None:
        if self._closed:
            raise EngineError("the engine was closed")
        if self._max_context is not None and len(prompt) >= self._max_context:
            raise ConfigError(
                f"a prompt of {len(prompt)} tokens does not fit into the context of {self._max_context}"
            )
        if sampling.stop_strings and self._decode is None:
            raise ConfigError(f"stop_strings={sampling.stop_strings} need text: give the engine decode=")

    def _chunk(self, prompt: tuple[int, ...], sampling: Sampling, turn: list[int]) -> Chunk:
        limit = len(turn) if sampling.max_tokens is None else sampling.max_tokens
        if self._max_context is not None:
            limit = min(limit, self._max_context - len(prompt))
        stop = next((n for n in range(1, len(turn) + 1) if self._stops(turn[:n], sampling)), None)
        size = min(limit, len(turn) if stop is None else stop)
        if not size:
            raise EngineError("the script gave a turn without tokens")
        zeros = np.zeros(size, dtype=np.float32)
        columns = Columns(
            logp=zeros, untempered=zeros, entropy=zeros, version=np.full(size, self._version, dtype=np.int32)
        )
        return Chunk(ids=as_ids(turn[:size]), columns=columns, finish="stop" if stop == size else "length")

    def _stops(self, turn: list[int], sampling: Sampling) -> bool:
        if turn[-1] in sampling.stop_ids:
            return True
        text = self._decode(turn) if sampling.stop_strings and self._decode is not None else ""
        return any(s in text for s in sampling.stop_strings)

    async def score(self, ids: Sequence[int] | Ids) -> Floats:
        """Zeros: a script is certain of everything."""
        return np.zeros(max(0, len(ids) - 1), dtype=np.float32)

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        """Take the version; there are no weights."""
        self._version = version

    async def pause(self) -> None:
        """Hold back all answers until `resume`."""
        self._running.clear()

    async def resume(self) -> None:
        """Go on."""
        self._running.set()

    async def close(self) -> None:
        """End; requests under way end with `EngineError`."""
        self._closed = True
        self._running.set()


def _in_order(turns: Sequence[Sequence[int]]) -> Script:
    rest = iter(turns)

    def script(ids: tuple[int, ...], seed: int) -> Sequence[int]:
        turn = next(rest, None)
        if turn is None:
            raise EngineError(f"the script has {len(turns)} turns and was asked for one more")
        return turn

    return script
