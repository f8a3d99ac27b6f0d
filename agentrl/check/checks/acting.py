"""Whatever a model may write is answered in words, never by an exception, and without holding others up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from agentrl.adapter import runs_on_loop
from agentrl.check.actions import garbage_calls, odd_answers, odd_calls
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.budget import Budget
from agentrl.check.checks.texts import MOST_CHARACTERS
from agentrl.check.report import Faulty, Hung, NotApplicable
from agentrl.check.wording import shown
from agentrl.errors import InfrastructureError
from agentrl.message import Action

BUDGET_SECONDS = 2.0
"""Time for trying actions; an environment with slow steps is tried with fewer."""
BLOCKED_SECONDS = 0.15


async def garbage_actions(bench: Bench) -> str:
    """Broken calls and strange answers are outcomes."""
    async with bench.open() as table:
        game = table.new()
        await game.start(bench.task(0))
        calls, answers = list(garbage_calls(game.env.tools)), list(odd_answers(game.texts))
        tools = bool(game.env.tools)
        await game.close()
        half = BUDGET_SECONDS / 2
        tried = await _survives(bench, table, calls, half) if tools else 0
        tried += await _survives(bench, table, answers, half)
    return f"{tried} broken calls and strange answers were answered"


async def valid_random_actions(bench: Bench) -> str:
    """Calls that fit the schemas are answered, however odd their values."""
    async with bench.open() as table:
        game = table.new()
        if not game.env.tools:
            raise NotApplicable("it has no tools")
        actions = list(odd_calls(game.env.tools, np.random.default_rng(0)))
        tried = await _survives(bench, table, actions, BUDGET_SECONDS)
        for position in range(min(4, bench.seeds)):
            await _survive_random(bench, await table.play(position, variant=100 + position))
    return f"{tried} calls with odd values were answered"


async def _survive_random(bench: Bench, game: Game) -> None:
    for action, result in game.turns:
        _not_huge(action, len(result.observation.text))


async def _survives(bench: Bench, table: Table, actions: Iterable[Action], seconds: float) -> int:
    """Try actions, starting anew where an episode ended."""
    game, tried, end = table.new(), 0, Budget(seconds)
    started = False
    for action in actions:
        if end.spent:
            break
        if game.done or not started or len(game.turns) > 5:
            await game.start(bench.task(tried % bench.seeds))
            started = True
        before = repr(action)
        try:
            result = await game.act(action)
        except Hung as error:
            raise Hung(f"{error} (and cap what an argument can cost)") from error
        except InfrastructureError as error:
            mend = "tell the model in words: raise ToolError for what it may not ask, and judge any answer"
            raise Faulty(
                f"{shown(action)} ended in {type(error).__name__}: {str(error)[:200]}; {mend}"
            ) from error
        if repr(action) != before:
            raise Faulty(f"a tool made {before[:160]} to {repr(action)[:160]}: copy lists and dicts first")
        _not_huge(action, len(result.observation.text))
        tried += 1
    await game.close()
    return tried


def _not_huge(action: Action, size: int) -> None:
    if size > MOST_CHARACTERS:
        raise Faulty(f"{shown(action)} is answered by {size} characters; cut it to what a model can read")


@dataclass(slots=True)
class Heartbeat:
    """Measures from a thread how long a loop lets its callbacks wait."""

    loop: asyncio.AbstractEventLoop
    worst: float = 0.0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Beat until stopped."""
        while not self.stopped.is_set():
            beat, sent = threading.Event(), time.perf_counter()
            self.loop.call_soon_threadsafe(beat.set)
            late = 0.0
            while not beat.wait(0.005) and not self.stopped.is_set():
                late = max(late, time.perf_counter() - sent - 0.005)
                if late > self.worst:
                    self.worst = late
            time.sleep(0.002)


async def event_loop(bench: Bench) -> str:
    """An asynchronous environment never blocks the loop that all episodes share."""
    async with bench.open() as table:
        if not runs_on_loop(table.new().raw):
            raise NotApplicable("it blocks by design and gets a thread of its own")
        worst, action = await _worst_block(bench, table)
        if worst > BLOCKED_SECONDS:  # once more: the machine may have been busy
            again, action = await _worst_block(bench, table)
            worst = min(worst, again)
    if worst > BLOCKED_SECONDS:
        raise Faulty(
            f"{action} blocked the event loop for {worst:.2f} s, and with it all other episodes: "
            "await instead (asyncio.sleep, asyncio.to_thread), or make its functions plain `def`"
        )
    return f"the event loop never waited longer than {1000 * worst:.0f} ms"


async def _worst_block(bench: Bench, table: Table) -> tuple[float, str]:
    worst, where = 0.0, "start"
    for position in range(3):
        game = table.new()
        seconds, _ = await _blocked_by(game.start(bench.task(position)))
        worst, where = max((worst, where), (seconds, "the start of an episode"))
        actor = game.actor(position)
        while not game.done and len(game.turns) < 6:
            action = actor.next(game.texts)
            seconds, _ = await _blocked_by(game.act(action))
            worst, where = max((worst, where), (seconds, shown(action)))
        await game.close()
    return worst, where


async def _blocked_by(work: object) -> tuple[float, object]:
    heart = Heartbeat(asyncio.get_running_loop())
    thread = threading.Thread(target=heart.run, daemon=True)
    thread.start()
    try:
        return_value = await work  # type: ignore[misc]
    finally:
        heart.stopped.set()
        thread.join()
    return heart.worst, return_value
