"""An expert in a process of its own, where it can see observations and nothing else."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agentrl.adapter import ran
from agentrl.check.bench import Bench, Game, Table
from agentrl.check.report import Faulty, NotApplicable
from agentrl.message import Action
from agentrl.policies import as_action
from agentrl.task import Task

MOST_TURNS = 64


class ExpertRaised(NotApplicable):
    """The expert failed, which is the concern of one check; what the others look at could not be reached."""


Ask = Callable[[Sequence[str]], Awaitable[Action]]


def expert_actor(bench: Bench) -> Ask:
    """Give a player that asks the expert of a fresh instance in this process."""
    judge = bench.spec.make()

    async def ask(texts: Sequence[str]) -> Action:
        try:
            return as_action(await ran(judge.expert, list(texts)))
        except Exception as error:
            raise ExpertRaised(f"its expert() raised {type(error).__name__}: {error}") from error

    return ask


async def expert_game(bench: Bench, table: Table, task: Task, *, game: Game | None = None) -> Game | None:
    """Play a task with the expert and close the instance; None where there is no expert.

    Args:
        game: The instance that plays, which then stays open; None for a new one.
    """
    if not bench.has_expert:
        return None
    ask, playing = expert_actor(bench), game or table.new()
    await playing.start(task)
    while not playing.done and len(playing.turns) < MOST_TURNS:
        await playing.act(await ask(playing.texts))
    if game is None:
        await playing.close()
    return playing


class ExpertProcess:
    """A fork, made before any task was started, in which a never-started instance answers for the expert."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._to, self._from = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(self._to[1])
            os.close(self._from[0])
            try:
                serve(bench, self._to[0], self._from[1])
            finally:
                os._exit(0)
        os.close(self._to[0])
        os.close(self._from[1])
        self._out = os.fdopen(self._to[1], "wb")
        self._in = os.fdopen(self._from[0], "rb")

    async def ask(self, texts: Sequence[str]) -> Action:
        """Ask for the next action.

        Raises:
            Faulty: It raised, changed the observations, or contradicted itself.
        """
        pickle.dump(list(texts), self._out)
        self._out.flush()
        doing = f"expert({list(texts)[-1][:60]!r})"
        kind, value = await self._bench.within(doing, asyncio.to_thread(pickle.load, self._in))
        if kind != "action":
            raise Faulty(value)
        return as_action(value)


def serve(bench: Bench, source: int, target: int) -> None:
    """Answer until the other side closes."""
    asyncio.set_event_loop(None)
    instance = bench.spec.make()
    with os.fdopen(source, "rb") as requests, os.fdopen(target, "wb") as replies:
        while True:
            try:
                texts = pickle.load(requests)
            except EOFError:
                return
            pickle.dump(answer_of(instance, texts), replies)
            replies.flush()


def answer_of(instance: Any, texts: list[str]) -> tuple[str, Any]:
    """Ask twice, and see that the expert is a function of what it was shown."""
    try:
        given = list(texts)
        first = called(instance, given)
        second = called(instance, list(texts))
    except Exception as error:
        shown = f"{type(error).__name__}: {error}"
        mend = (
            "it must work on an instance that never started the task: read everything from the observations"
        )
        return "fault", f"expert(observations) raised {shown} after {len(texts)} observations; {mend}"
    if given != texts:
        return "fault", "expert() changes the list of observations that it is given: copy it first"
    if first != second:
        return (
            "fault",
            f"expert() gave {first!r} and then {second!r} for equal observations: make it a pure function",
        )
    return "action", first


def called(instance: Any, texts: list[str]) -> Any:
    """Call an expert, which may be asynchronous, in a thread without a loop of ours."""
    from agentrl.aio import drive

    value = instance.expert(texts)
    return drive(value) if asyncio.iscoroutine(value) else value
