"""Level 3: clean a list, score a number, rank the cleaned numbers by score.

The space is that of a pipeline of two steps times that of a rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import (
    EDGE_NUMBER,
    EDGE_NUMBERS,
    NUMBERS,
    Rule,
    draw_numbers,
    example_of,
    try_then_answer,
    with_example,
)
from agentrl.envs.code.hidden import Function, cases_of, choose, inputs_of
from agentrl.envs.code.problem import Problem
from agentrl.message import Action

RULE = Rule()
SCORED = (7, 12, -5, 90)
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
            first = cases_of("clean", clean, hidden[:3]) + cases_of("best", best, hidden[3:8])
            first += cases_of("score", score, SCORED)
            more = cases_of("clean", clean, [*hidden[8:], *EDGE_NUMBERS]) + cases_of("best", best, hidden[8:])
            more += cases_of("score", score, [n for n in EDGE_NUMBER if n not in SCORED])
            cases = choose(self.source(cleaning, scoring), first, more)
            if cases is not None:
                return Problem(text=with_example(head, "best", example, best), cases=cases)

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Write the three, try them, hand them in."""
        if not (found := self.pattern.match(text)):
            return None
        return try_then_answer(self.source(found[1], found[2]), example_of(text), seen)

    def source(self, cleaning: str, scoring: str) -> str:
        """Write the three functions that words describe."""
        return NUMBERS.source("clean", cleaning) + RULE.source("score", scoring) + BEST


def ranked(clean: Function, score: Function) -> Function:
    """Give the function that ranks what is left of a list."""

    def best(values: list[int]) -> list[int]:
        left = clean(values)
        return [left[i] for _, i in sorted((-score(x), i) for i, x in enumerate(left))]

    return best
