"""Level 3, held out: read records from text, change them, write them back.

Counted: 42 pairs of separators, 999 additions, 900 bounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.functions import draw_words, with_example
from agentrl.envs.code.hidden import cases_of, inputs_of
from agentrl.envs.code.problem import some
from agentrl.envs.code.programs import Draft, Program

HEAD = (
    'Write three Python functions. parse(text) reads records such as "ab{inner}3{outer}cd{inner}4" into a '
    "dict from name to whole number; a name that comes again adds to its number, and '' gives an empty dict. "
    "change(records) adds {extra} to each number, leaves out those above {most} and gives a new dict. "
    "convert(text) parses, changes, and writes the records in the same form, names by the alphabet."
)
SOURCE = """\
def parse(text):
    records = {{}}
    for entry in text.split({outer!r}):
        if entry:
            name, number = entry.split({inner!r})
            records[name] = records.get(name, 0) + int(number)
    return records
def change(records):
    moved = {{name: number + {extra} for name, number in records.items()}}
    return {{name: number for name, number in moved.items() if number <= {most}}}
def convert(text):
    records = sorted(change(parse(text)).items())
    return {outer!r}.join(name + {inner!r} + str(number) for name, number in records)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one ledger is written and changed; the judge's own account of it."""

    inner: str
    outer: str
    extra: int
    most: int

    def parse(self, text: str) -> dict[str, int]:
        """Read records."""
        pairs = [entry.partition(self.inner)[::2] for entry in text.split(self.outer) if entry]
        return {
            name: sum(int(v) for n, v in pairs if n == name) for name in dict.fromkeys(n for n, _ in pairs)
        }

    def change(self, records: dict[str, int]) -> dict[str, int]:
        """Change records."""
        return {n: v + self.extra for n, v in records.items() if v + self.extra <= self.most}

    def convert(self, text: str) -> str:
        """Read, change and write records."""
        records = self.change(self.parse(text))
        return self.outer.join(f"{name}{self.inner}{records[name]}" for name in sorted(records))

    def draw_text(self, rng: np.random.Generator) -> str:
        """Draw an input in which a name may come twice."""
        names = [word[:3] for word in draw_words(rng)]
        high = max(2, self.most - self.extra + 40)
        return self.outer.join(f"{n}{self.inner}{rng.integers(0, high)}" for n in names + names[:1])

    def edge(self) -> str:
        """Give an input with numbers around the bound, not in the order of the alphabet."""
        bound = self.most - self.extra
        return self.outer.join(f"{n}{self.inner}{bound + d}" for n, d in (("c", 1), ("b", 0), ("a", -1)))


def draft(rng: np.random.Generator) -> Draft:
    """Draft a task."""
    form = draw_form(rng)
    head = HEAD.format(inner=form.inner, outer=form.outer, extra=form.extra, most=form.most)
    example, hidden = inputs_of(head, form.draw_text)
    first = cases_of("convert", form.convert, hidden[:8]) + cases_of("parse", form.parse, hidden[:3])
    first += cases_of("change", form.change, [form.parse(one) for one in hidden[3:6]])
    more = cases_of("convert", form.convert, [form.edge(), *hidden[8:], ""])
    more += cases_of("parse", form.parse, ["", *hidden[3:]])
    more += cases_of("change", form.change, [form.parse(form.edge())])
    return Draft(text=with_example(head, "convert", example, form.convert), first=first, more=more)


def write(found: re.Match[str]) -> str:
    """Write the three functions that a task's text describes."""
    inner, outer, extra, most = found.groups()
    return SOURCE.format(inner=inner, outer=outer, extra=extra, most=most)


def draw_form(rng: np.random.Generator) -> Form:
    """Draw how a ledger is written and changed."""
    inner, outer = some(rng, ":=/|,;_", 2)
    extra = int(rng.integers(1, 1000))
    return Form(inner=inner, outer=outer, extra=extra, most=extra + int(rng.integers(50, 950)))


LEDGER = Program(
    pattern=re.compile(
        r"Write three Python functions\. parse.+?\"ab(.)3(.)cd.+? adds (\d+) to each .+? above (\d+) and"
    ),
    draft=draft,
    write=write,
)
