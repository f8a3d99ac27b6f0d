"""Faults of loading, determinism, tasks and splits."""
# ruff: noqa: D101 - the name says what is wrong

import datetime
import random
import time
import uuid
from typing import Any, ClassVar

import numpy as np

from agentrl.task import ListedTasks, SeededTasks, Split, Task, TaskSource, derive_seed
from agentrl.toolkit import tool
from tests.check.bases import Count, Options, Shop, Step


class NoSuchTool(Shop):
    @tool
    def bare(self, x: int) -> int:  # type: ignore[empty-body]
        pass


class NoHint(Shop):
    @tool
    def look(self, where) -> str:  # type: ignore[no-untyped-def]
        """Look somewhere."""
        return "nothing"


class CoarseCache(Count):
    made: ClassVar[dict[int, int]] = {}

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        super().reset(seed=seed)
        self.n = self.made.setdefault(self.n % 997, self.n)
        return f"Count on from {self.n}.", {}


class EmptyTask(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        return ""


class TimeInText(Shop):
    def shown(self, value: int) -> str:
        return f"{value} at {time.time_ns()}"


class Today(Shop):
    def shown(self, value: int) -> str:
        return f"{value} on {datetime.date.today()}"


class Weekday(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return super().task(rng) + f" It is {datetime.datetime.now():%j}."


class GlobalRandom(Shop):
    def shown(self, value: int) -> str:
        return f"{value} {random.choice(range(1000))}"


class GlobalNumpy(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        self.prices[self.item] = int(np.random.randint(2, 10**6))
        return f"What is the price of {self.item}?"


class HiddenRandom(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        shown = super().reset(seed=seed)
        self.secret = random.randrange(10**6)
        return f"Guess a number below {10**6}, as I did with {self.n}.", shown[1]

    def step(self, action: str) -> Step:
        right = action == str(self.secret)
        return "Yes." if right else "No.", float(right), True, False, {"correct": right}


class Uuid(Shop):
    def shown(self, value: int) -> str:
        return f"{value} (request {uuid.uuid4()})"


class SetOrder(Shop):
    def task(self, rng: np.random.Generator) -> str:
        super().task(rng)
        return f"Goods: {', '.join(set(self.names))}. Price of {self.item}?"


class HashChoice(Shop):
    def find(self, item: str) -> int:
        return hash(item) % 100


class Address(Shop):
    def shown(self, value: int) -> str:
        return repr(object())


class ClassCounter(Shop):
    episodes = 0

    def task(self, rng: np.random.Generator) -> str:
        type(self).episodes += 1
        return super().task(rng) + f" (episode {type(self).episodes})"


class KeepsState(Shop):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def find(self, item: str) -> int:
        self.asked.append(item)
        return super().find(item) + len(self.asked)


class ClassList(Shop):
    asked: ClassVar[list[str]] = []

    def task(self, rng: np.random.Generator) -> str:
        self.asked.clear()
        return super().task(rng)

    def shown(self, value: int) -> str:
        self.asked.append("x")
        return f"{value}, asked {len(self.asked)} times"


class SeedsGlobal(Shop):
    def task(self, rng: np.random.Generator) -> str:
        random.seed(int(rng.integers(2**31)))
        return super().task(rng)

    def shown(self, value: int) -> str:
        return f"{value} {random.random()}"


class HalfTheSeeds(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed // 2, options=options)


class OneTask(Shop):
    def task(self, rng: np.random.Generator) -> str:
        return super().task(np.random.default_rng(0))


class FewSeeds(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed // 10)


class ByteSeeds(Count):
    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 256)


class IgnoresSplit(Count):
    splits = ("train", "test")

    def reset(self, *, seed: int | None = None, options: Options = None) -> Any:
        return super().reset(seed=None if seed is None else seed % 500)


class IgnoresOod(Shop):
    splits = ("train", "test", "ood")


class IgnoresLevel(Shop):
    levels = (0, 1)


class SameIds(Shop):
    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        tasks = [
            Task(id="shop", split=split, level=level, seed=derive_seed(split, i) % 2**31) for i in range(50)
        ]
        return ListedTasks(tasks=tuple(tasks))


class Forgetful(SeededTasks):
    def take(self, count: int) -> list[Task]:
        return [self.at(i) for i in range(count)]


class Unseekable(Shop):
    @classmethod
    def tasks(cls, split: Split, *, level: int, seed: int) -> TaskSource:
        return Forgetful(split=split, level=level, seed=seed)


class SystemClock(Shop):
    @property
    def system(self) -> str:  # type: ignore[override]
        return f"It is {datetime.datetime.now():%j}."


FAULTS: dict[type, tuple[str, str]] = {
    NoSuchTool: ("loads", "no docstring"),
    NoHint: ("loads", "type hint"),
    EmptyTask: ("loads", "empty"),
    TimeInText: ("determinism", "rng"),
    Today: ("determinism-across-processes", "clock"),
    Weekday: ("determinism-across-processes", "clock"),
    GlobalRandom: ("determinism", "rng"),
    GlobalNumpy: ("determinism", "self.prices"),
    HiddenRandom: ("determinism", "judged differently"),
    Uuid: ("determinism", "uuid"),
    SetOrder: ("determinism-across-processes", "set"),
    HashChoice: ("determinism-across-processes", "hash()"),
    Address: ("host-details", "object"),
    ClassCounter: ("determinism", "episode"),
    KeepsState: ("episode-isolation", "anew"),
    ClassList: ("instance-isolation", "class"),
    SeedsGlobal: ("instance-isolation", "global generators"),
    HalfTheSeeds: ("seed-variety", "s + 1"),
    OneTask: ("seed-variety", "1 different"),
    FewSeeds: ("seed-variety", "s + 1"),
    ByteSeeds: ("seed-variety", "s + 256"),
    IgnoresSplit: ("splits-disjoint", "apart"),
    IgnoresOod: ("splits-disjoint", "ood"),
    IgnoresLevel: ("levels", "level 1"),
    SameIds: ("task-source", "'shop'"),
    Unseekable: ("task-source", "take"),
    CoarseCache: ("task-order", "the start of"),
    SystemClock: ("determinism-across-processes", "clock"),
}
