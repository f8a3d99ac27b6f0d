"""Level 3: clean a list, score a number, rank the cleaned numbers by score.

The space is that of a pipeline of two steps times that of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import (
    NUMBERS,
    Function,
    Rule,
    cases_of,
    draw_numbers,
    example_of,
    inputs_of,
    tells_apart,
    try_then_answer,
    with_example,
)
from agentrl.envs.code.problem import Problem
from agentrl.message import Action

RULE = Rule()
HEAD = (
    "Write three Python functions. clean(values), for a list of whole numbers: {cleaning}. "
    "score(number): {scoring}. best(values): the numbers of clean(values) by their score, "
    "highest first, equal ones as they stand."
)
BEST = "def best(values):\n    return sorted(clean(values), key=score, reverse=True)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Two functions and a third that uses both."""

    pattern = re.compile(r"Write three Python functions\. clean.+?: (.+?)\. score\(number\): (.+?)\. best")

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        while True:
            cleaning, clean = NUMBERS.compose(rng, 2, NUMBERS.ends[0])
            scoring, score = RULE.compose(rng)
            head, best = HEAD.format(cleaning=cleaning, scoring=scoring), ranked(clean, score)
            example, hidden = inputs_of(head, draw_numbers)
            cases = cases_of("clean", clean, hidden[:3]) + cases_of("best", best, hidden[3:])
            if tells_apart(cases):
                cases += cases_of("score", score, [7, 12, -5, 90])
                return Problem(text=with_example(head, "best", example, best), cases=cases)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Write the three, try them, hand them in."""
        if not (found := self.pattern.match(text)):
            return None
        source = NUMBERS.source("clean", found[1]) + RULE.source("score", found[2]) + BEST
        return try_then_answer(source, example_of(text), seen)


def ranked(clean: Function, score: Function) -> Function:
    """Give the function that ranks what is left of a list."""

    def best(values: list[int]) -> list[int]:
        left = clean(values)
        return [left[i] for _, i in sorted((-score(x), i) for i, x in enumerate(left))]

    return best
