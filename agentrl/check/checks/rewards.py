"""Rewards are numbers in their range, and agree with `correct`."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import numpy as np

from agentrl.check.actions import odd_answers, odd_calls
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.budget import Budget
from agentrl.check.checks.insiders import insiders
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.wording import name_of, shown
from agentrl.errors import InfrastructureError
from agentrl.toolenv import ToolEnv

RANGE = (-1.0, 1.0)
ODD_SECONDS = 1.0
MOST_TURNS = 64


async def episodes(bench: Bench, table: Table) -> AsyncIterator[Game]:
    """Play at random, with the expert, and with answers out of the hidden state: some should be right."""
    for position in bench.positions(4):
        yield await table.play(position, variant=position)
    for position in bench.positions(3):
        if (game := await expert_game(bench, table, bench.task(position))) is not None:
            yield game
    async for game in insiders(bench, table):
        yield game


def declared_range(game: Game) -> tuple[float, float]:
    """Give the environment's `reward_range`, or -1..1."""
    low, high = getattr(game.raw, "reward_range", None) or RANGE
    return float(low), float(high)


async def reward_range(bench: Bench) -> str:
    """Every reward is finite, in -1..1 or the declared `reward_range`, and its parts sum to it."""
    seen: list[float] = []
    async with bench.open() as table:
        async for game in episodes(bench, table):
            seen += _in_range(game)
        async for game in oddities(bench, table):
            seen += _in_range(game)
    return f"{len(seen)} rewards lie in {min(seen):g}..{max(seen):g}"


def _in_range(game: Game) -> list[float]:
    low, high = declared_range(game)
    assert game.task is not None
    for turn, (action, result) in enumerate(game.turns):
        where = f"{name_of(game.task)}, turn {turn + 1}, {shown(action)}"
        if not low - 1e-6 <= result.reward <= high + 1e-6:
            mend = "scale it to 0..1, or declare reward_range = (low, high) in the class"
            raise Faulty(f"{where}: reward {result.reward:g} is outside {low:g}..{high:g}; {mend}")
        summed = sum(result.reward_parts.values())
        if result.reward_parts and not math.isclose(summed, result.reward, abs_tol=1e-6):
            parts = dict(result.reward_parts)
            raise Faulty(
                f"{where}: reward {result.reward:g} is not the sum {summed:g} of reward_parts {parts}"
            )
    return [result.reward for _, result in game.turns]


async def oddities(bench: Bench, table: Table) -> AsyncIterator[Game]:
    """Answer oddly, and call the tools with odd values: a reward must hold there too."""
    first = await table.new().start(bench.task(0))
    tools, end = table.games[-1].env.tools, Budget(ODD_SECONDS)
    odd = odd_calls(tools, np.random.default_rng(1))
    for number, action in enumerate((*odd_answers([first.text]), *odd)):
        if number >= 4 and end.spent:
            return
        game = table.new()
        yield await game.repeat(bench.task(0), [action])
        await game.close()


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
        if says:
            await _right_pays_most(bench, table)
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
    where = f"{name_of(game.task)}, turn {len(game.turns)}, {shown(action)}"
    if last.correct is None and last.terminated:
        raise Faulty(f"{where}: the episode ended without `correct`; put correct=True or False into info")
    top = max(1.0, declared_range(game)[1])
    if last.correct and total(game) <= 0:
        raise Faulty(
            f"{where}: correct=True, but the episode's reward is {total(game):g}; solving must earn above 0"
        )
    if not last.correct and last.reward >= top:
        raise Faulty(
            f"{where}: correct={last.correct}, but the reward is {last.reward:g}; full reward means correct"
        )
    if last.correct and not last.terminated and len(game.turns) < (game.env.max_turns or 0):
        raise Faulty(
            f"{where}: correct=True, but terminated=False and truncated=True; a task that is solved is "
            "terminated, truncated means that a limit cut it off"
        )
    for turn, (act, result) in enumerate(game.turns[:-1]):
        if result.correct:
            raise Faulty(
                f"{name_of(game.task)}, turn {turn + 1}, {shown(act)}: correct=True, but the episode goes on"
            )


async def _right_pays_most(bench: Bench, table: Table) -> None:
    """See that no wrong episode earns what the expert's right one does, however often a step is paid."""
    for position in bench.positions(2):
        right = await expert_game(bench, table, bench.task(position))
        if right is None or not right.turns[-1][1].correct:
            return
        wrong = [await table.play(position, turns=MOST_TURNS, variant=v) for v in (20, 21)]
        paid = {shown(a): a for g in (right, *wrong) for a, r in g.turns[:-1] if r.reward > 0}
        for action in list(paid.values())[:4]:
            wrong.append(await table.new().repeat(bench.task(position), [action] * MOST_TURNS))
        for game in wrong:
            if game.done and not game.turns[-1][1].correct and total(game) >= total(right) - 1e-9:
                what = f"{name_of(bench.task(position))}: a wrong episode of {len(game.turns)} actions"
                last = f"such as {shown(game.actions[0])}, earns {total(game):g}"
                mend = "pay for a step at most once, and less than for the solution"
                raise Faulty(f"{what}, {last}, the expert's right one {total(right):g}; {mend}")


def total(game: Game) -> float:
    """Sum up what an episode earned."""
    return sum(r.reward for _, r in game.turns)


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
