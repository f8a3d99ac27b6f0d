"""What a check works with: environments under deadlines, episodes as comparable lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentrl.adapter import CLOSE_SECONDS, Adapter, blocking, ran, runs_on_loop
from agentrl.check.actions import Actor
from agentrl.check.report import Hung
from agentrl.check.wording import line_of, name_of, shown
from agentrl.environment import Observation, StepResult
from agentrl.message import Action
from agentrl.registry import EnvSpec, Worker
from agentrl.task import Split, Task
from agentrl.threads import OwnThread

TURNS = 12
"""Actions per trial episode, where the environment does not end it earlier."""


@dataclass(slots=True, kw_only=True)
class Bench:
    """The environment under test and how patient to be with it."""

    spec: EnvSpec
    seconds: float
    """How long one action may take."""
    seeds: int
    """How many tasks the checks look at."""
    seed: int = 0
    """Which tasks they are."""
    folder: str = ""
    """Where its temporary files go."""
    note: Callable[[str], None] = lambda text: None
    doing: str = "making an instance"

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that it declares."""
        return tuple(getattr(self.spec.kind, "levels", (0,)))

    @property
    def has_expert(self) -> bool:
        """Whether its author wrote an expert."""
        return callable(self.spec.trait("expert"))

    def task(self, position: int, *, split: Split = "train", level: int | None = None) -> Task:
        """Give a task of the environment's own source."""
        return self.spec.tasks(split, level=self.levels[0] if level is None else level, seed=self.seed).at(
            position
        )

    def positions(self, most: int, seconds: float = 1.0) -> Iterator[int]:
        """Count tasks, at least two of them, until there are enough or the time is spent."""
        end = time.monotonic() + seconds
        for position in range(max(2, min(most, self.seeds))):
            if position >= 2 and time.monotonic() > end:
                return
            yield position

    def tell(self, doing: str) -> None:
        """Note what is about to happen, in case it never ends."""
        self.doing = doing
        self.note(doing)

    async def within(self, doing: str, awaitable: Any, seconds: float | None = None) -> Any:
        """Await something for a limited time.

        Raises:
            Hung: It took longer.
        """
        self.tell(doing)
        limit = seconds or self.seconds
        try:
            async with asyncio.timeout(limit) as timer:
                return await awaitable
        except TimeoutError:
            if not timer.expired():
                raise
            raise Hung(
                f"{doing}: no answer within {limit:g} s; give what it waits for a time limit"
            ) from None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Table]:
        """Open a worker; what was not closed is closed at the end."""
        context = self.spec.open()
        worker = await self.within("opening what instances share", context.__aenter__(), 6 * self.seconds)
        table = Table(bench=self, worker=worker)
        try:
            yield table
            for game in table.games:
                await game.close()
        except BaseException:
            with suppress(Exception):
                await asyncio.wait_for(context.__aexit__(None, None, None), self.seconds)
            raise
        await self.within(
            "closing what instances share", context.__aexit__(None, None, None), 3 * self.seconds
        )


@dataclass(slots=True, kw_only=True)
class Table:
    """One open worker and the games played on it."""

    bench: Bench
    worker: Worker
    games: list[Game] = field(default_factory=list)

    def new(self) -> Game:
        """Make an instance."""
        self.bench.tell("making an instance")
        return self.seat(Adapter(self.worker.raw(), self.worker.raw))

    def seat(self, env: Any) -> Game:
        """Take an environment, such as a fork, under the deadlines of the bench."""
        game = Game(bench=self.bench, env=env)
        self.games.append(game)
        return game

    async def play(self, position: int, *, turns: int = TURNS, variant: int = 0) -> Game:
        """Play one episode of a task with a new instance and close it."""
        game = self.new()
        await game.play(self.bench.task(position), turns=turns, variant=variant)
        await game.close()
        return game


@dataclass(slots=True, kw_only=True)
class Game:
    """One instance and the episode that it plays."""

    bench: Bench
    env: Adapter
    task: Task | None = None
    first: Observation = field(default_factory=Observation)
    turns: list[tuple[Action, StepResult]] = field(default_factory=list)

    @property
    def raw(self) -> Any:
        """The instance as its author wrote it."""
        return self.env._env

    @property
    def texts(self) -> list[str]:
        """What a model would have read so far."""
        return [self.first.text, *(r.observation.text for _, r in self.turns)]

    @property
    def done(self) -> bool:
        """Whether the episode is over."""
        return bool(self.turns) and self.turns[-1][1].done

    @property
    def lines(self) -> list[str]:
        """The episode as text, one line per observation, for comparison."""
        tools = [s.schema()["function"] for s in self.env.tools]
        first = f"{self.first.parts!r} system {self.env.system!r} tools {tools}"
        return [first, *(line_of(r) for _, r in self.turns)]

    @property
    def actions(self) -> list[Action]:
        """What was done."""
        return [a for a, _ in self.turns]

    async def start(self, task: Task) -> Observation:
        """Begin an episode."""
        self.task, self.turns = task, []
        where = f"starting {name_of(task)}"
        self.first = await self.bench.within(where, self.env.start(task), 3 * self.bench.seconds)
        return self.first

    async def act(self, action: Action) -> StepResult:
        """Take an action."""
        assert self.task is not None
        doing = f"{name_of(self.task)}, turn {len(self.turns) + 1}, {shown(action)}"
        result: StepResult = await self.bench.within(doing, self.env.act(action))
        self.turns.append((action, result))
        return result

    async def play(self, task: Task, *, turns: int = TURNS, variant: int = 0) -> Game:
        """Play an episode with plausible random actions."""
        await self.start(task)
        return await self.go_on(self.actor(variant), turns)

    def actor(self, variant: int = 0) -> Actor:
        """Give a random player of this episode; equal variants act alike after equal observations."""
        assert self.task is not None
        return Actor(tools=self.env.tools, rng=np.random.default_rng([self.task.seed, variant]))

    async def go_on(self, actor: Actor, turns: int = TURNS) -> Game:
        """Play on for some turns or to the end."""
        for _ in range(turns):
            if self.done:
                break
            await self.act(actor.next(self.texts))
        return self

    async def repeat(self, task: Task, actions: Sequence[Action]) -> Game:
        """Play given actions."""
        await self.start(task)
        for action in actions:
            if self.done:
                break
            await self.act(action)
        return self

    async def call(self, doing: str, function: Callable[[], Any], seconds: float | None = None) -> Any:
        """Call into the instance as its author wrote it, past the adapter."""
        if runs_on_loop(self.raw):
            return await self.bench.within(doing, ran(function), seconds)
        return await self.bench.within(doing, OwnThread("env-raw").run(blocking, function), seconds)

    async def reset_raw(self, task: Task) -> Any:
        """Give what `reset` of a plain environment returns."""
        self.task, options = task, {"split": task.split, "level": task.level, "payload": dict(task.payload)}
        return await self.call(
            f"reset of {name_of(task)}", lambda: self.raw.reset(seed=task.seed, options=options)
        )

    async def step_raw(self, action: Action) -> Any:
        """Give what `step` of a plain environment returns."""
        given = action if self.env.tools else action.text
        return await self.call(f"step({shown(action)})", lambda: self.raw.step(given))

    async def close(self) -> None:
        """Close it; once more does nothing. What `close` raises is the concern of the check of closing alone.

        Raises:
            Hung: It does not return.
        """
        started, doing = time.monotonic(), f"close() of {type(self.raw).__name__}"
        try:
            await self.bench.within(doing, self.env.close(), self.bench.seconds + 6)
        except Hung:
            raise
        except Exception as error:
            if time.monotonic() - started >= CLOSE_SECONDS:
                raise Hung(f"{doing} did not return within {CLOSE_SECONDS:g} s") from error
