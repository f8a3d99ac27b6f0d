"""Plays episodes of the code environment for the tests of this folder."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from agentrl.adapter import Adapter
from agentrl.envs.code.env import CodeEnv
from agentrl.message import Action
from agentrl.registry import EnvSpec, Worker
from agentrl.task import Split, Task

SPEC = EnvSpec(name="code", kind=CodeEnv)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One episode as it went."""

    texts: list[str]
    codes: list[str]
    answer: str
    correct: bool | None


def with_worker(action: Callable[[Worker], Awaitable[Result]], **settings: Any) -> Result:
    """Run something with an open pool."""

    async def main() -> Result:
        async with EnvSpec(name="code", kind=CodeEnv, settings=settings).open() as worker:
            return await action(worker)

    return asyncio.run(main())


def task_of(split: Split, level: int, position: int) -> Task:
    """Give a task."""
    return SPEC.tasks(split, level=level).at(position)


async def play_expert(env: Adapter, task: Task) -> Played:
    """Let the expert play one episode."""
    expert = CodeEnv().expert
    texts, codes = [(await env.start(task)).text], []
    while True:
        action: Action = expert(texts)
        codes += [str(one.arguments["code"]) for one in action.calls]
        result = await env.act(action)
        if result.done:
            return Played(texts=texts, codes=codes, answer=action.text, correct=result.correct)
        texts.append(result.observation.text)


async def play_many(worker: Worker, split: Split, level: int, count: int) -> list[Played]:
    """Let the expert play several episodes at once."""

    async def one(position: int) -> Played:
        env = worker.new()
        try:
            return await play_expert(env, task_of(split, level, position))
        finally:
            await env.close()

    return await asyncio.gather(*map(one, range(count)))
