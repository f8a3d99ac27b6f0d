"""Trees: every group has its leaves, shares what it has in common, and follows from its seed alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.adapter import Adapter
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Episode, Group
from agentrl.errors import ConfigError, InfrastructureError
from agentrl.message import answer, call
from agentrl.rollout.protocol import WorkItem
from agentrl.rollout.running import Table
from agentrl.rollout.tree import Branch, Tree, deal
from agentrl.task import Task
from agentrl.toolenv import ToolEnv
from agentrl.toolkit import tool
from tests.rollout.playing import DIALECT

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

    def fork(self) -> Any:
        raise InfrastructureError("the snapshot is gone")


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
    made: list[Adapter] | None = None,
    **settings: Any,
) -> Group:
    def new() -> Adapter:
        env = Adapter(kind(), kind)
        if made is not None:
            made.append(env)
        return env

    async def run() -> Group:
        tree = Tree(table=Table(engine=ScriptedEngine(policy), dialect=DIALECT), new_env=new, **settings)
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


def test_every_environment_is_closed() -> None:
    made: list[Adapter] = []
    grow(size=10, seed=2, made=made, fork_chance=1.0, initial=1)
    assert made and all(env._closed for env in made)


def test_a_copy_that_is_lost_costs_no_leaf() -> None:
    group = grow(Loses, size=8, initial=2, fork_chance=1.0)
    assert len(group.episodes) == 8 and all(e.parent_id is None and e.failure is None for e in group.episodes)


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
