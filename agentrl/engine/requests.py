"""One open request inside the engine, and how its chunks come back to the loop that asked."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from agentrl.engine.protocol import Chunk, Sampling
from agentrl.episode import Ids
from agentrl.errors import EngineError

Answer = Chunk | EngineError


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A prompt with its settings; `row` is where the engine works on it, while it does."""

    ids: Ids
    sampling: Sampling
    seed: int
    limit: int
    """Length of prompt and completion at which it ends."""
    loop: asyncio.AbstractEventLoop
    answers: asyncio.Queue[Answer] = field(default_factory=asyncio.Queue)
    row: int | None = None
    sent: int = 0
    """How many sampled tokens were handed out."""
    cancelled: bool = False


Answers = list[tuple[Request, Answer]]


def deliver(answers: Iterable[tuple[Request, Answer]]) -> None:
    """Hand answers to their loops, with one wake-up for each loop."""
    by_loop: dict[asyncio.AbstractEventLoop, Answers] = {}
    for request, answer in answers:
        by_loop.setdefault(request.loop, []).append((request, answer))
    for loop, batch in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody is left who waits
            loop.call_soon_threadsafe(_put, batch)


def _put(batch: Answers) -> None:
    for request, answer in batch:
        request.answers.put_nowait(answer)
