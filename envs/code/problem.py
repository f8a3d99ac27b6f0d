"""What a family of tasks gives to the environment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from agentrl.envs.code.judge import Case
from agentrl.message import Action

One = TypeVar("One")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One task: what is shown, what the market knows, and how an answer is judged."""

    text: str
    key: tuple[Any, ...] = ()
    """What tells this task from others with the same text."""
    facts: dict[tuple[str, str], str] = field(default_factory=dict)
    """Replies by (function, argument); they never enter a sandbox."""
    answer: str = ""
    """The right value; '' where a program is asked for."""
    cases: tuple[Case, ...] = ()
    """Hidden tests of a program."""


class Family(Protocol):
    """Tasks of one kind: how they are drawn, and how an expert who reads what the model reads would act."""

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        ...

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Give the next action after the replies `seen`; None where the text is of another family."""
        ...


def pick(rng: np.random.Generator, options: Sequence[One]) -> One:
    """Draw one of the options."""
    return options[int(rng.integers(len(options)))]


def some(rng: np.random.Generator, options: Sequence[One], count: int) -> list[One]:
    """Draw different options, in random order."""
    return [options[int(i)] for i in rng.permutation(len(options))[:count]]
