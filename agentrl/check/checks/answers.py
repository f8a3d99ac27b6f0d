"""A judge accepts what answers this very question: not the answer of another one, no number beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.check.bench import Bench, Game, Table
from agentrl.check.budget import Budget
from agentrl.check.checks.fooling import alike, unwrapped
from agentrl.check.checks.insiders import candidates, insiders
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.state import leaves_of
from agentrl.errors import InfrastructureError
from agentrl.message import Action, ToolResult

SECONDS = 2.5
"""Time for finding right answers, and again for trying wrong ones."""
TASKS = 6
LEAST = 3
"""What is accepted in fewer tasks may be chance."""
BACKWARDS = "the answer written backwards"
MOST = {"near": 12, "others": 4, "told": 6, "made": 24}
"""How many answers of each origin are tried in a task."""
NAMES = {
    "told": "whatever the tools say, also about something else,",
    "others": "the right answer of another task",
    "made": "more than one wrong number",
}
ORDER = ("told", "others", "near", "made")
"""What is told first, because it says most."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
FIGURES = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
OPEN = re.compile(
    r"\b(?:name|give|find|write|say|pick|choose|enter|guess|list|show|make|invent)"
    r"\s+(?:me\s+)?(?:an?|two|three)\b"
    r"|\b(?:any|some|someone|something|somewhere|somebody|either|one of|for example|about|approximately"
    r"|roughly|within|nearest|near|close|estimate|tolerance|at least|at most|or more|or less|digits"
    r"|decimals|round\w*|solve|between)\b|±|~",
    re.IGNORECASE,
)
"""What a task says when it asks for one of several answers, or for none that is exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """An episode that ended well, and where in its last action the answer stands."""

    game: Game
    value: str
    tag: str = ""
    argument: str = ""
    """Of the last call; '' where the answer is the text."""

    @property
    def numeric(self) -> bool:
        """Whether the answer is a number."""
        return NUMBER.fullmatch(self.value) is not None

    def ending(self, value: str) -> Action:
        """Give the last action with another answer in it."""
        last = self.game.actions[-1]
        if not self.argument:
            return Action(text=f"<{self.tag}>{value}</{self.tag}>" if self.tag else value)
        kind = type(last.calls[0].arguments[self.argument])
        arguments = dict(last.calls[0].arguments) | {self.argument: kind(value)}
        return Action(calls=(replace(last.calls[0], arguments=arguments),))

    async def accepts(self, table: Table, value: str) -> bool:
        """Play the same episode with another answer at its end: whether that is judged correct."""
        assert self.game.task is not None
        try:
            action = self.ending(value)
        except ValueError:
            return False
        actions = [*self.game.actions[:-1], action]
        try:
            game = await table.new().repeat(self.game.task, actions)
        except InfrastructureError:
            return False  # another check judges what it raises
        await game.close()
        table.games.remove(game)
        return bool(game.turns[-1][1].correct) and len(game.turns) == len(actions)


def rights_of(game: Game) -> Iterator[Right]:
    """Find the answer in the last action: its text, or an argument of its only call."""
    last = game.actions[-1]
    if last.is_answer:
        tag, value = unwrapped(last.text)
        if value and len(value.split()) == 1:  # of a sentence there may be several right ones
            yield Right(game=game, value=value, tag=tag)
        return
    if len(last.calls) == 1 and not last.malformed:
        chosen = {p.name for s in game.env.tools if s.name == last.calls[0].name for p in s.parameters}
        for name, value in last.calls[0].arguments.items():
            if name in chosen and type(value) in (str, int, float) and len(str(value).split()) == 1:
                yield Right(game=game, value=str(value), argument=name)


async def right_answers(bench: Bench, table: Table, most: int = TASKS) -> list[Right]:
    """Give right answers of some tasks, where something else at their place would not be right."""
    found, end = list[Right](), Budget(SECONDS)
    for position in range(most):
        if end.spent:
            break
        game = await _right_game(bench, table, position, end)
        for right in rights_of(game) if game is not None else ():
            if not await right.accepts(table, "zqx" if not right.argument or not right.numeric else "91377"):
                found.append(right)
                break
    return found


async def _right_game(bench: Bench, table: Table, position: int, end: Budget) -> Game | None:
    game = await expert_game(bench, table, bench.task(position))
    if game is not None:
        return game if game.turns[-1][1].correct else None
    async for tried in insiders(bench, table, position=position):
        if tried.turns[-1][1].correct:
            return tried
        if end.spent:
            break
    return None


class Tally:
    """Counts, over tasks, which answers beside the right one were accepted."""

    def __init__(self) -> None:
        self.tried, self.taken = Counter[str](), Counter[str]()
        self.examples = dict[str, str]()

    def note(self, what: str, taken: bool, example: str) -> None:
        """Count a task in which `what` was tried."""
        self.tried[what] += 1
        if taken:
            self.taken[what] += 1
            self.examples.setdefault(what, example)

    @property
    def fault(self) -> str | None:
        """What is accepted in most tasks, with how often, or None."""
        for what in sorted(self.taken, key=_rank):
            count = self.taken[what]
            if count >= LEAST and 3 * count >= 2 * self.tried[what]:
                often = f"in {count} of {self.tried[what]} tasks ({self.examples[what]})"
                return f"{what} is judged correct too, {often}"
        return None


def _rank(what: str) -> int:
    group = next((g for g, name in NAMES.items() if name == what), "near")
    return ORDER.index(group)


async def wrong_answers(bench: Bench) -> str:
    """Answers of the right kind that belong to another question, or stand beside the right one, are wrong."""
    async with bench.open() as table:
        rights = await right_answers(bench, table)
        if len(rights) < LEAST:
            raise NotApplicable("fewer than three right answers of one word are known")
        if sum(_is_open(r.game) for r in rights) * 2 > len(rights):
            raise NotApplicable("its text asks for one of several answers, or for none that is exact")
        tally, end = Tally(), Budget(SECONDS)
        for number, right in enumerate(rights):
            if number >= LEAST and end.spent:
                break
            await _try(bench, table, right, rights, tally)
    if (fault := tally.fault) is not None:
        mend = "compare with the answer to this question alone, or say in its text that others are right too"
        raise Faulty(f"{fault}; {mend}")
    return f"the answers of other questions and {sum(tally.tried.values())} kinds of near ones are wrong"


def _is_open(game: Game) -> bool:
    return OPEN.search(f"{game.env.system} {game.first.text}") is not None


async def _try(bench: Bench, table: Table, right: Right, rights: Sequence[Right], tally: Tally) -> None:
    """Try all sorts of wrong answers to one question."""
    for what, value in list(near(right).items())[: MOST["near"]]:
        if not alike(value, right.value) or beside(value, right.value):
            tally.note(what, await right.accepts(table, value), f"{value!r} for {right.value!r}")
    others = [r.value for r in rights if r is not right and r.argument == right.argument]
    groups = {"others": others, "told": await told(bench, table, right, rights)}
    groups["made"] = made(right) if right.numeric else []
    for group, values in groups.items():
        wrong = [v for v in dict.fromkeys(values) if _same_kind(v, right.value) and not alike(v, right.value)]
        wrong = wrong[: MOST[group]]
        taken = [v for v in wrong if await right.accepts(table, v)]
        enough = len(taken) >= 2 if group == "made" else 3 * len(taken) >= 2 * len(wrong)
        if len(wrong) >= (1 if group == "others" else 2):
            example = f"{' and '.join(map(repr, taken[:2]))} for {right.value!r}"
            tally.note(NAMES[group], enough and bool(taken), example)


def _same_kind(one: str, two: str) -> bool:
    return (NUMBER.fullmatch(one) is None) == (NUMBER.fullmatch(two) is None)


def near(right: Right) -> dict[str, str]:
    """Give answers that a hasty judge takes for the right one, by what to call them."""
    results = [t for _, r in right.game.turns for t in _results(r.observation.parts)]
    numbers, value = FIGURES.findall(right.game.first.text), right.value
    if not right.numeric:
        word = bool(results) and len(results[-1].split()) == 1 and _same_kind(results[-1], value)
        found = {"the last result of a tool": results[-1]} if word else {}
        return found | ({BACKWARDS: value[::-1]} if value.isalnum() and not value.isdigit() else {})
    last = FIGURES.findall(results[-1]) if results else []
    found = {"the last number that a tool gave": last[-1]} if last else {}
    found |= {"the first number of the task's text": numbers[0]} if numbers else {}
    found |= {"the last number of the task's text": numbers[-1]} if len(numbers) > 1 else {}
    if len(numbers) > 1 and all(n.lstrip("-").isdigit() for n in numbers[:2]):
        a, b = map(int, numbers[:2])
        sums = {"sum": a + b, "difference": a - b, "product": a * b}
        found |= {f"the {name} of the task's first two numbers": str(n) for name, n in sums.items()}
    if "." in value:
        return found | {"1.3 times the answer": f"{1.3 * float(value):.6g}"}
    whole = int(value)
    if whole:
        found |= {"the answer with its sign turned": str(-whole), "a hundredth of it": f"{whole / 100:.10g}"}
    return found | {
        "the answer plus 1": str(whole + 1),
        "the answer minus 1": str(whole - 1),
        "twice the answer plus 1": str(2 * whole + 1),
        BACKWARDS: value[::-1] if value[-1] != "0" else str(whole + 1),
    }


def beside(one: str, two: str) -> bool:
    """Whether two answers are different whole numbers, however close.

    >>> beside("84", "85"), beside("84", "84.0")
    (True, False)
    """
    return all(re.fullmatch(r"-?\d+", t) for t in (one, two)) and int(one) != int(two)


def made(right: Right) -> list[str]:
    """Give numbers that are made of what the instance holds as the right one may have been."""
    leaves = list(leaves_of(right.game.raw).values())
    held = [int(v) for v in dict.fromkeys(leaves) if re.fullmatch(r"-?\d{1,9}", v)][:8]
    asked = [int(n) for n in FIGURES.findall(right.game.first.text) if n.lstrip("-").isdigit()][:2]
    crossed = [str(v) for a in held for b in asked for v in (a * b, a + b)]
    return [*crossed, *candidates(leaves)]


async def told(bench: Bench, table: Table, right: Right, rights: Sequence[Right]) -> list[str]:
    """Give what tools say in this task, also when asked as other tasks ask, or at random."""
    assert right.game.task is not None
    games = [right.game]
    for other in rights[:4]:
        if other is not right and len(other.game.actions) > 1:
            games.append(await _replayed(table, right, other))
    if right.game.env.tools and len(games) == 1:
        game = table.new()
        games.append(await game.play(right.game.task, variant=31))
        await game.close()
    texts = [t for g in games for _, r in g.turns for t in _results(r.observation.parts)]
    if right.numeric:
        return [n for t in texts for n in FIGURES.findall(t)]
    return [t for t in texts if len(t.split()) == 1]


async def _replayed(table: Table, right: Right, other: Right) -> Game:
    assert right.game.task is not None
    game = await table.new().repeat(right.game.task, other.game.actions[:-1])
    await game.close()
    return game


def _results(parts: Sequence[Any]) -> list[str]:
    return [p.text for p in parts if isinstance(p, ToolResult) and not p.error]
