"""Level 3: commands that change a total between two bounds.

Counted: 120 · 60 orders of names and effects, 36^3 numbers, 900 bounds, 99 starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import with_example
from agentrl.envs.code.hidden import cases_of, inputs_of
from agentrl.envs.code.judge import Case
from agentrl.envs.code.problem import pick, some
from agentrl.envs.code.programs import Draft, Program
from agentrl.envs.code.steps import Values, code_of, step

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

    def single(self, totals: Sequence[int], n: int) -> tuple[Case, ...]:
        """Give tests of `step`: each command on each total."""
        return tuple(
            Case(function="step", arguments=(total, f"{name} {n}"), expected=self.step(total, f"{name} {n}"))
            for name in self.effects
            for total in totals
        )


def draft(rng: np.random.Generator) -> Draft:
    """Draft a task."""
    rules = draw_rules(rng)
    told = "; ".join(f"{n} {EFFECTS[i].words.format(**k)}" for n, (i, k) in rules.effects.items())
    word = next(iter(rules.effects))
    head = HEAD.format(word=word, effects=told, high=rules.high, start=rules.start)
    example, hidden = inputs_of(head, rules.draw_commands)
    first = cases_of("run", rules.run, hidden[:8]) + rules.single((5, 61), 4)
    more = cases_of("run", rules.run, hidden[8:]) + rules.single((0, 1, 20, rules.high), 2)
    more += rules.single((7, 90), 1)
    return Draft(text=with_example(head, "run", example, rules.run), first=first, more=more)


def write(found: re.Match[str]) -> str:
    """Write the two functions that a task's text describes."""
    told = (one.split(" ", 1) for one in found[1].split("; "))
    effects = ", ".join(f"{name!r}: {code_of(words, EFFECTS)}" for name, words in told)
    return STEP.format(effects=effects, high=found[2]) + RUN.format(start=found[3])


def draw_rules(rng: np.random.Generator) -> Rules:
    """Draw a machine."""
    chosen = some(rng, range(len(EFFECTS)), 3)
    names = some(rng, NAMES, 3)
    effects = {name: (i, EFFECTS[i].draw(rng)) for name, i in zip(names, chosen, strict=True)}
    return Rules(effects=effects, high=int(rng.integers(100, 1000)), start=int(rng.integers(1, 100)))


MACHINE = Program(
    pattern=re.compile(
        r"Write two Python functions for a machine .+? 3\": (.+?)\. "
        r".+? above (\d+) becomes .+? total (\d+) and"
    ),
    draft=draft,
    write=write,
)
