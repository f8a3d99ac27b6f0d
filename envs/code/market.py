"""The market: facts that code can ask for and show, but not compute with in the same call.

`price("pear")` in the sandbox sends a request out and returns a `Reply`, which prints as a mark. When the
call has ended, the host puts the fact where the mark stands. So `print(price("pear"))` shows 12,
`price("pear") * 7` is a `TypeError`, and no fact of a task is ever inside a sandbox: it can reach a later
call only through the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

ITEMS = (
    "pear", "fig", "kiwi", "plum", "lime", "date", "corn", "bean",
    "rice", "tea", "salt", "milk", "egg", "oil", "nut", "leek",
)  # fmt: skip
PEOPLE = ("ann", "bob", "cleo", "dan", "eve", "finn", "gus", "hana")
NUMBERS = ("price", "stock", "weight")
"""What the market knows of every item, as numbers 1..99."""
NAMES = (*NUMBERS, "neighbor", "basket", "budget", "note")
"""The functions that the code may call."""
PLACES = tuple((name, item) for item in ITEMS for name in NUMBERS)
UNKNOWN = "unknown"
ONE_QUESTION = "(one question per call: ask this in the next)"
BESIDE = 60
"""Characters that a call of level 0 may show beside replies: enough for a label."""
CROWDED = "a call that shows a reply of the market may show little else: print it, compute in the next call"

PRELUDE = f'''
class Reply:
    """A fact that is on its way: it can be shown, not computed with."""

    __slots__ = ("_mark",)

    def __init__(self, mark):
        self._mark = mark

    def __repr__(self):
        return self._mark


def _market(names, emit=emit, Reply=Reply):
    count = 0

    def named(name):
        def ask(key):
            nonlocal count
            if type(key) is not str:
                raise TypeError(f"{{name}}() takes a word, not {{type(key).__name__}}")
            count += 1
            emit((count, name, key[:64]))
            return Reply(f"\\ue000{{count}}\\ue001")

        ask.__name__ = ask.__qualname__ = name
        return ask

    return {{name: named(name) for name in names}}


globals().update(_market({NAMES!r}))
del _market, Reply
'''
"""Run in every sandbox before the model's code."""
MARK = re.compile("\ue000(\\d{1,9})\ue001")
Facts = dict[tuple[str, str], str]


def draw_facts(rng: np.random.Generator) -> Facts:
    """Draw the numbers of all items and who stands next to whom: one circle of all items."""
    facts = dict(zip(PLACES, map(str, rng.integers(1, 100, len(PLACES)).tolist()), strict=True))
    circle = [ITEMS[i] for i in rng.permutation(len(ITEMS)).tolist()]
    for one, other in zip(circle, circle[1:] + circle[:1], strict=True):
        facts["neighbor", one] = other
    return facts


def read_requests(values: Iterable[Any], facts: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Answer what the code asked for; values of another form are not requests.

    >>> read_requests([(1, "price", "pear"), "noise"], {("price", "pear"): "12"})
    {'1': '12'}
    """
    replies = {}
    for value in values:
        if type(value) is tuple and [type(v) for v in value] == [int, str, str]:
            replies[str(value[0])] = facts.get((value[1], value[2]), UNKNOWN)
    return replies


def read_first(values: Iterable[Any], facts: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Answer the first question of a call that has an answer, and it alone, however often it is asked.

    >>> facts = {("price", "fig"): "12", ("price", "nut"): "7"}
    >>> read_first([(1, "price", "fig"), (2, "price", "nut")], facts)
    {'1': '12', '2': '(one question per call: ask this in the next)'}
    """
    replies: dict[str, str] = {}
    first = None
    for value in values:
        for mark, reply in read_requests([value], facts).items():
            first = first or (value[1:] if reply != UNKNOWN else None)
            replies[mark] = reply if reply == UNKNOWN or value[1:] == first else ONE_QUESTION
    return replies


def shows_too_much(text: str) -> bool:
    """Whether a text shows replies among so much else that it could be a table to look them up in."""
    beside = MARK.sub("", text)
    return len(beside) < len(text) and len(beside.strip()) > BESIDE


def fill(text: str, replies: Mapping[str, str]) -> str:
    r"""Put facts where their marks stand.

    >>> fill("a pear costs \ue0001\ue001", {"1": "12"})
    'a pear costs 12'
    """
    return MARK.sub(lambda found: replies.get(found[1], found[0]), text) if "\ue000" in text else text
