"""Level 3: commands that change a total between two bounds.

Counted: 120 · 60 orders of names and effects, 36^3 numbers, 900 bounds, 99 starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import cases_of, example_of, inputs_of, try_then_answer, with_example
from agentrl.envs.code.judge import Case
from agentrl.envs.code.problem import Problem, pick, some
from agentrl.envs.code.steps import Values, code_of, step
from agentrl.message import Action

NAMES = ("push", "draw", "flip", "turn", "load", "mix")
SMALL = range(2, 38)
EFFECTS = (
    step("adds n and then {k} to the total", "total + n + {k}", lambda t, n, k: t + n + k, k=SMALL),
    step("takes {k} times n from the total", "total - n * {k}", lambda t, n, k: t - k * n, k=SMALL),
    step("multiplies the total by n and takes {k}", "total * n - {k}", lambda t, n, k: n * t - k, k=SMALL),
    step("sets the total to {k} times n", "n * {k}", lambda _, n, k: k * n, k=SMALL),
    step(
        "sets the total to {k} minus the total, plus n", "{k} - total + n", lambda t, n, k: k - t + n, k=SMALL
    ),
)
HEAD = (
    "Write two Python functions for a machine that holds a total. step(total, command) gives the new total; "
    'a command is a word and a whole number n, as in "{word} 3": {effects}. A total below 0 becomes 0 and '
    "one above {high} becomes {high}. run(commands) starts with the total {start} and gives the list of the "
    "totals after each command."
)
STEP = """\
def step(total, command):
    word, n = command.split()
    n = int(n)
    total = {{{effects}}}[word]
    return min(max(total, 0), {high})
"""
RUN = """\
def run(commands):
    total, totals = {start}, []
    for command in commands:
        total = step(total, command)
        totals.append(total)
    return totals
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How one machine works; the judge's own account of it."""

    effects: dict[str, tuple[int, Values]]
    """Index in `EFFECTS` and its number, by command."""
    high: int
    start: int

    def step(self, total: int, command: str) -> int:
        """Give the total after a command."""
        name, number = command.split(" ")
        index, slots = self.effects[name]
        return sorted((0, int(EFFECTS[index].run(total, int(number), **slots)), self.high))[1]

    def run(self, commands: list[str]) -> list[int]:
        """Give the totals after each command."""
        totals = [self.start]
        for command in commands:
            totals.append(self.step(totals[-1], command))
        return totals[1:]

    def draw_commands(self, rng: np.random.Generator) -> list[str]:
        """Draw an input."""
        names = list(self.effects)
        return [f"{pick(rng, names)} {rng.integers(0, 20)}" for _ in range(int(rng.integers(1, 8)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One function for a command, one that carries out a list of them."""

    pattern = re.compile(
        r"Write two Python functions for a machine .+? 3\": (.+?)\. "
        r".+? above (\d+) becomes .+? total (\d+) and"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        chosen = some(rng, range(len(EFFECTS)), 3)
        names = some(rng, NAMES, 3)
        effects = {name: (i, EFFECTS[i].draw(rng)) for name, i in zip(names, chosen, strict=True)}
        rules = Rules(effects=effects, high=int(rng.integers(100, 1000)), start=int(rng.integers(1, 100)))
        told = "; ".join(f"{name} {EFFECTS[i].words.format(**slots)}" for name, (i, slots) in effects.items())
        head = HEAD.format(word=names[0], effects=told, high=rules.high, start=rules.start)
        example, hidden = inputs_of(head, rules.draw_commands)
        single = tuple(
            Case(function="step", arguments=(total, f"{name} 4"), expected=rules.step(total, f"{name} 4"))
            for name in names
            for total in (5, 61)
        )
        text = with_example(head, "run", example, rules.run)
        return Problem(text=text, cases=cases_of("run", rules.run, hidden) + single)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Write both, try them, hand them in."""
        if not (found := self.pattern.match(text)):
            return None
        told = (one.split(" ", 1) for one in found[1].split("; "))
        effects = ", ".join(f"{name!r}: {code_of(words, EFFECTS)}" for name, words in told)
        source = STEP.format(effects=effects, high=found[2]) + RUN.format(start=found[3])
        return try_then_answer(source, example_of(text), seen)
