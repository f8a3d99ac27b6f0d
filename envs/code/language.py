"""Level 3: a tokenizer, the meaning of three signs, and an evaluator from left to right.

Counted: 336 orders of signs, 60 of meanings, 36^3 numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import with_example
from agentrl.envs.code.hidden import cases_of, inputs_of
from agentrl.envs.code.judge import Case
from agentrl.envs.code.problem import pick, some
from agentrl.envs.code.programs import Draft, Program
from agentrl.envs.code.steps import Values, code_of, step

SIGNS = "@#$%&~!?"
SMALL = range(2, 38)
MEANINGS = (
    step("a plus b plus {k}", "a + b + {k}", lambda a, b, k: b + a + k, k=SMALL),
    step("a minus {k} times b", "a - {k} * b", lambda a, b, k: a - b * k, k=SMALL),
    step("{k} times a plus b", "{k} * a + b", lambda a, b, k: b + a * k, k=SMALL),
    step(
        "the larger of a and b, plus {k}", "max(a, b) + {k}", lambda a, b, k: k + (a if a > b else b), k=SMALL
    ),
    step("a times b, minus {k}", "a * b - {k}", lambda a, b, k: b * a - k, k=SMALL),
)
HEAD = (
    "Write three Python functions for a small language of whole numbers and signs. tokens(text) gives the "
    "list of its numbers, as int, and signs, as str, in order and without the spaces. apply(sign, a, b) "
    "gives the meaning of a sign: {meanings}. evaluate(text) works from left to right; no sign comes before "
    "another."
)
SOURCE = """\
def tokens(text):
    spaced = "".join(c if c.isdigit() or c == " " else " " + c + " " for c in text)
    return [int(t) if t.isdigit() else t for t in spaced.split()]
def apply(sign, a, b):
    return {{{meanings}}}[sign]
def evaluate(text):
    value, *rest = tokens(text)
    for sign, number in zip(rest[::2], rest[1::2]):
        value = apply(sign, value, number)
    return value
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """What the signs of one language mean; the judge's own account of it."""

    meanings: dict[str, tuple[int, Values]]
    """Index in `MEANINGS` and its number, by sign."""

    def apply(self, sign: str, a: int, b: int) -> int:
        """Give the meaning of a sign between two numbers."""
        index, slots = self.meanings[sign]
        return int(MEANINGS[index].run(a, b, **slots))

    def tokens(self, text: str) -> list[int | str]:
        """Split a text."""
        return [int(t) if t.isdigit() else t for t in re.findall(r"\d+|\S", text)]

    def evaluate(self, text: str) -> int:
        """Work a text out."""
        parts = re.findall(r"\d+|\S", text)
        value = int(parts[0])
        for i in range(1, len(parts), 2):
            value = self.apply(parts[i], value, int(parts[i + 1]))
        return value

    def draw_text(self, rng: np.random.Generator) -> str:
        """Draw an input."""
        text, signs = str(rng.integers(0, 40)), list(self.meanings)
        for _ in range(int(rng.integers(1, 5))):
            text += pick(rng, (" ", "", "  ")) + pick(rng, signs) + pick(rng, (" ", ""))
            text += str(rng.integers(0, 40))
        return text

    def single(self, a: int, b: int) -> tuple[Case, ...]:
        """Give a test of `apply` for each sign."""
        return tuple(
            Case(function="apply", arguments=(sign, a, b), expected=self.apply(sign, a, b))
            for sign in self.meanings
        )


def draft(rng: np.random.Generator) -> Draft:
    """Draft a task."""
    grammar = draw_grammar(rng)
    told = "; ".join(f"a {s} b is {MEANINGS[i].words.format(**k)}" for s, (i, k) in grammar.meanings.items())
    head = HEAD.format(meanings=told)
    example, hidden = inputs_of(head, grammar.draw_text)
    first = cases_of("evaluate", grammar.evaluate, hidden[:8])
    first += cases_of("tokens", grammar.tokens, hidden[:3]) + grammar.single(7, 3)
    more = grammar.single(3, 8) + cases_of("evaluate", grammar.evaluate, hidden[8:])
    more += cases_of("tokens", grammar.tokens, hidden[3:])
    return Draft(text=with_example(head, "evaluate", example, grammar.evaluate), first=first, more=more)


def write(found: re.Match[str]) -> str:
    """Write the three functions that a task's text describes."""
    told = (re.fullmatch(r"a (.) b is (.+)", one) for one in found[1].split("; "))
    return SOURCE.format(
        meanings=", ".join(f"{one[1]!r}: {code_of(one[2], MEANINGS)}" for one in told if one)
    )


def draw_grammar(rng: np.random.Generator) -> Grammar:
    """Draw a language."""
    chosen = some(rng, range(len(MEANINGS)), 3)
    signs = some(rng, SIGNS, 3)
    return Grammar(meanings={sign: (i, MEANINGS[i].draw(rng)) for sign, i in zip(signs, chosen, strict=True)})


LANGUAGE = Program(
    pattern=re.compile(r"Write three Python functions for a small .+? of a sign: (.+?)\. evaluate"),
    draft=draft,
    write=write,
)
