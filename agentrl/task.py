"""Tasks and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, Protocol

from agentrl.errors import ConfigError, unknown

Split = Literal["train", "test", "ood"]
SPLITS: tuple[Split, ...] = ("train", "test", "ood")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One problem; the same task always starts the same episode.

    >>> Task(id="train-0-7", split="train", level=0, seed=7).payload
    {}
    """

    id: str
    split: Split
    level: int
    seed: int
    payload: Mapping[str, Any] = field(default_factory=dict)
    """JSON data for environments that read their tasks from a data set; empty where the seed says it all."""


class TaskSource(Protocol):
    """An endless or finite stream of tasks whose position can be saved and set."""

    position: int

    def __len__(self) -> int:
        """Give the number of tasks in one pass (2**31 where they are made from seeds)."""
        ...

    def at(self, position: int) -> Task:
        """Give the task at a position; a pure function, whatever was drawn before."""
        ...

    def take(self, count: int) -> list[Task]:
        """Give the next `count` tasks and move the position behind them."""
        ...


def derive_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from names and numbers, the same on every machine.

    >>> derive_seed("train", 0, 1) == derive_seed("train", 0, 1) != derive_seed("test", 0, 1)
    True
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(slots=True, kw_only=True)
class SeededTasks:
    """Tasks that an environment makes from a seed: no data set is needed.

    The seeds of different splits, levels and runs never meet; that the *tasks* do not meet either is up to
    the
    environment (`ToolEnv` sees to it).
    """

    split: Split = "train"
    level: int = 0
    seed: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ConfigError(unknown("split", self.split, SPLITS))

    def __len__(self) -> int:
        return 2**31

    def at(self, position: int) -> Task:
        """Give the task at a position."""
        seed = derive_seed(self.split, self.level, self.seed, position) % 2**31
        name = f"{self.split}-{self.level}-{self.seed}-{position}"
        return Task(id=name, split=self.split, level=self.level, seed=seed)

    def take(self, count: int) -> list[Task]:
        """Give the next `count` tasks."""
        tasks = [self.at(self.position + i) for i in range(count)]
        self.position += count
        return tasks


@lru_cache(maxsize=2)  # this pass and the next, or those of two sources
def shuffled(count: int, *parts: int | str) -> tuple[int, ...]:
    """Give the numbers below `count` in an order that follows from names and numbers.

    >>> shuffled(4, "train", 0)
    (0, 3, 1, 2)
    """
    return tuple(sorted(range(count), key=lambda i: derive_seed(*parts, i)))


@dataclass(slots=True, kw_only=True)
class ListedTasks:
    """Tasks of a data set, shuffled anew in every pass by (seed, pass)."""

    tasks: tuple[Task, ...]
    seed: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("a list of 0 tasks: give at least one")

    def __len__(self) -> int:
        return len(self.tasks)

    def at(self, position: int) -> Task:
        """Give the task at a position."""
        turn, index = divmod(position, len(self.tasks))
        return self.tasks[shuffled(len(self.tasks), self.seed, turn)[index]]

    def take(self, count: int) -> list[Task]:
        """Give the next `count` tasks."""
        tasks = [self.at(self.position + i) for i in range(count)]
        self.position += count
        return tasks
