"""Tells an environment's tasks apart, which decides whether they are split and which are held out."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SMALL_SPACE = 128
"""Task spaces with fewer distinct tasks are not split: holding tasks out would take part of the skill
away.
"""
NOT_OF_THE_TASK = frozenset(
    {"_np_random", "_np_random_seed", "_made", "_play", "shared", "split", "level", "spec"}
)
"""What Gymnasium or the rollout sets: equal tasks have equal fingerprints, whoever made the instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """With what an instance was made, so that an untouched one can be made again; never copied."""

    arguments: tuple[Any, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Made:
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpace:
    """The tasks of one environment at one level with one set of settings."""

    small: bool
    names: frozenset[str] = frozenset()
    """The attributes that hold the facts of a task; what tools leave behind is not among them."""
    constant: Mapping[str, str] = field(default_factory=dict)
    """Those of them that were the same in every draw, whatever an episode makes of them later."""

    def fingerprint(self, env: Any, shown: Any) -> int:
        """Tell tasks apart, whatever the instance has played before."""
        facts = {k: v for k, v in facts_of(env).items() if k in self.names}
        return digest(shown, facts | dict(self.constant))


def facts_of(env: Any) -> dict[str, str]:
    """Give the plain data that the author keeps in `self`, in words."""
    return {k: plain(v) for k, v in vars(env).items() if k not in NOT_OF_THE_TASK}


def fingerprint(env: Any, shown: Any) -> int:
    """Tell tasks apart by what is shown and by the plain data that the author keeps in `self`."""
    return digest(shown, facts_of(env))


def digest(shown: Any, facts: Mapping[str, str]) -> int:
    """Turn a task's text and facts into a number."""
    text = repr((shown, sorted(facts.items())))
    found = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(found, "little")


def plain(value: Any) -> str:
    """Write plain data the same way in every process; of anything else only the type.

    >>> print(plain([1, object()]))
    ['1', 'object']
    """
    if isinstance(value, (str, int, float, bool, bytes, type(None), np.generic)):
        return repr(value)
    if isinstance(value, Mapping):
        return repr(sorted((plain(k), plain(v)) for k, v in value.items()))
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(plain, value)))
    if isinstance(value, (Sequence, np.ndarray)):
        return repr([plain(v) for v in value])
    return type(value).__name__


async def survey(env: Any, draws: int = 256) -> TaskSpace:
    """Draw some tasks to see how many there are and where their facts are kept; changes `env`."""
    seen = set()
    values: dict[str, set[str]] = {}
    for seed in range(draws):
        shown = env.task(np.random.default_rng([seed, 7]))
        if inspect.isawaitable(shown):
            shown = await shown
        facts = facts_of(env)
        seen.add(digest(shown, facts))
        for name in {*values, *facts}:
            values.setdefault(name, {""} if seed else set()).add(facts.get(name, ""))
    constant = {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
    return TaskSpace(small=len(seen) < SMALL_SPACE, names=frozenset(values), constant=constant)


class Surveys:
    """Task spaces by key, each surveyed once, however many threads and event loops ask at a time.

    Args:
        patience_seconds: Who has waited so long for another's survey makes one too: the other may hang.
    """

    def __init__(self, patience_seconds: float = 20.0) -> None:
        self._patience = patience_seconds
        self._found: dict[Hashable, TaskSpace] = {}
        self._running: dict[Hashable, Future[None]] = {}
        self._lock = threading.Lock()

    async def get(
        self, key: Hashable, make: Callable[[], Awaitable[TaskSpace]], *, on_loop: bool
    ) -> TaskSpace:
        """Give the space of a key; `make` is called where nobody else has made it or just does.

        Unless `on_loop`, it waits by blocking the thread: a blocking environment never really awaits.
        """
        hung: Future[None] | None = None
        while True:
            with self._lock:
                if key in self._found:
                    return self._found[key]
                running = self._running.get(key)
                if running is None or running is hung:
                    mine = self._running[key] = begun()
                    break
            hung = None if await self._ended(running, on_loop=on_loop) else running
        try:
            return self._found.setdefault(key, await make())
        finally:
            with self._lock:
                if self._running.get(key) is mine:
                    del self._running[key]
            mine.set_result(None)

    async def _ended(self, survey: Future[None], *, on_loop: bool) -> bool:
        """Wait for another's survey; whether it ended, well or not."""
        if not on_loop:
            return bool(wait([survey], self._patience).done)
        waiting = asyncio.wrap_future(survey)
        try:
            return bool((await asyncio.wait([waiting], timeout=self._patience))[0])
        finally:
            waiting.cancel()


def begun() -> Future[None]:
    """Give a future that nobody who waits for it can cancel."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future
