"""`agentrl/Code-v0`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np

from agentrl.envs.code.families import all_families, families
from agentrl.envs.code.judge import judge
from agentrl.envs.code.market import (
    CROWDED,
    ONE_QUESTION,
    PRELUDE,
    fill,
    read_first,
    read_requests,
    shows_too_much,
)
from agentrl.envs.code.problem import Problem, pick
from agentrl.errors import ConfigError, ToolError, unknown
from agentrl.message import Action
from agentrl.task import Split
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from agentrl.tools.python import without_addresses
from agentrl.tools.sandbox import Execution, Limits, Sandbox, SandboxPool, open_pool

SILENT = "nothing printed"
ISOLATION = ("auto", "namespaces", "landlock", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The constructor's settings, checked."""

    level: int = 0
    isolation: str = "auto"
    seconds: float = 5.0
    memory_mb: int = 512
    pool_size: int = 8
    max_output: int = 2000

    def __post_init__(self) -> None:
        if self.level not in CodeEnv.levels:
            raise ConfigError(f"level={self.level}: code has levels {', '.join(map(str, CodeEnv.levels))}")
        if self.isolation not in ISOLATION:
            raise ConfigError(unknown("isolation", self.isolation, ISOLATION))
        for name in ("seconds", "memory_mb", "pool_size", "max_output"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}: need more than 0")

    def open_pool(self) -> SandboxPool:
        """Give the pool that these settings describe, to be entered."""
        limits = Limits(wall_seconds=self.seconds, memory_bytes=self.memory_mb << 20)
        if self.isolation == "none":
            return open_pool(unsafe_local=True, limits=limits, size=self.pool_size, prelude=PRELUDE)
        level = cast(Literal["auto", "namespaces", "landlock"], self.isolation)
        return open_pool(level=level, limits=limits, size=self.pool_size, prelude=PRELUDE)


@dataclass(slots=True, kw_only=True)
class Live:
    """What an instance holds besides its task."""

    settings: Settings
    problem: Problem | None = None
    replies: dict[str, str] = field(default_factory=dict)
    box: Sandbox | None = None
    pool: SandboxPool | None = None
    """A pool of its own, where no worker shares one."""
    home: asyncio.AbstractEventLoop | None = None
    """The loop that the pool and the box belong to."""


class CodeEnv(ToolEnv):
    """Answer a question, or write functions, with a Python interpreter that keeps its names between calls.

    * Level 0: two dependent calls: a fact of the market, then arithmetic on it or another fact.
    * Level 1: three to five calls with loops and strings.
    * Level 2: write a function; hidden tests judge it.
    * Level 3: write a program of several functions; hidden tests judge each.
    """

    levels: ClassVar[tuple[int, ...]] = (0, 1, 2, 3)
    splits: ClassVar[tuple[Split, ...]] = ("train", "test", "ood")

    def __init__(
        self,
        *,
        level: int = 0,
        isolation: str = "auto",
        seconds: float = 5.0,
        memory_mb: int = 512,
        pool_size: int = 8,
        max_output: int = 2000,
    ) -> None:
        """Make an instance; nothing starts before the first call of `python`.

        Args:
            level: Level of tasks that `reset` draws unless its options name another.
            isolation: "auto", "namespaces", "landlock", or "none" for no walls at all.
            seconds: Wall time for one call.
            memory_mb: Memory for the code of one episode.
            pool_size: Sandboxes that are kept ready.
            max_output: Characters of output or error that are shown of one call.
        """
        settings = Settings(
            level=level,
            isolation=isolation,
            seconds=seconds,
            memory_mb=memory_mb,
            pool_size=pool_size,
            max_output=max_output,
        )
        self._live = Live(settings=settings)

    @classmethod
    def open_shared(cls, **settings: Any) -> AbstractAsyncContextManager[SandboxPool]:
        """Open the pool of sandboxes of one worker."""
        return Settings(**settings).open_pool()

    @property
    def isolation(self) -> str:
        """How the code is isolated; '' before a pool is open."""
        return str(getattr(self.shared, "isolation", ""))

    async def task(self, rng: np.random.Generator) -> str:
        await self._release()
        problem = pick(rng, families(self.level, self.split)).draw(rng)
        self._live.problem, self._live.replies = problem, {}
        self.key = problem.key
        self.max_turns = 5 if self.level == 0 else 8
        return problem.text

    @tool
    async def python(self, code: str) -> str:
        """Run Python and read what it prints; names are kept for later calls.

        The market's functions price(item), stock(item), weight(item), neighbor(item), basket(person),
        budget(person) and note(person) give replies that can be printed but not computed with: print one,
        then use what you read in the next call. The final answer is the value alone, or the source of the
        functions that were asked for.
        """
        box = await self._open_box()
        ran = await box.run(code)
        live = self._live
        read = read_first if self.level == 0 else read_requests
        live.replies |= read(ran.values, live.problem.facts if live.problem else {})
        if not ran.alive:
            await self._release()
        whole = ran.ok and ran.alive
        shown = ran.output if whole else "\n".join(filter(None, (ran.output.rstrip(), self._error(ran))))
        if self.level == 0 and shows_too_much(shown):
            raise ToolError(CROWDED)
        shown = self._cut(without_addresses(fill(shown, live.replies).rstrip()))
        if not whole or ONE_QUESTION in shown:
            raise ToolError(shown)
        return shown or SILENT

    async def reward(self, answer: str) -> float | dict[str, float]:
        problem = self._live.problem
        assert problem is not None
        if not problem.cases:
            return float(read_answer(answer) == problem.answer)
        await self._release()
        verdict = await judge(read_source(answer), problem.cases, await self._open_pool())
        return {"tests": verdict.share}

    def expert(self, observations: Sequence[str]) -> Action:
        """Give the next action from what the model has read so far."""
        text, *seen = observations
        for family in all_families():
            if (action := family.act(text, seen)) is not None:
                return action
        raise ValueError(f"no family writes {text!r}")

    async def act(self, action: Action) -> Any:
        """Take one action; at the end the sandbox goes."""
        result = await super().act(action)
        if result.done:
            await self._release()
        return result

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start an episode; `options` may hold `split` and `level`."""
        return super().reset(seed=seed, options={"level": self._live.settings.level} | (options or {}))

    def close(self) -> Any:
        """Kill the sandbox, and the pool where it is the instance's own; awaitable on the loop of both."""
        home = self._live.home
        if home is None or home.is_closed():
            return None
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if home is here:
            return home.create_task(self._close())
        return asyncio.run_coroutine_threadsafe(self._close(), home).result()

    async def _close(self) -> None:
        await self._release()
        pool, self._live.pool = self._live.pool, None
        if pool is not None:
            self.shared = None
            await pool.close()

    async def _release(self) -> None:
        box, self._live.box = self._live.box, None
        if box is not None:
            await box.close()

    async def _open_pool(self) -> SandboxPool:
        self._live.home = asyncio.get_running_loop()
        if self.shared is None:
            self._live.pool = self._live.settings.open_pool()
            self.shared = await self._live.pool.__aenter__()
        pool: SandboxPool = self.shared
        return pool

    async def _open_box(self) -> Sandbox:
        if self._live.box is None:
            self._live.box = await (await self._open_pool()).acquire()
        return self._live.box

    def _error(self, ran: Execution) -> str:
        error = ran.error.rstrip()
        if self.level == 0:
            error = error.rpartition("\n")[2]
        return error if ran.alive else f"{error}\nThe interpreter was restarted: its names are gone.".lstrip()

    def _cut(self, text: str) -> str:
        most = self._live.settings.max_output
        return text if len(text) <= most else f"{text[: most // 2]}\n... [cut] ...\n{text[-most // 2 :]}"


def read_answer(text: str) -> str:
    """Read a final answer.

    >>> read_answer(" 84. ")
    '84'
    """
    return text.strip().removesuffix(".").strip("\"'").lower()


def read_source(text: str) -> str:
    r"""Read a program, out of its code fence where it has one.

    >>> read_source("Here it is:\n```python\nx = 1\n```")
    'x = 1\n'
    """
    _, fence, rest = text.partition("```")
    return rest.partition("\n")[2].partition("```")[0] if fence else text
