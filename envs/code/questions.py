"""Level 0: a fact of the market, then arithmetic on it or a fact about it. Two calls, three where held out.

The space, counted by what decides the answer (question and the facts it needs): with 16 items and 3 kinds of
number, `plus` and `minus` have 48 · 4802 tasks each, `times` 48 · 162, and the neighbor's fact has
16 · 15 · 3 · 99 = 71,280: 540,048 in all.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.market import ITEMS, NUMBERS, Facts, draw_facts
from agentrl.envs.code.problem import Problem, pick
from agentrl.message import Action, answer, call

SIGNS = {"plus": "+", "minus": "-", "times": "*"}
OPERATORS: dict[str, Callable[[int, int], int]] = {
    "plus": operator.add,
    "minus": operator.sub,
    "times": operator.mul,
}
WORDS = ("plus",) * 3 + ("minus",) * 3 + ("times",)
"""`times` has few pairs below 100: drawn as often as the others it would fill the space with repetitions."""


@functools.cache
def pairs(word: str) -> tuple[tuple[int, int], ...]:
    """Give (fact, operand) with a result in 1..99; all three differ, so that the question gives none away."""
    operands = range(2, 10) if word == "times" else range(1, 100)
    made = ((a, b, OPERATORS[word](a, b)) for a in range(1, 100) for b in operands)
    return tuple((a, b) for a, b, c in made if 1 <= c <= 99 and len({a, b, c}) == 3)


def python(code: str) -> Action:
    """Make the action that runs code."""
    return call("python", code=code)


def ask(function: str, key: str) -> Action:
    """Make the action that shows one fact."""
    return python(f'print({function}("{key}"))')


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A number of an item, then arithmetic on it."""

    pattern = re.compile(r"What is the (\w+) of (\w+), (\w+) (\d+)\?")

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, item = draw_facts(rng), pick(rng, NUMBERS), pick(rng, ITEMS)
        ending, fact, result = draw_ending(rng, facts, kind, item)
        return Problem(text=f"What is the {kind} of {item}{ending}?", key=(fact,), facts=facts, answer=result)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Ask, compute, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        if not seen:
            return ask(found[1], found[2])
        return python(f"print({seen[0]}{SIGNS[found[3]]}{found[4]})") if len(seen) == 1 else answer(seen[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """A number of the item next to another one, with arithmetic on it where `longer`."""

    longer: bool = False
    pattern = re.compile(r"What is the (\w+) of the neighbor of (\w+?)(?:, (\w+) (\d+))?\?")

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, first = draw_facts(rng), pick(rng, NUMBERS), pick(rng, ITEMS)
        item = facts["neighbor", first]
        ending, fact, result = "", facts[kind, item], facts[kind, item]
        if self.longer:
            ending, fact, result = draw_ending(rng, facts, kind, item)
        text = f"What is the {kind} of the neighbor of {first}{ending}?"
        return Problem(text=text, key=(item, fact), facts=facts, answer=result)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Ask for the neighbor, ask for its number, compute where told to, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        if len(seen) < 2:
            return ask(found[1], seen[0]) if seen else ask("neighbor", found[2])
        if found[3] and len(seen) == 2:
            return python(f"print({seen[1]}{SIGNS[found[3]]}{found[4]})")
        return answer(seen[-1])


def draw_ending(rng: np.random.Generator, facts: Facts, kind: str, item: str) -> tuple[str, str, str]:
    """Draw arithmetic on an item's number, which is set to fit; gives its words, that number, the result."""
    word = pick(rng, WORDS)
    number, operand = pick(rng, pairs(word))
    facts[kind, item] = str(number)
    return f", {word} {operand}", str(number), str(OPERATORS[word](number, operand))


TRAIN = (Sum(), Sum(), Sum(), Hop())
OOD = (Hop(longer=True),)
