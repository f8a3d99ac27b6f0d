"""Steps out of which functions are made: each in words, as Python, and as what the host computes with.

The Python serves the expert, who finds a step by its words; the judge computes with `run` alone, so a slip in
one of the two shows.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentrl.envs.code.problem import pick

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SLOTS = {"k": r"-?\d+", "c": "[a-z]", "d": "[a-z]", "s": "."}
"""What may stand in the places of a step's words: numbers, letters, a separator."""
Values = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a pipeline.

    >>> double = Step(words="multiply each by {k}", code="[x * {k} for x in values]", run=lambda v, k: v)
    >>> double.read("multiply each by 3")
    '[x * 3 for x in values]'
    """

    words: str
    code: str
    """An expression of `values`."""
    run: Callable[..., Any]
    options: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def draw(self, rng: np.random.Generator) -> Values:
        """Draw what stands in the places."""
        return {name: pick(rng, options) for name, options in self.options.items()}

    def read(self, words: str) -> str | None:
        """Give the Python for words; None where they are of another step."""
        pattern = re.escape(self.words)
        for name, kind in SLOTS.items():
            pattern = pattern.replace(rf"\{{{name}\}}", f"(?P<{name}>{kind})")
        found = re.fullmatch(pattern, words)
        return self.code.format(**found.groupdict()) if found else None


def step(words: str, code: str, run: Callable[..., Any], **options: Sequence[Any]) -> Step:
    """Make a step."""
    return Step(words=words, code=code, run=run, options=options)


def code_of(words: str, known: Sequence[Step]) -> str:
    """Give the Python of the step that words are of."""
    return next(code for one in known if (code := one.read(words)) is not None)


def shifted(word: str, k: int) -> str:
    """Move each letter along the alphabet, around its end.

    >>> shifted("xyz", 2)
    'zab'
    """
    return "".join(LETTERS[(LETTERS.index(c) + k) % 26] for c in word)


def digit_sum(number: int) -> int:
    """Add up the digits, whatever the sign."""
    return sum(int(c) for c in str(number) if c != "-")


NUMBER_STEPS = (
    step("keep those divisible by {k}", "[x for x in values if x % {k} == 0]",
         lambda v, k: [x for x in v if not x % k], k=range(2, 6)),
    step("keep those greater than {k}", "[x for x in values if x > {k}]",
         lambda v, k: list(filter(k.__lt__, v)), k=range(-20, 20)),
    step("keep those less than {k}", "[x for x in values if x < {k}]",
         lambda v, k: list(filter(k.__gt__, v)), k=range(-20, 40)),
    step("drop those that end in the digit {k}", "[x for x in values if abs(x) % 10 != {k}]",
         lambda v, k: [x for x in v if not str(x).endswith(str(k))], k=range(10)),
    step("drop repetitions and keep the first of each", "list(dict.fromkeys(values))",
         lambda v: [x for i, x in enumerate(v) if x not in v[:i]]),
    step("drop the first {k}", "values[{k}:]",
         lambda v, k: [x for i, x in enumerate(v) if i >= k], k=range(1, 4)),
    step("add {k} to each", "[x + {k} for x in values]", lambda v, k: [k + x for x in v], k=range(2, 60)),
    step("subtract each from {k}", "[{k} - x for x in values]", lambda v, k: [k - x for x in v], k=range(60)),
    step("multiply each by {k}", "[x * {k} for x in values]",
         lambda v, k: [k * x for x in v], k=range(2, 20)),
    step("replace each by its remainder after division by {k}", "[x % {k} for x in values]",
         lambda v, k: [divmod(x, k)[1] for x in v], k=range(5, 40)),
    step("replace each by its distance from {k}", "[abs(x - {k}) for x in values]",
         lambda v, k: [max(x, k) - min(x, k) for x in v], k=range(-30, 30)),
    step("square each", "[x * x for x in values]", lambda v: [x**2 for x in v]),
    step("replace each by the sum of its digits, without the sign",
         "[sum(map(int, str(abs(x)))) for x in values]", lambda v: [digit_sum(x) for x in v]),
    step("replace each by the sum of all up to it", "[sum(values[:i + 1]) for i in range(len(values))]",
         lambda v: list(itertools.accumulate(v))),
    step("sort them, smallest first", "sorted(values)", lambda v: sorted(v)),
    step("reverse their order", "values[::-1]", lambda v: list(reversed(v))),
)  # fmt: skip

NUMBER_ENDS = (
    step("give the list", "values", lambda v: v),
    step("give the sum plus {k}", "sum(values) + {k}", lambda v, k: k + sum(v), k=range(1, 30)),
    step("give the largest, or {k} if there is none", "max(values, default={k})",
         lambda v, k: sorted(v)[-1] if v else k, k=range(-9, 10)),
    step("give the smallest, or {k} if there is none", "min(values, default={k})",
         lambda v, k: sorted(v)[0] if v else k, k=range(-9, 10)),
    step("give the largest minus the smallest, or {k} if there is none",
         "max(values) - min(values) if values else {k}",
         lambda v, k: sorted(v)[-1] - sorted(v)[0] if v else k, k=range(-9, 10)),
    step("give the sum of the first {k}", "sum(values[:{k}])",
         lambda v, k: sum(x for i, x in enumerate(v) if i < k), k=range(2, 6)),
)  # fmt: skip

WORD_STEPS = (
    step("keep those longer than {k} letters", "[w for w in values if len(w) > {k}]",
         lambda v, k: [w for w in v if not len(w) <= k], k=range(2, 5)),
    step("drop those that contain {c}", "[w for w in values if '{c}' not in w]",
         lambda v, c: [w for w in v if w.count(c) == 0], c=LETTERS),
    step("drop those that start with {c}", "[w for w in values if w[:1] != '{c}']",
         lambda v, c: [w for w in v if not w.startswith(c)], c=LETTERS),
    step("reverse the letters of each", "[w[::-1] for w in values]",
         lambda v: ["".join(reversed(w)) for w in v]),
    step("move each letter {k} places further in the alphabet, with a after z",
         "[''.join(chr((ord(c) - 97 + {k}) % 26 + 97) for c in w) for w in values]",
         lambda v, k: [shifted(w, k) for w in v], k=range(1, 26)),
    step("replace {c} by {d} in each", "[w.replace('{c}', '{d}') for w in values]",
         lambda v, c, d: [d.join(w.split(c)) for w in v], c=LETTERS, d=LETTERS),
    step("put {c} before and {d} behind each", "['{c}' + w + '{d}' for w in values]",
         lambda v, c, d: ["".join((c, w, d)) for w in v], c=LETTERS, d=LETTERS),
    step("move the first letter of each to its end", "[w[1:] + w[:1] for w in values]",
         lambda v: ["".join((*w[1:], *w[:1])) for w in v]),
    step("repeat each {k} times, without a space", "[w * {k} for w in values]",
         lambda v, k: ["".join([w] * k) for w in v], k=range(2, 5)),
    step("sort them by the alphabet", "sorted(values)", lambda v: sorted(v)),
    step("sort them by length, shortest first, and leave equal lengths in order", "sorted(values, key=len)",
         lambda v: [w for n in sorted({len(w) for w in v}) for w in v if len(w) == n]),
    step("reverse their order", "values[::-1]", lambda v: list(reversed(v))),
)  # fmt: skip

WORD_ENDS = (
    step("give the list", "values", lambda v: v),
    step('join them with "{s}"', "'{s}'.join(values)", lambda v, s: s.join(v), s="-/+.:;_ "),
    step("give the number of letters in all", "sum(map(len, values))", lambda v: len("".join(v))),
    step("give the first of the longest, or {c} if there is none", "max(values, key=len, default='{c}')",
         lambda v, c: next((w for w in v if len(w) == max(map(len, v))), c), c=LETTERS),
)  # fmt: skip

PAIR_STEPS = (
    step("drop pairs with a number below {k}", "[p for p in values if p[1] >= {k}]",
         lambda v, k: [p for p in v if not p[1] < k], k=range(-20, 10)),
    step("drop pairs whose word contains {c}", "[p for p in values if '{c}' not in p[0]]",
         lambda v, c: [p for p in v if p[0].count(c) == 0], c=LETTERS),
    step("add {k} to each number", "[[p[0], p[1] + {k}] for p in values]",
         lambda v, k: [[w, n + k] for w, n in v], k=range(2, 60)),
    step("multiply each number by {k}", "[[p[0], p[1] * {k}] for p in values]",
         lambda v, k: [[w, n * k] for w, n in v], k=range(2, 30)),
    step("put {c} before each word", "[['{c}' + p[0], p[1]] for p in values]",
         lambda v, c: [[f"{c}{w}", n] for w, n in v], c=LETTERS),
    step("cut each word to its first {k} letters", "[[p[0][:{k}], p[1]] for p in values]",
         lambda v, k: [["".join(c for i, c in enumerate(w) if i < k), n] for w, n in v], k=range(1, 4)),
)  # fmt: skip

PAIR_ENDS = (
    step("give a dict from each word to the sum of its numbers",
         "{{w: sum(n for u, n in values if u == w) for w, _ in values}}",
         lambda v: {w: sum(n for u, n in v if u == w) for w in dict.fromkeys(w for w, _ in v)}),
    step("give a dict from each word to how often it stands there",
         "{{w: sum(u == w for u, _ in values) for w, _ in values}}",
         lambda v: {w: [u for u, _ in v].count(w) for w in dict.fromkeys(w for w, _ in v)}),
    step("give a dict from each word to the largest of its numbers",
         "{{w: max(n for u, n in values if u == w) for w, _ in values}}",
         lambda v: {w: sorted(n for u, n in v if u == w)[-1] for w in dict.fromkeys(w for w, _ in v)}),
    step('give the words of all pairs, joined with "{s}", by their numbers, equal ones as they stand',
         "'{s}'.join(w for w, _ in sorted(values, key=lambda p: p[1]))",
         lambda v, s: s.join(v[i][0] for _, i in sorted((p[1], i) for i, p in enumerate(v))), s="-/+.:;_ "),
)  # fmt: skip
