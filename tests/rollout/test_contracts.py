"""Each contract that later parts stand on, proved with the smallest double."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentrl.adapter import Adapter
from agentrl.codec import from_bytes, to_bytes
from agentrl.dialect.protocol import Encoded
from agentrl.dialect.tiny import TinyDialect
from agentrl.engine.protocol import Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.environment import Observation
from agentrl.episode import Context, Episode, Segment, Turn, as_ids
from agentrl.errors import ConfigError, EngineError
from agentrl.message import Action, Call, Image, Text, answer, call
from agentrl.rollout.attempt import attempt
from agentrl.rollout.independent import Independent
from agentrl.rollout.protocol import Limits, WorkItem
from agentrl.rollout.running import Running, Table
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.dialect.tokenizers import tiny_style

TASK = Task(id="t", split="train", level=0, seed=1)
DIALECT = TinyDialect(tiny_style())


class Shop(ToolEnv):
    """Prices behind a tool, with two pictures at the start."""

    def task(self, rng: np.random.Generator) -> Any:
        self.bought: list[str] = []
        return [Text("shop"), *(Image(media=f"{i}.png", width=2, height=2) for i in range(2))]

    @tool
    def buy(self, item: str) -> str:
        """Buy one thing."""
        self.bought.append(item)
        return f"{len(self.bought)} {item}"

    def reward(self, answer: str) -> float:
        return float(answer == str(len(self.bought)))


def scripted(*actions: Action, **settings: Any) -> ScriptedEngine:
    tools = Shop().tools
    return ScriptedEngine([DIALECT.render(a, tools).tolist() for a in actions], **settings)


def running(engine: ScriptedEngine, **table: Any) -> Running:
    return Running(
        table=Table(engine=engine, dialect=DIALECT, **table),
        env=Adapter(Shop(), Shop),
        task=TASK,
        id="g/0",
        group_id="g",
        seed=1,
        sampling=Sampling(),
    )


def play(engine: ScriptedEngine, **table: Any) -> Episode:
    return asyncio.run(attempt(running(engine, **table)))


def kinds(episode: Episode) -> list[list[str]]:
    return [[s.kind for s in c.segments] for c in episode.contexts]


def test_two_pictures_and_two_parallel_calls_in_one_turn() -> None:
    both = Action(calls=tuple(Call(id=i, name="buy", arguments={"item": "pear"}) for i in "01"))
    engine = scripted(both, answer(2))
    episode = play(engine)
    assert kinds(episode) == [["prompt", "action", "observation", "action"]]
    assert episode.contexts[0].segments[0].media == ("0.png", "1.png")
    assert (episode.correct, episode.reward, episode.num_calls, episode.finish) == (
        True,
        1.0,
        2,
        "terminated",
    )
    assert [c.ok for c in episode.turns[0].calls] == [True, True]
    whole = episode.contexts[0].ids.tolist()
    assert [list(p) for p in engine.prompts] == [whole[: len(p)] for p in engine.prompts]
    assert to_bytes(from_bytes(to_bytes(episode))) == to_bytes(episode)


class Compaction:
    """Starts a new context after every observation."""

    def renew(self, context: Context, turns: Sequence[Turn], observation: Observation) -> Encoded | None:
        return DIALECT.prompt("", (), (Text(f"so far {len(turns)}"), *observation.parts))


def test_compaction_gives_an_episode_of_two_contexts() -> None:
    episode = play(scripted(call("buy", item="pear"), answer(1)), memory=Compaction())
    assert kinds(episode) == [["prompt", "action"], ["prompt", "action"]]
    assert [t.context for t in episode.turns] == [0, 1] and episode.correct
    assert all(c.sampled.sum() == c.trained.sum() > 0 for c in episode.contexts)


def test_a_fork_in_the_middle_of_an_action_shares_its_tokens() -> None:
    """A branch at a token: the environment is copied before the action, the context is cut inside it."""

    async def fork() -> tuple[Episode, Episode]:
        trunk = running(scripted(call("buy", item="pear"), call("buy", item="plum"), answer(2)))
        await trunk.start()
        await trunk.step()
        branch = await trunk.fork("g/1", seed=2, fork_index=0)
        before = trunk.context
        left = await attempt(trunk)
        cut = left.contexts[0].segments[len(before.segments)][:2]
        branch.contexts[-1] = before.append(replace(cut, turn=1))
        branch.table = replace(branch.table, engine=scripted(answer("x"), answer("x")))
        return left, await attempt(branch)

    left, right = asyncio.run(fork())
    assert left.correct and not right.correct and right.parent_id == left.id
    shared = 3
    pairs = list(zip(left.contexts[0].segments, right.contexts[0].segments, strict=False))[:shared]
    assert all(a is b for a, b in pairs)
    cut = right.contexts[0].segments[shared]
    assert cut.kind == "action" and cut.sampled and len(cut) == 2
    assert right.turns[1].calls[0].call.name == DIALECT.decode(cut.ids[1:].tolist()) + "x"  # read as one turn
    length = sum(map(len, right.contexts[0].segments[: shared + 1]))
    assert right.contexts[0].ids[:length].tolist() == left.contexts[0].ids[:length].tolist()


def test_limits_are_outcomes() -> None:
    endless = ScriptedEngine(
        lambda ids, seed: DIALECT.render(call("buy", item="pear"), Shop().tools).tolist()
    )
    turns = play(endless, limits=Limits(max_turns=3))
    assert (turns.finish, turns.truncated, turns.correct, len(turns.turns)) == ("max_turns", True, False, 3)
    assert turns.failure is None
    context = play(endless, limits=Limits(max_context=30, max_turns=99))
    assert context.finish == "max_context" and len(context.contexts[0]) <= 40
    cut = play(endless, limits=Limits(max_tokens_per_turn=2, max_turns=2))
    assert "cut off after 2 tokens" in cut.turns[0].observation.text and cut.failure is None


class Question(ToolEnv):
    """No tools: the first turn is the answer."""

    def task(self, rng: np.random.Generator) -> str:
        return "Count."

    def reward(self, answer: str) -> float:
        return 1.0


def answered(limits: Limits, sampling: Sampling) -> Episode:
    """Play an answer of 600 tokens and a stop."""
    ids = DIALECT.render(answer("x" * 600), ()).tolist()
    return asyncio.run(
        attempt(
            replace(
                running(ScriptedEngine([ids])),
                table=Table(engine=ScriptedEngine([ids]), dialect=DIALECT, limits=limits),
                env=Adapter(Question(), Question),
                sampling=sampling,
            )
        )
    )


@pytest.mark.parametrize(
    ("allowed", "asked", "said"), [(1000, None, 601), (1000, 500, 500), (400, None, 400), (400, 500, 400)]
)
def test_a_turn_is_as_long_as_its_limits_allow(allowed: int, asked: int | None, said: int) -> None:
    episode = answered(Limits(max_tokens_per_turn=allowed), Sampling(max_tokens=asked))
    assert episode.num_sampled == said and episode.turns[0].cut_off == (said < 601)


def test_an_answer_that_was_cut_off_is_truncated_also_without_tools() -> None:
    cut = answered(Limits(max_tokens_per_turn=3), Sampling())
    assert (cut.finish, cut.truncated, cut.reward) == ("terminated", True, 1.0)
    assert not answered(Limits(max_tokens_per_turn=601), Sampling()).truncated


def test_a_dead_engine_is_a_failure_and_never_a_reward() -> None:
    episode = play(scripted(answer(0), error=EngineError("gone")))
    assert episode.failure is not None and episode.failure.kind == "engine" and episode.correct is None
    assert episode.finish == "failed" and episode.num_sampled == 0


def test_a_tool_that_never_answers_is_named() -> None:
    class Stuck(Shop):
        @tool
        async def buy(self, item: str) -> str:  # type: ignore[override]
            """Buy one thing."""
            await asyncio.sleep(60)
            return ""

    run = running(scripted(call("buy", item="pear")), limits=Limits(turn_seconds=1))
    run.env = Adapter(Stuck(), Stuck)
    episode = asyncio.run(attempt(run))
    assert episode.failure is not None and episode.failure.kind == "timeout"
    assert episode.failure.message == "episode g/0, turn 0, tool 'buy': no answer within 1 s"


def strategy(engine: ScriptedEngine, made: list[Any], **settings: Any) -> Independent:
    def new() -> Adapter:
        env = Adapter(Shop(), Shop)
        made.append(env)
        return env

    return Independent(table=Table(engine=engine, dialect=DIALECT), new_env=new, **settings)


async def collect(chosen: Independent, count: int, size: int) -> list[Any]:
    work = [WorkItem(task=TASK, group_id=f"g{i}", size=size, seed=i) for i in range(count)]
    return [group async for group in chosen.collect(work)]


def test_groups_come_as_they_finish_and_nothing_waits_in_lock_step() -> None:
    def slow_first(ids: tuple[int, ...], seed: int) -> list[int]:
        return list(DIALECT.render(answer(0), Shop().tools))

    made: list[Any] = []
    groups = asyncio.run(collect(strategy(ScriptedEngine(slow_first), made), 3, 4))
    assert sorted(g.id for g in groups) == ["g0", "g1", "g2"]
    assert [len(g.whole) for g in groups] == [4, 4, 4] and len(made) == 12


def test_the_first_tools_work_while_the_last_environments_are_made() -> None:
    order: list[int] = []

    class Slow(Shop):
        blocking = False

        @tool
        def buy(self, item: str) -> str:
            """Buy."""
            order.append(len(made))
            return ""

    made: list[Any] = []

    def new() -> Adapter:
        env = Adapter(Slow(), Slow)
        made.append(env)
        return env

    engine = ScriptedEngine(
        lambda ids, seed: list(DIALECT.render(call("buy", item="pear"), Slow().tools).tolist())
    )
    table = Table(engine=engine, dialect=DIALECT, limits=Limits(max_turns=2))
    asyncio.run(collect(Independent(table=table, new_env=new), 200, 1))
    assert len(order) == 400 and order[0] < 20


def test_work_that_waits_its_turn_costs_no_task() -> None:
    tasks: list[int] = []

    def count(ids: tuple[int, ...], seed: int) -> list[int]:
        tasks.append(len(asyncio.all_tasks()))
        return list(DIALECT.render(answer(0), Shop().tools))

    groups = asyncio.run(collect(strategy(ScriptedEngine(count), [], max_episodes=4), 300, 2))
    assert len(groups) == 300 and max(tasks) < 30


def test_leaving_early_cancels_and_closes_every_environment() -> None:
    async def leave() -> tuple[int, list[Any], int]:
        engine = ScriptedEngine(lambda ids, seed: [0], latency_seconds=30)
        made: list[Any] = []
        job = asyncio.create_task(collect(strategy(engine, made, max_episodes=5), 2, 4))
        async with asyncio.timeout(60):
            while engine.open < 5:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        during = engine.open
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(0)
        return during, made, engine.open

    during, made, after = asyncio.run(leave())
    assert during == 5 and after == 0
    assert len(made) == 5 and all(env._closed for env in made)


def test_the_callers_mistake_ends_the_collection() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        asyncio.run(collect(strategy(ScriptedEngine(lambda ids, seed: [0], max_context=3), []), 1, 2))


def test_segments_slice_by_token() -> None:
    whole = Segment(kind="observation", ids=as_ids([1, 2, 3]), media=("a",))
    assert whole[1:].ids.tolist() == [2, 3] and whole[1:].media == () and whole[:].media == ("a",)
