"""Right endings for a checker that may look inside: from an instance's state, and from what it compares."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentrl.check.actions import TAG
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.report import Hung
from agentrl.check.state import leaves_of
from agentrl.message import Action, call
from agentrl.toolkit import Parameter, ToolSpec

GUESSES = 16
SECONDS = 1.0
FIRST = 6
"""Calls of each tool that are tried before answers made of the whole state."""
COMBINATIONS = 48
"""Calls of one tool with several arguments that are tried in all."""
WHOLE = re.compile(r"-?\d{1,12}")


async def insiders(bench: Bench, table: Table, *, position: int = 0) -> AsyncIterator[Game]:
    """End with what the instance compares an answer or an argument with, and with values of its own state."""
    game, spy = table.new(), Spy("0")
    task = bench.task(position)
    await game.start(task)
    texts = candidates(leaves_of(game.raw).values())
    calls = [insider_calls(s, await compared_with(bench, table, position, s), texts) for s in game.env.tools]
    await game.act(Action(text=spy))
    texts = list(dict.fromkeys([*spy.compared, *texts]))
    tags, end, correct = TAG.findall(game.first.text)[:1], time.monotonic() + SECONDS, 0
    answers = [Action(text=f"<{tags[0]}>{text}</{tags[0]}>" if tags else text) for text in texts]
    soon = [call for some in calls for call in itertools.islice(some, FIRST)]
    late = [call for some in calls for call in some]
    for action in [*soon, *answers[: len(spy.compared) + GUESSES], *late, *answers]:
        if time.monotonic() > end or correct >= 4:
            return
        one = table.new()
        await one.repeat(task, [action])
        correct += bool(one.turns[-1][1].correct)
        yield one
        await one.close()


async def compared_with(bench: Bench, table: Table, position: int, spec: ToolSpec) -> dict[str, list[str]]:
    """Give what a tool compares its arguments with, which may depend on those that it compared before."""
    found: dict[str, list[str]] = {}
    for _ in spec.parameters:
        first = {p.name: fitting(p, found[p.name])[:1] for p in spec.parameters if p.name in found}
        more = await _spied_on(bench, table, position, spec, {n: v[0] for n, v in first.items() if v})
        if not (more := {n: v for n, v in more.items() if v and n not in found}):
            break
        found |= more
    return found


async def _spied_on(
    bench: Bench, table: Table, position: int, spec: ToolSpec, known: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Call a tool once with arguments that agree to every comparison; give what each was compared with."""
    game = table.new()
    await game.start(bench.task(position))
    free = [p for p in spec.parameters if p.name not in known]
    spies = {p.name: AGREEING[p.type]() for p in free if p.type in AGREEING and not p.choices}
    fixed = {p.name: (p.choices or USUAL[p.type])[0] for p in free if p.name not in spies} | dict(known)
    tool = getattr(game.raw, spec.name)
    try:
        with contextlib.suppress(Exception):
            await game.call(f"{spec.name}() with values that agree", lambda: tool(**fixed, **spies))
    except Hung:
        return {}
    await game.close()
    return {name: list(dict.fromkeys(spy.compared)) for name, spy in spies.items()}


def insider_calls(
    spec: ToolSpec, compared: Mapping[str, Sequence[str]], texts: Sequence[str]
) -> Iterator[Action]:
    """Call a tool with what it compares arguments with, and with values from the state; likely ones first."""
    required = [p for p in spec.parameters if p.required or compared.get(p.name)]
    most = COMBINATIONS if len(required) == 1 else 8
    values = [fitting(p, [*compared.get(p.name, ()), *texts])[:most] for p in required]
    places = sorted(itertools.product(*(range(len(v)) for v in values)), key=sum)
    for chosen in places[:COMBINATIONS] if required else ():
        yield call(spec.name, **{p.name: v[i] for p, v, i in zip(required, values, chosen, strict=True)})


def fitting(parameter: Parameter, texts: Sequence[str]) -> list[Any]:
    """Read those texts that fit a parameter.

    >>> fitting(Parameter(name="n", type=int), ["pear", "12"])
    [12]
    """
    if parameter.choices:
        return list(parameter.choices)
    if parameter.type is str:
        return list(texts)
    if parameter.type in (int, float):
        return [parameter.type(t) for t in texts if WHOLE.fullmatch(t)]
    return list(USUAL[parameter.type])


class Spy(str):
    """An answer that remembers what it was compared with, and is never equal to it."""

    __slots__ = ("compared",)
    compared: list[str]

    def __init__(self, text: str) -> None:
        self.compared = []

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) and len(other) < 1000:
            self.compared.append(str(other))
        return False

    def __hash__(self) -> int:
        return str.__hash__(self)

    def itself(self, *args: object) -> Spy:
        """Stay a spy under what is usually done to an answer before comparing."""
        return self

    strip = lstrip = rstrip = lower = upper = casefold = removeprefix = removesuffix = itself
    replace = __str__ = itself


class AgreeingText(Spy):
    """A text that is equal to whatever it is compared with, so that a chain of comparisons goes on."""

    __slots__ = ()

    def __new__(cls) -> AgreeingText:
        return super().__new__(cls, "0")

    def __init__(self) -> None:
        super().__init__("0")

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) or isinstance(other, str)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = Spy.__hash__


class AgreeingNumber(int):
    """A number that is equal to whatever it is compared with."""

    compared: list[str]

    def __new__(cls) -> AgreeingNumber:
        number = super().__new__(cls, 0)
        number.compared = []
        return number

    def __eq__(self, other: object) -> bool:
        self.compared.append(str(other))
        return True

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


AGREEING: dict[type, Any] = {str: AgreeingText, int: AgreeingNumber, float: AgreeingNumber}
USUAL: dict[type, tuple[Any, ...]] = {
    str: ("0",),
    int: (1,),
    float: (1.0,),
    bool: (False, True),
    list: ([],),
    dict: ({},),
}
"""A value of each type where any will do."""


def candidates(leaves: Iterable[str]) -> list[str]:
    """Make answers out of the leaves of a state: the values, and what two numbers give.

    >>> candidates(["'pear'", "3", "5"])
    ['pear', '3', '5', '4', '2', '6', '8', '15']
    """
    plain = list(dict.fromkeys(v.strip("'\"") for v in leaves if len(v) < 40))[:GUESSES]
    numbers = [int(v) for v in plain if WHOLE.fullmatch(v)]
    near = [n + d for n in numbers for d in (1, -1)]
    pairs = [v for a, b in itertools.combinations(numbers, 2) for v in (a + b, a * b)]
    return list(dict.fromkeys([*plain, *map(str, near + pairs)]))
