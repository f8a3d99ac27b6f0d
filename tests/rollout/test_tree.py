"""Trees: every group has its leaves, shares what it has in common, and follows from its seed alone."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.adapter import Adapter
from agentrl.codec import from_bytes, to_bytes
from agentrl.engine.protocol import Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Episode, Group
from agentrl.errors import ConfigError, InfrastructureError
from agentrl.message import answer, call
from agentrl.rollout.protocol import Limits, WorkItem
from agentrl.rollout.running import Running, Table
from agentrl.rollout.tree import Branch, Tree, deal
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from agentrl.trainers.metrics import RolloutStats
from tests.rollout.playing import DIALECT
from tests.waiting import soon

TASK = Task(id="t", split="train", level=0, seed=1)


class Adds(ToolEnv):
    """Adds up what it is given; pays the sum, so a fork whose state is not its own tokens' is seen."""

    max_turns = 12
    slow = 0.0
    open_now = 0

    def task(self, rng: np.random.Generator) -> str:
        self.total = 0
        return "go"

    @tool
    def add(self, number: int) -> str:
        """Add a number."""
        time.sleep(random.random() * self.slow)
        self.total += number
        return f"total {self.total}"

    def reward(self, answer: str) -> float:
        return float(self.total)


class Replayed(Adds):
    """Cannot be copied, only replayed."""

    def __init__(self) -> None:
        self.lock = (n for n in range(3))


class Unforkable(Replayed):
    """Neither."""

    deterministic = False


class Loses(Replayed):
    """Its copies are lost, as when a server dies."""

    num_lost = 0

    def fork(self) -> Any:
        Loses.num_lost += 1
        raise InfrastructureError("the snapshot is gone")


class Breaks(Replayed):
    """Cannot be made a few times, as where files run out."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if type(self).made in (4, 7):
            raise OSError(24, "Too many open files")


class Counted(Adds):
    """Takes its time to be copied, and knows which of it are open."""

    live: set[int]
    kept: list[Any]
    seconds = 0.0

    def __init__(self) -> None:
        self.opened()

    def opened(self) -> None:
        self.kept.append(self)  # so that no id is used twice
        self.live.add(id(self))

    def fork(self) -> Any:
        time.sleep(self.seconds)
        twin = copy.copy(self)
        twin._play = replace(self._play) if self._play is not None else None
        twin.opened()
        return twin

    def close(self) -> None:
        self.live.discard(id(self))


def counted(seconds: float = 0.0) -> type[Counted]:
    new: type[Counted] = type("Counted", (Counted,), {"live": set(), "kept": [], "seconds": seconds})
    return new


def policy(ids: tuple[int, ...], seed: int) -> list[int]:
    """Add a number that follows from the request alone, or answer."""
    rng = np.random.default_rng([seed, len(ids)])
    said = call("add", number=int(rng.integers(1, 9))) if rng.random() < 0.75 else answer("done")
    return list(DIALECT.render(said, Adds().tools))


def grow(
    kind: type[Adds] = Adds,
    *,
    size: int = 8,
    seed: int = 0,
    limits: Limits | None = None,
    **settings: Any,
) -> Group:
    async def run() -> Group:
        table = Table(engine=ScriptedEngine(policy), dialect=DIALECT, limits=limits or Limits())
        tree = Tree(table=table, new_env=lambda: Adapter(kind(), kind), **settings)
        (group,) = [g async for g in tree.collect([WorkItem(task=TASK, group_id="g", size=size, seed=seed)])]
        return group

    return asyncio.run(run())


def said(episode: Episode) -> tuple[str, float, tuple[int, ...]]:
    return episode.id, episode.reward, tuple(episode.contexts[0].ids.tolist())


@given(st.data(), st.integers(1, 10), st.integers(0, 2**40), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_a_group_has_its_leaves(data: st.DataObject, size: int, seed: int, chance: float) -> None:
    initial = data.draw(st.integers(1, size))
    group = grow(size=size, seed=seed, initial=initial, fork_chance=chance)
    leaves = {e.id: e for e in group.episodes}
    assert len(leaves) == size and all(e.failure is None for e in group.episodes)
    roots = [e for e in group.episodes if e.parent_id is None]
    assert len(roots) >= initial and (chance or len(roots) == size)
    for leaf in group.episodes:
        if leaf.finish == "truncated":
            continue  # nothing is judged there
        assert leaf.reward == sum(int(str(c.call.arguments["number"])) for t in leaf.turns for c in t.calls)
    for leaf in group.episodes:
        if leaf.parent_id is not None:
            shares_its_trunk(leaf, leaves[leaf.parent_id])


def shares_its_trunk(leaf: Episode, parent: Episode) -> None:
    """What both have in common is there once; behind it they differ."""
    mine, theirs = leaf.contexts[0].segments, parent.contexts[0].segments
    same = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a is not b), None)
    assert same is not None and same >= 3 and mine[same - 1].kind == "observation"
    assert all(a is not b for a, b in zip(mine[same:], theirs[same:], strict=False))


@pytest.mark.parametrize("kind", [Adds, Replayed])
def test_a_tree_follows_from_its_seed_whichever_branch_is_faster(kind: type[Adds]) -> None:
    slow = type("Slow", (kind,), {"slow": 0.01, "__module__": __name__})
    calm, hurried = grow(kind, size=12, seed=5), grow(slow, size=12, seed=5, max_episodes=3)
    assert list(map(said, calm.episodes)) == list(map(said, hurried.episodes))
    assert any(e.parent_id for e in calm.episodes), "a tree without forks shows nothing"
    assert list(map(said, calm.episodes)) != list(map(said, grow(kind, size=12, seed=6).episodes))


def test_native_and_replayed_forks_give_the_same_tree() -> None:
    native, replayed = grow(Adds, size=12, seed=5), grow(Replayed, size=12, seed=5)
    assert list(map(said, native.episodes)) == list(map(said, replayed.episodes))
    assert any(e.parent_id for e in native.episodes)


def test_what_is_counted_does_not_depend_on_whether_it_was_stored() -> None:
    """Shared turns are counted once, by who played them and not by which object they are."""
    group = grow(size=12, seed=5, initial=2, fork_chance=0.7)
    again = replace(group, episodes=tuple(from_bytes(to_bytes(e)) for e in group.episodes))
    played, found = (RolloutStats.of([g], version=0) for g in (group, again))
    once = {id(s): len(s) for e in group.episodes for s in e.contexts[0].segments if s.sampled}
    assert played == found and played.sampled_tokens == sum(once.values())
    assert played.sampled_tokens < sum(e.num_sampled for e in group.episodes)


def test_every_environment_is_closed() -> None:
    kind = counted()
    group = grow(kind, size=10, seed=2, fork_chance=1.0, initial=1)
    assert any(e.parent_id for e in group.episodes) and len(kind.kept) > 2 and not kind.live


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_every_environment_is_closed_also_where_all_is_given_up(seconds: float) -> None:
    """At any moment: while copies are made, while they wait for a place, while they play."""

    async def cancelled(kind: type[Counted], after: float) -> None:
        table = Table(engine=ScriptedEngine(policy, latency_seconds=0.01), dialect=DIALECT)
        tree = Tree(table=table, new_env=lambda: Adapter(kind(), kind), max_episodes=2, fork_chance=1.0)

        async def all_of() -> list[Group]:
            return [g async for g in tree.collect([WorkItem(task=TASK, group_id="g", size=12, seed=1)])]

        task = asyncio.create_task(all_of())
        await asyncio.sleep(after)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for after in (0.05, 0.1, 0.15, 0.3):
        kind = counted(seconds)
        asyncio.run(cancelled(kind, after))
        assert kind.kept and soon(lambda kind=kind: not kind.live)  # type: ignore[misc]


def test_a_copy_that_comes_just_as_all_is_given_up_is_closed() -> None:
    """Whatever its close() raises: what was under way is the cancellation."""
    closed: list[Adds] = []
    forking: list[asyncio.Future[Running]] = []

    class Late(Adds):
        blocking = False

        def fork(self) -> Any:
            asyncio.get_running_loop().call_soon(forking[0].cancel)
            return copy.copy(self)

        def close(self) -> None:
            closed.append(self)
            raise OSError("gone already")

    env = Late()

    async def main() -> None:
        running = Running(
            table=Table(engine=ScriptedEngine(policy), dialect=DIALECT),
            env=Adapter(env, Late),
            task=TASK,
            id="g/0",
            group_id="g",
            seed=0,
            sampling=Sampling(),
        )
        await running.start()
        closed.clear()
        forking.append(asyncio.ensure_future(running.fork("g/1", seed=1, fork_index=1)))
        with pytest.raises(asyncio.CancelledError):
            await forking[0]

    asyncio.run(main())
    assert len(closed) == 1 and closed[0] is not env


@pytest.mark.parametrize(
    ("kind", "failure"),
    [(Loses, "snapshot is gone"), (Breaks, "Too many open files")],
    ids=["lost", "raises"],
)
def test_a_copy_that_is_lost_costs_no_leaf(kind: type[Adds], failure: str) -> None:
    """Its leaves begin at the prompt; it is counted once, however many they are."""
    Loses.num_lost, Breaks.made = 0, 0
    group = grow(kind, size=8, initial=2, fork_chance=1.0, seed=1)
    assert len(group.episodes) == 8 and all(e.failure is None for e in group.episodes)
    counted_as = [f.message for e in group.episodes for f in e.retried]
    assert counted_as and all(failure in message for message in counted_as)
    assert len(counted_as) == (Loses.num_lost if kind is Loses else 2)


def test_a_copy_that_takes_too_long_fails_what_waits_for_it() -> None:
    """Its environment has one thread, which is busy with the copy; nothing else is blamed."""
    slow = counted(seconds=1.0)
    group = grow(slow, size=4, initial=2, fork_chance=1.0, seed=1, limits=Limits(turn_seconds=0.3))
    messages = [f.message for e in group.episodes for f in e.failures]
    assert len(group.episodes) == 4 and messages
    assert all("the environment's fork: no answer" in message for message in messages)
    assert soon(lambda: not slow.live)


def test_what_cannot_be_forked_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        ConfigError,
        match=r"Unforkable.lock cannot be copied.*deterministic = True.*rollout.strategy=independent",
    ):
        grow(Unforkable, size=12, seed=5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"initial": 9}, "strategy.initial=9: a tree of 8 leaves"),
        ({"initial": 0}, "initial=0: need 1 or more"),
        ({"fork_chance": 1.5}, "fork_chance=1.5: need a value in"),
        ({"retries": -1}, "retries=-1: need 0 or more"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        grow(**settings)


@given(st.integers(0, 30), st.integers(1, 8), st.integers(0, 2**40))
def test_no_leaf_is_lost_between_forks_and_falls(leaves: int, branches: int, seed: int) -> None:
    dealt = deal(leaves, branches, seed)
    assert sum(dealt) == leaves and len(dealt) == branches

    def count(branch: Branch, chance: Callable[[], float]) -> int:
        total = 1
        for turn in range(3):
            child = branch.split(turn, chance())
            total += 0 if child is None else count(child, chance)
        return total + len(branch.fall())

    rng = random.Random(seed)
    branches_ = [Branch(path=(i,), seed=seed + i, spare=n) for i, n in enumerate(dealt)]
    assert sum(count(b, rng.random) for b in branches_) == leaves + branches
