"""Level 2: write one function, judged by hidden tests.

Three steps out of a dozen, most with a number or letters in them, and an ending: above 10^7 tasks in each
family (`Rule`: 8 · 19 · 60 · 60 · 60 · 36).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentrl.envs.code import steps
from agentrl.envs.code.hidden import NUM_RANDOM, Function, Input, cases_of, choose, inputs_of
from agentrl.envs.code.judge import Case
from agentrl.envs.code.problem import Problem, pick, some
from agentrl.envs.code.questions import python
from agentrl.message import Action, answer

THEN = ", then "
EDGE_NUMBER = tuple(range(-12, 72))
"""Numbers around every bound that a rule may have."""
RUNS = [[x * 7 % 12 + low for x in range(12)] for low in range(-42, 60, 6)]
ALONE = range(-41, 61)
EDGE_NUMBERS = ([], *RUNS, *([x % 5 - 2 for x in run[:9]] for run in RUNS), *([x] for x in ALONE))
"""Every number that is drawn, among its neighbors and alone; repetitions."""
EDGE_WORDS: tuple[list[str], ...] = (
    [],
    ["a"],
    ["ba", "ab", "b", "ba", "aab", "ab"],
    list(steps.LETTERS),
    list("zyxzabcab"),
)
EDGE_PAIRS = (
    [],
    *([[w, n] for w, n in zip("abacbd", run, strict=False)] for run in RUNS),
    *([["x", n]] for n in range(-31, 61)),
)


def draw_numbers(rng: np.random.Generator) -> list[int]:
    """Draw a list of whole numbers, now and then an empty one."""
    size = int(rng.integers(0, 12))
    return [int(x) for x in rng.integers(-40, 60, size)]


def draw_words(rng: np.random.Generator) -> list[str]:
    """Draw a list of lower-case words."""
    sizes = rng.integers(1, 7, int(rng.integers(0, 9)))
    letters = iter(rng.integers(0, len(steps.LETTERS), int(sizes.sum())).tolist())
    return ["".join(steps.LETTERS[i] for i in itertools.islice(letters, size)) for size in sizes.tolist()]


def draw_pairs(rng: np.random.Generator) -> list[list[Any]]:
    """Draw pairs of a word out of few and a number."""
    words = [w for w in draw_words(rng) if w][:4] or ["a"]
    count = int(rng.integers(0, 10))
    chosen, numbers = rng.integers(0, len(words), count), rng.integers(-30, 60, count)
    return [[words[i], n] for i, n in zip(chosen.tolist(), numbers.tolist(), strict=True)]


def draw_number(rng: np.random.Generator) -> int:
    """Draw a whole number."""
    return int(rng.integers(-200, 400))


def choose_of(
    source: str, function: Function, hidden: Sequence[Any], edges: Sequence[Any]
) -> tuple[Case, ...] | None:
    """Choose the hidden tests of one function f."""
    more = [*hidden[NUM_RANDOM:], *edges]
    return choose(source, cases_of("f", function, hidden[:NUM_RANDOM]), cases_of("f", function, more))


def with_example(head: str, name: str, example: Any, function: Function) -> str:
    """Write a task's text: what is asked for, and one call with its result."""
    return f"{head} Example: {name}({example!r}) == {function(example)!r}."


def try_then_answer(source: str, example: str, seen: Sequence[str]) -> Action:
    """Run the program on the example first, then hand it in."""
    return answer(source) if seen else python(f"{source}\nprint({example})")


def example_of(text: str) -> str:
    """Find the example call in a task's text."""
    found = re.search(r"Example: (.+?) == ", text)
    assert found is not None
    return found[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """A function of three steps on a list, and an ending."""

    what: str
    middle: tuple[steps.Step, ...]
    ends: tuple[steps.Step, ...]
    make: Input
    edges: Sequence[Any]

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        while True:
            words, function = self.compose(rng, 3, pick(rng, self.ends))
            head = f"Write a Python function f(values) for a list of {self.what}: {words}."
            example, hidden = inputs_of(head, self.make)
            cases = choose_of(self.source("f", words), function, hidden, self.edges)
            if cases is not None:
                return Problem(text=with_example(head, "f", example, function), cases=cases)

    def compose(self, rng: np.random.Generator, count: int, end: steps.Step) -> tuple[str, Function]:
        """Draw steps before an ending; gives their words and what they do together."""
        chosen = [*some(rng, self.middle, count), end]
        drawn = [(one, one.draw(rng)) for one in chosen]

        def function(values: Any) -> Any:
            for one, slots in drawn:
                values = one.run(values, **slots)
            return values

        return THEN.join(one.words.format(**slots) for one, slots in drawn), function

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Put the steps' Python together, try it, hand it in."""
        head = f"Write a Python function f(values) for a list of {self.what}: "
        if not text.startswith(head):
            return None
        words = text.removeprefix(head).partition(". Example: ")[0]
        return try_then_answer(self.source("f", words), example_of(text), seen)

    def source(self, name: str, words: str) -> str:
        """Write the function that words describe."""
        lines = [steps.code_of(phrase, (*self.middle, *self.ends)) for phrase in words.split(THEN)]
        body = [f"    values = {line}" for line in lines[:-1]] + [f"    return {lines[-1]}"]
        return "\n".join([f"def {name}(values):", *body, ""])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A function of one number with three cases."""

    pattern = re.compile(
        r"if it is divisible by (\d+), give it times (\d+) plus (\d+); "
        r"otherwise, if it is greater than (\d+), give it minus (\d+); "
        r"otherwise give its remainder after division by (\d+)"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        while True:
            words, function = self.compose(rng)
            head = f"Write a Python function f(number) for a whole number: {words}."
            example, hidden = inputs_of(head, draw_number)
            cases = choose_of(self.source("f", words), function, hidden, EDGE_NUMBER)
            if cases is not None:
                return Problem(text=with_example(head, "f", example, function), cases=cases)

    def compose(self, rng: np.random.Generator) -> tuple[str, Function]:
        """Draw a rule; gives its words and what it does."""
        ranges = ((2, 10), (2, 21), (1, 61), (1, 61), (1, 61), (5, 41))
        a, b, c, d, e, g = (int(rng.integers(*r)) for r in ranges)
        words = (
            f"if it is divisible by {a}, give it times {b} plus {c}; otherwise, if it is greater than {d}, "
            f"give it minus {e}; otherwise give its remainder after division by {g}"
        )

        def function(number: int) -> int:
            if not number % a:
                return c + b * number
            return number - e if d < number else divmod(number, g)[1]

        return words, function

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Write the cases, try them, hand them in."""
        if not text.startswith("Write a Python function f(number) "):
            return None
        return try_then_answer(self.source("f", text), example_of(text), seen)

    def source(self, name: str, words: str) -> str:
        """Write the function that words describe."""
        found = self.pattern.search(words)
        assert found is not None
        a, b, c, d, e, g = found.groups()
        return (
            f"def {name}(number):\n    if number % {a} == 0:\n        return number * {b} + {c}\n"
            f"    if number > {d}:\n        return number - {e}\n    return number % {g}\n"
        )


NUMBERS = Pipeline(
    what="whole numbers",
    middle=steps.NUMBER_STEPS,
    ends=steps.NUMBER_ENDS,
    make=draw_numbers,
    edges=EDGE_NUMBERS,
)
WORDS = Pipeline(
    what="lower-case words",
    middle=steps.WORD_STEPS,
    ends=steps.WORD_ENDS,
    make=draw_words,
    edges=EDGE_WORDS,
)
PAIRS = Pipeline(
    what="pairs of a word and a number",
    middle=steps.PAIR_STEPS,
    ends=steps.PAIR_ENDS,
    make=draw_pairs,
    edges=EDGE_PAIRS,
)
TRAIN = (NUMBERS, WORDS, Rule())
OOD = (PAIRS,)
