"""Rewards are numbers in their range, and agree with `correct`."""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from agentrl.check.actions import TAG
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.experts import expert_actor
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.state import leaves_of
from agentrl.check.wording import name_of, shown
from agentrl.errors import InfrastructureError
from agentrl.message import Action, call
from agentrl.toolenv import ToolEnv

RANGE = (-1.0, 1.0)
GUESSES = 16


async def episodes(bench: Bench, table: Table) -> AsyncIterator[Game]:
    """Play at random, with the expert, and with answers out of the hidden state: some should be right."""
    for position in bench.positions(4):
        yield await table.play(position, variant=position)
    if bench.has_expert:
        actor = expert_actor(bench)
        for position in bench.positions(3):
            game = table.new()
            await game.start(bench.task(position))
            while not game.done and len(game.turns) < 64:
                await game.act(await actor(game.texts))
            yield game
    async for game in insiders(bench, table):
        yield game


async def insiders(bench: Bench, table: Table, *, position: int = 0) -> AsyncIterator[Game]:
    """Answer with what the instance compares an answer with, and with values made from its own state."""
    game, spy = table.new(), Spy("0")
    task = bench.task(position)
    await game.start(task)
    texts = candidates(leaves_of(game.raw).values())
    await game.act(Action(text=spy))
    texts = list(dict.fromkeys([*spy.compared, *texts]))
    tags, end, correct = TAG.findall(game.first.text)[:1], time.monotonic() + 1.0, 0
    answers = [Action(text=f"<{tags[0]}>{text}</{tags[0]}>" if tags else text) for text in texts]
    for action in [*answers[: len(spy.compared) + GUESSES], *insider_calls(game, texts), *answers]:
        if time.monotonic() > end or correct >= 4:
            return
        one = table.new()
        await one.repeat(task, [action])
        correct += bool(one.turns[-1][1].correct)
        yield one
        await one.close()


def insider_calls(game: Game, texts: Sequence[str]) -> Iterator[Action]:
    """Call every tool of one required argument with values from the state: one may end the episode."""
    for spec in game.env.tools:
        required = [p for p in spec.parameters if p.required]
        for text in texts if len(required) == 1 else ():
            if required[0].type is str:
                yield call(spec.name, **{required[0].name: text})
            elif required[0].type is int and re.fullmatch(r"-?\d{1,12}", text):
                yield call(spec.name, **{required[0].name: int(text)})


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


def candidates(leaves: Iterable[str]) -> list[str]:
    """Make answers out of the leaves of a state: the values, and what two numbers give.

    >>> candidates(["'pear'", "3", "5"])
    ['pear', '3', '5', '4', '2', '6', '8', '15']
    """
    plain = list(dict.fromkeys(v.strip("'\"") for v in leaves if len(v) < 40))[:GUESSES]
    numbers = [int(v) for v in plain if re.fullmatch(r"-?\d{1,12}", v)]
    near = [n + d for n in numbers for d in (1, -1)]
    pairs = [v for a, b in itertools.combinations(numbers, 2) for v in (a + b, a * b)]
    return list(dict.fromkeys([*plain, *map(str, near + pairs)]))


def declared_range(game: Game) -> tuple[float, float]:
    """Give the environment's `reward_range`, or -1..1."""
    low, high = getattr(game.raw, "reward_range", None) or RANGE
    return float(low), float(high)


async def reward_range(bench: Bench) -> str:
    """Every reward is finite, in -1..1 or the declared `reward_range`, and its parts sum to it."""
    seen: list[float] = []
    async with bench.open() as table:
        async for game in episodes(bench, table):
            low, high = declared_range(game)
            assert game.task is not None
            for turn, (action, result) in enumerate(game.turns):
                where = f"{name_of(game.task)}, turn {turn + 1}, {shown(action)}"
                if not low - 1e-6 <= result.reward <= high + 1e-6:
                    mend = "scale it to 0..1, or declare reward_range = (low, high) in the class"
                    raise Faulty(f"{where}: reward {result.reward:g} is outside {low:g}..{high:g}; {mend}")
                total = sum(result.reward_parts.values())
                if result.reward_parts and not math.isclose(total, result.reward, abs_tol=1e-6):
                    parts = dict(result.reward_parts)
                    raise Faulty(
                        f"{where}: reward {result.reward:g} is not the sum {total:g} of reward_parts {parts}"
                    )
                seen.append(result.reward)
    return f"{len(seen)} rewards lie in {min(seen):g}..{max(seen):g}"


async def correct_against_reward(bench: Bench) -> str:
    """`correct` is given at the end, and a correct episode earns, a wrong one does not earn all."""
    count, best = {True: 0, False: 0}, 0.0
    async with bench.open() as table:
        says = await _says_correct(bench, table)
        async for game in episodes(bench, table):
            if not game.done:
                continue
            _agree(game)
            count[bool(game.turns[-1][1].correct)] += 1
            best = max(best, *(r.reward for _, r in game.turns))
    short = f"the reward never reached 1 ({best:g} at most), so nothing counts as correct"
    if not count[True] and 0 < best < 1 and bench.has_expert:
        raise Faulty(f"{short}; let full marks be 1, or say correct=True where the task is solved")
    if not says:
        raise NotApplicable("its info says nothing of `correct`; reward >= 1 at the end counts")
    seen = f"correct and reward agree in {count[True]} correct and {count[False]} wrong episodes"
    return f"{seen}; warning: {short}" if not count[True] and 0 < best < 1 else seen


def _agree(game: Game) -> None:
    assert game.task is not None
    action, last = game.turns[-1]
    total = sum(r.reward for _, r in game.turns)
    where = f"{name_of(game.task)}, turn {len(game.turns)}, {shown(action)}"
    if last.correct is None and last.terminated:
        raise Faulty(f"{where}: the episode ended without `correct`; put correct=True or False into info")
    top = max(1.0, declared_range(game)[1])
    if last.correct and total <= 0:
        raise Faulty(
            f"{where}: correct=True, but the episode's reward is {total:g}; a solved task must earn above 0"
        )
    if not last.correct and last.reward >= top:
        raise Faulty(
            f"{where}: correct={last.correct}, but the reward is {last.reward:g}; full reward means correct"
        )
    for turn, (act, result) in enumerate(game.turns[:-1]):
        if result.correct:
            raise Faulty(
                f"{name_of(game.task)}, turn {turn + 1}, {shown(act)}: correct=True, but the episode goes on"
            )


async def _says_correct(bench: Bench, table: Table) -> bool:
    """Whether it says `correct` itself; a plain environment must then give a truth value."""
    game = table.new()
    if isinstance(game.raw, ToolEnv):
        return True
    await game.reset_raw(bench.task(0))
    actor = game.actor()
    for _ in range(64):
        action = actor.next([""])
        _, _, terminated, truncated, info = await game.step_raw(action)
        if terminated or truncated:
            value = info.get("correct")
            if type(value).__name__ not in {"bool", "bool_", "NoneType"}:
                raise Faulty(
                    f"the episode ended with info['correct'] = {value!r} of type {type(value).__name__}; "
                    "put a truth value, True or False, there"
                )
            return value is not None
    return True


async def step_after_end(bench: Bench) -> str:
    """An action after the end is refused, or at least earns nothing."""
    async with bench.open() as table:
        game = await table.new().play(bench.task(0), turns=64)
        if not game.done:
            raise NotApplicable("no trial episode ended")
        for variant in range(6):
            action = game.actor(9 + variant).next(game.texts)
            try:
                result = await bench.within("an action after the end", game.env.act(action))
            except InfrastructureError as refusal:
                return f"an action after the end is refused: {refusal}"
            if result.reward > 0 or (isinstance(game.raw, ToolEnv) and not result.done):
                state = f"earned {result.reward:g}" if result.reward > 0 else "opened the episode again"
                mend = "remember that it is over and raise, or give reward 0"
                raise Faulty(f"{name_of(bench.task(0))}: after the end, {shown(action)} {state}; {mend}")
    return "an action after the end earns nothing"
