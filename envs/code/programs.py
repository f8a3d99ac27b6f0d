"""Level 3: programs of several functions, one family for each way of describing them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import example_of, try_then_answer
from agentrl.envs.code.hidden import choose
from agentrl.envs.code.judge import Case
from agentrl.envs.code.problem import Problem
from agentrl.message import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A task and tests out of which the hidden ones are chosen."""

    text: str
    first: tuple[Case, ...]
    """Always among the hidden tests."""
    more: tuple[Case, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A family of programs: how a task is drafted, and how its text alone gives the program."""

    pattern: re.Pattern[str]
    draft: Callable[[np.random.Generator], Draft]
    write: Callable[[re.Match[str]], str]
    """Write the program that a task's text, as `pattern` found it, describes."""

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task; a draft that a slightly wrong program could pass is drawn again."""
        while True:
            draft = self.draft(rng)
            source = self.source(draft.text)
            assert source is not None, "a family reads what it writes"
            cases = choose(source, draft.first, draft.more)
            if cases is not None:
                return Problem(text=draft.text, cases=cases)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Write the program, try it, hand it in."""
        source = self.source(text)
        return None if source is None else try_then_answer(source, example_of(text), seen)

    def source(self, text: str) -> str | None:
        """Write the program that a text describes; None where it is of another family."""
        found = self.pattern.match(text)
        return None if found is None else self.write(found)
