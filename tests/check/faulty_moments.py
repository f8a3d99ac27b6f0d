"""Faults that show at a certain moment only: the third turn, the second episode, a failure."""
# ruff: noqa: D101 - the name says what is wrong

import asyncio
import copy
import functools
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import gymnasium
import numpy as np

from agentrl.message import Action, call
from agentrl.task import ListedTasks, Split, Task, TaskSource
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.check.bases import Count, Options, Shop, Step
from tests.check.faulty_answers import Priced

CACHE: dict[str, int] = {}
CURRENT: dict[str, Any] = {}
GOODS = [{"items": ["pear", "plum", "fig", f"box{i}"], "n": i} for i in range(200)]


class CachesInModule(Priced):
    def find(self, item: str) -> int:
        if item not in CACHE:
            CACHE[item] = super().find(item)
        return CACHE[item]


class FirstIsSpecial(Count):
    welcomed: ClassVar[list[bool]] = []

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        text, info = super().reset(seed=seed)
        if not self.welcomed:
            self.welcomed.append(True)
            return f"Welcome! {text}", info
        return text, info


class SeedsModulo(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 499)


class ToolSeedsModulo(Shop):
    async def begin(self, task: Task) -> Any:
        fewer = Task(id=task.id, split=task.split, level=task.level, seed=task.seed % 1999)
        return await super().begin(fewer)


class OodIgnoresSeed(Count):
    splits = ("train", "test", "ood")

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        held = (options or {}).get("split") == "ood"
        return super().reset(
            seed=12345 if held else (seed or 0) * 2 + ((options or {}).get("split") == "test")
        )


class LevelIgnoresSeed(Shop):
    levels = (0, 1)

    def task(self, rng: np.random.Generator) -> str:
        text = super().task(np.random.default_rng(9) if self.level else rng)
        return f"{text} Level {self.level}."


class RandomAtThird(Priced):
    def task(self, rng: np.random.Generator) -> str:
        self.asked = 0
        return super().task(rng)

    def shown(self, value: int) -> str:
        self.asked += 1
        return f"{value}" if self.asked < 3 else f"{value} {os.urandom(4).hex()}"


class RandomErrors(Priced):
    async def act(self, action: Action) -> Any:
        if action.malformed:
            action = Action(malformed=(f"broken ({random.random()})",))
        return await super().act(action)


class PaysByTime(Priced):
    def reward(self, answer: str) -> Any:
        return (1.0 - 1e-4 * (time.perf_counter() % 1)) * self.right(answer)


def listed(split: Split, number: int, payload: dict[str, Any]) -> Task:
    """Make a task of a data set."""
    return Task(id=f"{split}-{number}", split=split, level=0, seed=number, payload=payload)


class EatsPayload(gymnasium.Env[str, str]):
    max_turns = 3

    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        half = GOODS[:100] if split == "train" else GOODS[100:]
        return ListedTasks(
            tasks=tuple(
                Task(id=f"{split}-{g['n']}", split=split, level=0, seed=i, payload=g)
                for i, g in enumerate(half)
            )
        )

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        self.items = (options or {})["payload"]["items"]
        self.turn = 0
        return f"Name what is left, last first: {', '.join(self.items)}.", {}

    def step(self, action: str) -> Step:
        self.turn += 1
        right = bool(self.items) and action == self.items.pop()
        return (
            "Yes." if right else "No.",
            float(right),
            right,
            self.turn == 3 and not right,
            {"correct": right},
        )


class TrainsOnTest(EatsPayload):
    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        return ListedTasks(
            tasks=tuple(
                Task(id=f"{split}-{i}", split=split, level=0, seed=i, payload={"n": i}) for i in range(60)
            )
        )

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        self.items, self.turn = [f"box{(options or {})['payload']['n']}"], 0
        return f"Say {self.items[0]}.", {}


class KeepsVictory(Priced):
    won = False

    def right(self, answer: str) -> bool:
        self.won = super().right(answer) or self.won
        return self.won


class CurrentInModule(ToolEnv):
    """Another episode of the same moment may take its place while it waits."""

    def task(self, rng: np.random.Generator) -> str:
        self.n = int(rng.integers(10**6))
        return f"Ask for the number {self.n}."

    @tool
    async def ask(self, what: str) -> str:
        """Ask for the number."""
        CURRENT["env"] = self
        await asyncio.sleep(0.01)
        return str(CURRENT["env"].n)

    def reward(self, answer: str) -> float:
        return float(answer == str(self.n))


class ForkSharesArray(Shop):
    def task(self, rng: np.random.Generator) -> str:
        self.state = {"counts": [np.zeros(3)]}
        return super().task(rng)

    def find(self, item: str) -> int:
        self.state["counts"][0][0] += 1
        return super().find(item) + int(self.state["counts"][0][0])

    def fork(self) -> "ForkSharesArray":
        twin = copy.copy(self)
        twin._play, twin.state = copy.copy(self._play), dict(self.state)
        return twin


class ForkSharesFile(Shop):
    def task(self, rng: np.random.Generator) -> str:
        self.file = tempfile.TemporaryFile("w+")
        self.file.write("".join(f"note {i}\n" for i in range(100)))
        self.file.seek(0)
        return super().task(rng)

    @tool
    def read_note(self) -> str:
        """Read the next note."""
        return self.file.readline().strip() or "no more"

    def fork(self) -> "ForkSharesFile":
        twin = copy.copy(self)
        twin._play, twin.prices = copy.copy(self._play), dict(self.prices)
        return twin


class ForkSharesIterator(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        given = super().reset(seed=seed)
        self.hints = iter([f"hint {int(i)}" for i in self.np_random.integers(0, 1000, 20)])
        return given

    def step(self, action: str) -> Step:
        given = super().step(action)
        return f"{given[0]} {next(self.hints)}", *given[1:]

    def fork(self) -> "ForkSharesIterator":
        twin = type(self)()
        vars(twin).update(vars(self))
        twin.np_random = copy.deepcopy(self.np_random)
        return twin


class ForkIsNothing(Count):
    def fork(self) -> None:
        """Forget to return the copy."""
        copy.deepcopy(self)


class CloseJoins(Shop):
    """Its thread ends when it ends, and close waits for that."""

    def task(self, rng: np.random.Generator) -> str:
        self.worker = threading.Thread(target=time.sleep, args=(1.8,), daemon=True)
        return super().task(rng)

    def find(self, item: str) -> int:
        if self.worker.ident is None:
            self.worker.start()
        return super().find(item)

    def close(self) -> None:
        worker = getattr(self, "worker", None)
        if worker is not None and worker.ident is not None:
            worker.join()

    def fork(self) -> "CloseJoins":
        twin = copy.copy(self)
        twin._play, twin.prices = copy.copy(self._play), dict(self.prices)
        return twin


class LeaksOnFailure(Priced):
    async def act(self, action: Action) -> Any:
        if action.malformed:
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return await super().act(action)


class LeaksOnSuccess(Priced):
    def right(self, answer: str) -> bool:
        if super().right(answer):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return super().right(answer)


class PrintsOnSuccess(Priced):
    def right(self, answer: str) -> bool:
        if super().right(answer):
            print("solved")
        return super().right(answer)


class LeaksShared(Shop):
    @classmethod
    @asynccontextmanager
    async def open_shared(cls, **settings: Any) -> AsyncIterator[threading.Event]:
        stop = threading.Event()
        threading.Thread(target=stop.wait, daemon=True).start()
        yield stop


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a tool, and take fewer arguments than it has."""

    @functools.wraps(function)
    def wrapper(self: Any, item: str) -> Any:
        return function(self, item)

    return wrapper


class WrappedTool(Shop):
    @tool
    @timed
    def discount(self, item: str, percent: int) -> str:
        """Look up a price less some percent."""
        return str(self.find(item) * (100 - percent) // 100)


class OtherDocstring(Shop):
    @tool
    def stock(self, item: str) -> str:
        """Count what is in stock.

        Args:
            name: The item to count.
        """
        return "3"


class OddDefault(Shop):
    @tool
    def stock(self, item: str, limit: int = "ten") -> str:  # type: ignore[assignment]
        """Count what is in stock, up to a limit."""
        return "3"


class UnmarkedTool(Priced):
    def expert(self, observations: Sequence[str]) -> Action:
        return call("find", item="pear") if len(observations) < 2 else super().expert(observations)


class NeedsMoreTurns(Priced):
    max_turns = 1


FAULTS: dict[type, tuple[str, str]] = {
    CachesInModule: ("task-order", "cache"),
    FirstIsSpecial: ("task-order", "Welcome"),
    SeedsModulo: ("seed-variety", "s + 499"),
    ToolSeedsModulo: ("seed-variety", "s + 1999"),
    OodIgnoresSeed: ("seed-variety", "'ood'"),
    LevelIgnoresSeed: ("levels", "level 1"),
    RandomAtThird: ("determinism", "rng"),
    RandomErrors: ("determinism", "broken"),
    PaysByTime: ("determinism", "reward"),
    EatsPayload: ("determinism", "payload"),
    TrainsOnTest: ("splits-disjoint", "apart"),
    KeepsVictory: ("episode-isolation", "anew"),
    CurrentInModule: ("instance-isolation", "another instance"),
    ForkSharesArray: ("fork-independence", "counts"),
    ForkSharesFile: ("fork-equality", "note"),
    ForkSharesIterator: ("fork-equality", "hint"),
    ForkIsNothing: ("fork-equality", "None"),
    CloseJoins: ("closes", "instead of waiting"),
    LeaksOnFailure: ("leaks", "thread"),
    LeaksOnSuccess: ("leaks", "thread"),
    PrintsOnSuccess: ("side-effects", "solved"),
    LeaksShared: ("leaks", "thread"),
    WrappedTool: ("tool-schemas", "percent"),
    OtherDocstring: ("tool-schemas", "'name'"),
    OddDefault: ("tool-schemas", "limit='ten'"),
    UnmarkedTool: ("expert-solves", "mark the method"),
    NeedsMoreTurns: ("expert-solves", "max_turns"),
}
