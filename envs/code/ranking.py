"""Level 3: clean a list, score a number, rank the cleaned numbers by score.

The space is that of a pipeline of two steps times that of a rule.
"""

from __future__ import annotations

import re

import numpy as np

from agentrl.envs.code.functions import (
    EDGE_NUMBER,
    EDGE_NUMBERS,
    NUMBERS,
    Rule,
    draw_numbers,
    with_example,
)
from agentrl.envs.code.hidden import Function, cases_of, inputs_of
from agentrl.envs.code.programs import Draft, Program

RULE = Rule()
SCORED = (7, 12, -5, 90)
HEAD = (
    "Write three Python functions. clean(values), for a list of whole numbers: {cleaning}. "
    "score(number): {scoring}. best(values): the numbers of clean(values) by their score, "
    "highest first, equal ones as they stand."
)
BEST = "def best(values):\n    return sorted(clean(values), key=score, reverse=True)\n"


def draft(rng: np.random.Generator) -> Draft:
    """Draft a task."""
    cleaning, clean = NUMBERS.compose(rng, 2, NUMBERS.ends[0])
    scoring, score = RULE.compose(rng)
    head, best = HEAD.format(cleaning=cleaning, scoring=scoring), ranked(clean, score)
    example, hidden = inputs_of(head, draw_numbers)
    first = cases_of("clean", clean, hidden[:3]) + cases_of("best", best, hidden[3:8])
    first += cases_of("score", score, SCORED)
    more = cases_of("clean", clean, [*hidden[8:], *EDGE_NUMBERS]) + cases_of("best", best, hidden[8:])
    more += cases_of("score", score, [n for n in EDGE_NUMBER if n not in SCORED])
    return Draft(text=with_example(head, "best", example, best), first=first, more=more)


def write(found: re.Match[str]) -> str:
    """Write the three functions that a task's text describes."""
    return NUMBERS.source("clean", found[1]) + RULE.source("score", found[2]) + BEST


def ranked(clean: Function, score: Function) -> Function:
    """Give the function that ranks what is left of a list."""

    def best(values: list[int]) -> list[int]:
        left = clean(values)
        return [left[i] for _, i in sorted((-score(x), i) for i, x in enumerate(left))]

    return best


RANKING = Program(
    pattern=re.compile(r"Write three Python functions\. clean.+?: (.+?)\. score\(number\): (.+?)\. best"),
    draft=draft,
    write=write,
)
