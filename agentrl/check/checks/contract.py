"""The outer form: it loads, answers in time, ends, and returns what it must."""

from __future__ import annotations

import inspect
import re
import statistics
import time
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from agentrl.check.bench import Bench, Game, Table
from agentrl.check.checks.tools import refuse_taken_names
from agentrl.check.experts import expert_game
from agentrl.check.report import Faulty, NotApplicable
from agentrl.check.wording import name_of, shown
from agentrl.message import Action, Part
from agentrl.toolenv import ToolEnv

SLOW_SECONDS = 1.0
MOST_TURNS = 200


async def loads(bench: Bench) -> str:
    """An instance can be made, its tools have schemas, and a task starts."""
    refuse_taken_names(bench.spec.kind)
    async with bench.open() as table:
        game = table.new()
        for name in ("reset", "step"):
            if not callable(getattr(game.raw, name, None)):
                raise Faulty(f"{type(game.raw).__name__} has no {name}(): write a gymnasium.Env or a ToolEnv")
        await game.start(bench.task(0))
        tools = [s.schema()["function"]["name"] for s in game.env.tools]
        if not game.first.parts:
            raise Faulty(f"{name_of(bench.task(0))}: the first observation is empty; show the task")
    return f"{len(tools)} tools: {', '.join(tools)}" if tools else "no tools: it reads answers in plain text"


async def responds(bench: Bench) -> str:
    """Every action is answered in time."""
    spent: list[float] = []
    async with bench.open() as table:
        for position in bench.positions(4):
            game = table.new()
            await game.start(bench.task(position))
            actor = game.actor()
            while not game.done and len(game.turns) < 6:
                started = time.perf_counter()
                await game.act(actor.next(game.texts))
                spent.append(time.perf_counter() - started)
    middle = statistics.median(spent)
    if middle > SLOW_SECONDS:
        raise Faulty(
            f"an action takes {middle:.2f} s (median of {len(spent)}); make it take less than a second"
        )
    return f"an action takes {1000 * middle:.1f} ms (median of {len(spent)})"


async def ends(bench: Bench) -> str:
    """An episode ends, also when the model never does anything sensible."""
    longest = 0
    async with bench.open() as table:
        for variant in range(2):
            game = table.new()
            limit = min(game.env.max_turns or MOST_TURNS, 5 * MOST_TURNS)
            await game.start(bench.task(variant))
            actor, end = game.actor(variant), time.monotonic() + 2 * bench.seconds
            while not game.done and len(game.turns) < limit and time.monotonic() < end:
                await game.act(never_ending(game) if variant else actor.next(game.texts))
            longest = max(longest, len(game.turns))
            _refuse_endless(game, limit)
        await _refuse_limit_as_end(bench, table)
    return f"the longest of 2 episodes took {longest} actions"


async def _refuse_limit_as_end(bench: Bench, table: Table) -> None:
    """See that what max_turns alone ends is called truncated, unless the task speaks of so many turns."""
    solved = await expert_game(bench, table, bench.task(0))
    limit = table.games[0].env.max_turns
    if solved is None or limit is None or len(solved.turns) >= limit or limit > MOST_TURNS:
        return
    ended = 0
    for position in (0, 1, 2):
        game = table.new()
        await game.start(bench.task(position))
        while not game.done and len(game.turns) < limit:
            await game.act(never_ending(game))
        told = re.search(rf"\b{limit}\b", f"{game.env.system} {game.first.text}")
        ended += len(game.turns) == limit and game.turns[-1][1].terminated and told is None
        await game.close()
    if ended == 3:
        raise Faulty(
            f"actions that do nothing end at turn {limit} = max_turns with terminated=True: nothing is "
            "decided there, so return truncated=True (the model did not end it, a limit did)"
        )


def never_ending(game: Game) -> Action:
    """Give an action that does not answer where there are tools."""
    return Action(malformed=("no call",)) if game.env.tools else Action(text="?")


def _refuse_endless(game: Game, limit: int) -> None:
    if game.done and game.turns[-1][1].terminated and game.turns[-1][1].truncated and len(game.turns) < limit:
        raise Faulty(
            f"turn {len(game.turns)} of at most {limit} is both terminated and truncated: terminated "
            "means that the task is over, truncated that a limit cut it off"
        )
    if not game.done and len(game.turns) >= limit:
        assert game.task is not None
        declared = "max_turns" if game.env.max_turns else "any limit"
        raise Faulty(
            f"{name_of(game.task)} did not end within {len(game.turns)} actions ({declared}={limit}): return "
            "truncated=True when max_turns is reached"
        )


async def returns(bench: Bench) -> str:
    """`reset` and `step` return the types of the contract, before anything converts them."""
    async with bench.open() as table:
        game = table.new()
        if isinstance(game.raw, ToolEnv):
            return await _returns_of_tools(bench, game)
        shown_first = await game.reset_raw(bench.task(0))
        if not (
            isinstance(shown_first, tuple) and len(shown_first) == 2 and isinstance(shown_first[1], dict)
        ):
            raise Faulty(f"reset returned {type(shown_first).__name__}: return (observation, info dict)")
        observation = shown_first[0]
        _need_text(observation, "reset")
        actor = game.actor()
        for turn in range(6):
            action = actor.next([str(observation)])
            given = await game.step_raw(action)
            _need_step(given, f"step({shown(action)}) at turn {turn + 1}")
            observation = given[0]
            if given[2] or given[3]:
                break
    return "reset and step return what Gymnasium's contract says"


async def _returns_of_tools(bench: Bench, game: Game) -> str:
    original = game.raw.reward
    kinds: list[Any] = []

    async def waited(answer: str) -> Any:
        kinds.append(await original(answer))
        return kinds[-1]

    def called(answer: str) -> Any:
        kinds.append(original(answer))
        return kinds[-1]

    game.raw.reward = waited if inspect.iscoroutinefunction(original) else called
    await game.start(bench.task(0))
    if not game.done:
        await game.act(Action(text="0"))
    for value in kinds:
        for one in value.values() if isinstance(value, dict) else [value]:
            if not isinstance(one, (int, float, np.number, np.bool_)):
                raise Faulty(f"reward() returned {one!r} of type {type(one).__name__}; return a float")
    return "task and reward return what they should"


def _need_text(observation: Any, who: str) -> None:
    parts = observation if isinstance(observation, (list, tuple)) else [observation]
    if not all(isinstance(p, (str, Part)) for p in parts):
        kind = type(observation).__name__
        raise Faulty(f"{who} returned an observation of type {kind}: return text, or a list of parts")


def _need_step(given: Any, who: str) -> None:
    if not isinstance(given, tuple) or len(given) != 5:
        raise Faulty(f"{who} returned {type(given).__name__}: return the 5-tuple of Gymnasium")
    _need_text(given[0], who)
    if isinstance(given[1], (str, bytes)) or not isinstance(given[1], (int, float, np.number, np.bool_)):
        raise Faulty(
            f"{who} returned the reward {given[1]!r} of type {type(given[1]).__name__}; return a float"
        )
    for name, value in zip(("terminated", "truncated"), given[2:4], strict=True):
        if not isinstance(value, (bool, np.bool_)):
            raise Faulty(f"{who} returned {name}={value!r} of type {type(value).__name__}; return a bool")


async def gymnasium_contract(bench: Bench) -> str:
    """Gymnasium's own checker passes, where the environment declares its spaces."""
    async with bench.open() as table:
        game = table.new()
        raw = game.raw
        if not isinstance(raw, gymnasium.Env):
            raise NotApplicable(f"{type(raw).__name__} is no gymnasium.Env")
        if inspect.iscoroutinefunction(raw.reset) or inspect.iscoroutinefunction(raw.step):
            raise NotApplicable("its reset and step are coroutines")
        if getattr(raw, "observation_space", None) is None or getattr(raw, "action_space", None) is None:
            raise NotApplicable("it declares no observation_space and action_space")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                await game.call(
                    "gymnasium's check_env",
                    lambda: check_env(raw, skip_render_check=True, skip_close_check=True),
                )
            except (AssertionError, gymnasium.error.Error) as error:
                raise Faulty(
                    f"gymnasium's check_env: {str(error)[:500]}{_charset(raw, str(error))}"
                ) from error
    return "gymnasium's check_env passes"


def _charset(raw: Any, fault: str) -> str:
    spaces = (raw.observation_space, raw.action_space)
    if "space" not in fault or not any(isinstance(s, gymnasium.spaces.Text) for s in spaces):
        return ""
    return (
        "; gymnasium.spaces.Text(n) holds letters and digits only: give charset=string.printable, and a "
        "max_length that fits"
    )
