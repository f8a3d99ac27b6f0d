"""Level 1: three to five dependent calls on the market, with loops and strings.

Each family alone has far more than 10^6 tasks: several items in order, their numbers, and counts or a person.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.envs.code.market import ITEMS, NUMBERS, PEOPLE, Facts, draw_facts
from agentrl.envs.code.problem import Problem, pick, some
from agentrl.envs.code.questions import ask, python
from agentrl.message import Action, answer


def _show_each(function: str, items: Sequence[str]) -> Action:
    listed = ", ".join(f'"{i}"' for i in items)
    return python(f"for item in [{listed}]:\n    print({function}(item))")


def _key(facts: Facts, kind: str, items: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{i} {facts[kind, i]}" for i in items)


def read_basket(text: str) -> dict[str, int]:
    """Read what `basket` replies.

    >>> read_basket("3 pear, 2 fig")
    {'pear': 3, 'fig': 2}
    """
    counted = (entry.split() for entry in text.split(", "))
    return {item: int(count) for count, item in counted}


def draw_basket(rng: np.random.Generator, facts: Facts, person: str) -> dict[str, int]:
    """Draw three to five items with counts and tell the market."""
    basket = {i: int(rng.integers(2, 10)) for i in some(rng, ITEMS, int(rng.integers(3, 6)))}
    facts["basket", person] = ", ".join(f"{count} {item}" for item, count in basket.items())
    return basket


@dataclass(frozen=True, slots=True, kw_only=True)
class Basket:
    """What a basket comes to: look into it, ask for each item, add up."""

    pattern = re.compile(r"Each item in the basket of (\w+) has a (\w+)\. What do they come to in all.*")

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, person = draw_facts(rng), pick(rng, NUMBERS), pick(rng, PEOPLE)
        basket = draw_basket(rng, facts, person)
        total = sum(int(facts[kind, i]) * count for i, count in basket.items())
        text = (
            f"Each item in the basket of {person} has a {kind}. What do they come to in all, "
            "counted as often as they lie there?"
        )
        key = (facts["basket", person], *_key(facts, kind, list(basket)))
        return Problem(text=text, key=key, facts=facts, answer=str(total))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Look, ask, add, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        if not seen:
            return ask("basket", found[1])
        basket = read_basket(seen[0])
        if len(seen) == 1:
            return _show_each(found[2], list(basket))
        if len(seen) == 2:
            pairs = zip(seen[1].split(), basket.values(), strict=True)
            return python(f"print({' + '.join(f'{n}*{count}' for n, count in pairs)})")
        return answer(seen[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Follow neighbors, then add up a number of all items passed."""

    pattern = re.compile(
        r"Start at (\w+) and go to the neighbor (\d) times\. What is the total (\w+) of the items passed.*"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, steps = draw_facts(rng), pick(rng, NUMBERS), int(rng.integers(2, 4))
        passed = [pick(rng, ITEMS)]
        for _ in range(steps):
            passed.append(facts["neighbor", passed[-1]])
        text = (
            f"Start at {passed[0]} and go to the neighbor {steps} times. "
            f"What is the total {kind} of the items passed, both ends included?"
        )
        total = sum(int(facts[kind, i]) for i in passed)
        return Problem(text=text, key=_key(facts, kind, passed), facts=facts, answer=str(total))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Walk, ask for all, add, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        steps = int(found[2])
        passed = [found[1], *seen[:steps]]
        if len(seen) < steps:
            return ask("neighbor", passed[-1])
        if len(seen) == steps:
            return _show_each(found[3], passed)
        if len(seen) == steps + 1:
            return python(f"print(sum([{', '.join(seen[steps].split())}]))")
        return answer(seen[-1])


def _shifted(word: str, by: int) -> str:
    return "".join(chr((ord(c) - 97 + by) % 26 + 97) for c in word)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Read a note in cipher, ask for the item that it names, and compute."""

    pattern = re.compile(
        r"In the note of (\w+) each letter stands (\d+) places further in the alphabet\. "
        r"What is the (\w+) of the item that it names, times (\d+), plus (\d+)\?"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, person, item = draw_facts(rng), pick(rng, NUMBERS), pick(rng, PEOPLE), pick(rng, ITEMS)
        places, factor, extra = (int(rng.integers(a, b)) for a, b in ((1, 26), (3, 30), (100, 1000)))
        facts["note", person] = _shifted(item, places)
        text = (
            f"In the note of {person} each letter stands {places} places further in the alphabet. "
            f"What is the {kind} of the item that it names, times {factor}, plus {extra}?"
        )
        result = int(facts[kind, item]) * factor + extra
        return Problem(text=text, key=_key(facts, kind, [item]), facts=facts, answer=str(result))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Read, decipher, ask, compute, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        person, places, kind, factor, extra = found.groups()
        if not seen:
            return ask("note", person)
        if len(seen) == 1:
            letter = f"chr((ord(c) - 97 - {places}) % 26 + 97)"
            return python(f'print("".join({letter} for c in "{seen[0]}"))')
        if len(seen) == 2:
            return ask(kind, seen[1])
        return python(f"print({seen[2]}*{factor}+{extra})") if len(seen) == 3 else answer(seen[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class Afford:
    """How much of a budget is left after buying as many as it allows of an item next to another."""

    pattern = re.compile(
        r"(\w+) spends the budget on the neighbor of (\w+), as many as it allows, "
        r"and then on (\w+)\. What is left\?"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, person, first = draw_facts(rng), pick(rng, PEOPLE), pick(rng, ITEMS)
        dear = facts["neighbor", first]
        cheap = pick(rng, [i for i in ITEMS if i not in (first, dear)])
        budget = int(rng.integers(1000, 10000))
        facts["price", dear], facts["price", cheap] = str(rng.integers(50, 100)), str(rng.integers(20, 50))
        facts["budget", person] = str(budget)
        left = budget % int(facts["price", dear]) % int(facts["price", cheap])
        text = (
            f"{person} spends the budget on the neighbor of {first}, as many as it allows, "
            f"and then on {cheap}. What is left?"
        )
        key = (budget, *_key(facts, "price", [dear, cheap]))
        return Problem(text=text, key=key, facts=facts, answer=str(left))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Ask for the neighbor, for prices and budget, compute, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        person, first, cheap = found.groups()
        if not seen:
            return ask("neighbor", first)
        if len(seen) == 1:
            return python(f'print(budget("{person}"), price("{seen[0]}"), price("{cheap}"))')
        return python(f"print({' % '.join(seen[1].split())})") if len(seen) == 2 else answer(seen[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dearest:
    """Held out: the extreme item of a basket, then its neighbor, then arithmetic with both."""

    pattern = re.compile(
        r"In the basket of (\w+), take the item with the highest (\w+)\. "
        r"What is its \w+ times the (\w+) of its neighbor\?"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, person = draw_facts(rng), pick(rng, PEOPLE)
        kind, other = some(rng, NUMBERS, 2)
        basket = list(draw_basket(rng, facts, person))
        for item, number in zip(basket, rng.permutation(99) + 1, strict=False):
            facts[kind, item] = str(number)
        best = max(basket, key=lambda item: int(facts[kind, item]))
        next_one = facts["neighbor", best]
        text = (
            f"In the basket of {person}, take the item with the highest {kind}. "
            f"What is its {kind} times the {other} of its neighbor?"
        )
        result = int(facts[kind, best]) * int(facts[other, next_one])
        key = (*_key(facts, kind, basket), *_key(facts, other, [next_one]))
        return Problem(text=text, key=key, facts=facts, answer=str(result))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Look, ask for all, ask for the neighbor, ask for its number, compute, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        if len(seen) < 2:
            return _show_each(found[2], list(read_basket(seen[0]))) if seen else ask("basket", found[1])
        numbers = dict(zip(read_basket(seen[0]), map(int, seen[1].split()), strict=True))
        best = max(numbers, key=lambda item: numbers[item])
        if len(seen) == 2:
            return ask("neighbor", best)
        if len(seen) == 3:
            return ask(found[3], seen[2])
        return python(f"print({numbers[best]}*{seen[3]})") if len(seen) == 4 else answer(seen[4])


@dataclass(frozen=True, slots=True, kw_only=True)
class Backwards:
    """Held out: a note with two words written backwards, then the difference of their numbers."""

    pattern = re.compile(
        r"The note of (\w+) names two items, written backwards\. "
        r"How far apart are their (\w+)s, times (\d+)\?"
    )

    def draw(self, rng: np.random.Generator) -> Problem:
        """Draw a task."""
        facts, kind, person, two = draw_facts(rng), pick(rng, NUMBERS), pick(rng, PEOPLE), some(rng, ITEMS, 2)
        factor = int(rng.integers(3, 30))
        facts["note", person] = " ".join(two)[::-1]
        text = (
            f"The note of {person} names two items, written backwards. "
            f"How far apart are their {kind}s, times {factor}?"
        )
        result = abs(int(facts[kind, two[0]]) - int(facts[kind, two[1]])) * factor
        return Problem(text=text, key=_key(facts, kind, two), facts=facts, answer=str(result))

    def act(self, text: str, seen: Sequence[str]) -> Action | None:
        """Read, turn round, ask for both, compute, answer."""
        if not (found := self.pattern.fullmatch(text)):
            return None
        if not seen:
            return ask("note", found[1])
        if len(seen) == 1:
            return python(f'print("{seen[0]}"[::-1])')
        if len(seen) == 2:
            return _show_each(found[2], seen[1].split())
        return (
            python(f"print(abs({'-'.join(seen[2].split())})*{found[3]})")
            if len(seen) == 3
            else answer(seen[3])
        )


TRAIN = (Basket(), Walk(), Note(), Afford())
OOD = (Dearest(), Backwards())
