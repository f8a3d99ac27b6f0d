"""Tree rollouts, the plain form: attempts of a group fork at random after tool results.

A group of M leaves begins with N attempts from the prompt; the other M - N leaves are dealt out among them.
An attempt that has leaves to spend forks after a tool result with a given chance: its environment is copied,
its tokens are shared by reference, and the fork gets one leaf and a random share of the rest. What is left
when an attempt ends goes into fresh attempts from the prompt, so a group always has M leaves.

Nothing here depends on which branch is faster: who forks, when, and with how many leaves follows from the
group's seed and the tokens, so a tree is the same on any machine and in any order of arrival.

Source: the budget is that of ARPO, arXiv:2507.19849 sec. 3.1: N initial paths out of M, fresh ones for what
is left. The random choice in place of entropy is ours, as the control that ARPO must beat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agentrl.environment import Environment, ForkUnsupported
from agentrl.episode import Episode, Failure, Group
from agentrl.errors import ConfigError, DeadlineError
from agentrl.rollout.attempt import attempt, attempt_again
from agentrl.rollout.closing import close_quietly
from agentrl.rollout.collecting import as_they_finish
from agentrl.rollout.protocol import WorkItem
from agentrl.rollout.running import Running, Table
from agentrl.task import derive_seed

INITIAL = 4
FORKED, FRESH = 0, 1
Path = tuple[int, ...]
"""Number of the first attempt, then for each step down (FORKED or FRESH, number): orders a group's leaves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """Grows one tree for each work item; its leaves are the group's episodes."""

    table: Table
    new_env: Callable[[], Environment]
    max_episodes: int = 512
    """Leaves that run at once; further ones wait their turn."""
    retries: int = 1
    """How often an attempt from the prompt is made again that failed for a reason outside of its actions; a
    fork is not: what it was forked from is over.
    """
    initial: int = INITIAL
    """Attempts from the prompt, N."""
    fork_chance: float = 0.5
    """Chance of a fork after a tool result, while there are leaves to spend."""

    def __post_init__(self) -> None:
        for name, least in (("max_episodes", 1), ("retries", 0), ("initial", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}: need {least} or more")
        if not 0 <= self.fork_chance <= 1:
            raise ConfigError(f"fork_chance={self.fork_chance}: need a value in [0, 1]")

    @classmethod
    def refuse(cls, size: int, settings: Mapping[str, Any]) -> None:
        """Raise where groups of `size` leaves cannot grow under these settings.

        Raises:
            ConfigError: More attempts from the prompt than leaves.
        """
        initial = settings.get("initial", INITIAL)
        if size < initial:
            raise ConfigError(
                f"strategy.initial={initial}: a tree of {size} leaves (group_size) begins with as many"
            )

    async def collect(self, work: Sequence[WorkItem]) -> AsyncIterator[Group]:
        """Give each group as soon as its last leaf has ended; closing it cancels the rest."""
        for item in work:
            self.refuse(item.size, {"initial": self.initial})
        places = asyncio.Semaphore(self.max_episodes)
        async for group in as_they_finish(work, lambda item: self._grow(item, places), places):
            yield group

    async def _grow(self, item: WorkItem, places: asyncio.Semaphore) -> Group:
        growth = Growth(tree=self, item=item, places=places)
        try:
            async with growth.tasks:
                for index, spare in enumerate(deal(item.size - self.initial, self.initial, item.seed)):
                    growth.plant(Branch(path=(index,), seed=derive_seed(item.seed, index), spare=spare))
        finally:
            for unplayed in growth.waiting.values():
                await close_quietly(unplayed.env)
        return Group(id=item.group_id, episodes=growth.leaves)


@dataclass(slots=True, kw_only=True)
class Branch:
    """One path of a tree, from where it left its parent."""

    path: Path
    seed: int
    spare: int
    """Further leaves that it may spend."""
    forks: int = 0
    fresh: int = 0
    lost: tuple[Failure, ...] = ()
    """How a copy failed that it stands for."""

    def split(self, turn: int, chance: float) -> Branch | None:
        """Give the fork that is due after a turn, with its part of the leaves; None for no fork."""
        rng = np.random.default_rng(derive_seed(self.seed, "fork", turn))
        if not self.spare or rng.random() >= chance:
            return None
        given = int(rng.integers(self.spare))
        self.spare -= 1 + given
        self.forks += 1
        return self._child(FORKED, self.forks, given)

    def fall(self) -> list[Branch]:
        """Give attempts from the prompt for the leaves that are left."""
        count, self.spare = self.spare, 0
        self.fresh += count
        return [self._child(FRESH, n, 0) for n in range(self.fresh - count + 1, self.fresh + 1)]

    def take_back(self, child: Branch) -> None:
        """Have a fork's leaves again that could not be made."""
        self.spare += 1 + child.spare

    def _child(self, kind: int, number: int, spare: int) -> Branch:
        seed = derive_seed(self.seed, kind, number)
        return Branch(path=(*self.path, kind, number), seed=seed, spare=spare)


@dataclass(slots=True, kw_only=True)
class Growth:
    """One tree while it grows."""

    tree: Tree
    item: WorkItem
    places: asyncio.Semaphore
    tasks: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    waiting: dict[Path, Running] = field(default_factory=dict)
    """Forks whose turn has not come."""
    ended: dict[Path, Episode] = field(default_factory=dict)

    @property
    def leaves(self) -> tuple[Episode, ...]:
        """The episodes in an order that follows from the tree alone."""
        return tuple(self.ended[path] for path in sorted(self.ended))

    def plant(self, branch: Branch) -> None:
        """Start an attempt from the prompt."""
        self.tasks.create_task(self._from_prompt(branch))

    async def _from_prompt(self, branch: Branch) -> None:
        async with self.places:
            episode = await attempt_again(
                lambda: self._begin(branch),
                self.tree.retries,
                task=self.item.task,
                id=self._id(branch),
                group_id=self.item.group_id,
                after_turn=lambda running: self._after_turn(branch, running),
            )
        self.ended[branch.path] = replace(episode, retried=(*branch.lost, *episode.retried))
        self._fall(branch)

    async def _from_fork(self, branch: Branch) -> None:
        async with self.places:
            running = self.waiting.pop(branch.path)
            self.ended[branch.path] = await attempt(
                running, after_turn=lambda running: self._after_turn(branch, running)
            )
        self._fall(branch)

    def _fall(self, branch: Branch, *lost: Failure) -> None:
        for fresh in branch.fall():
            fresh.lost, lost = lost, ()
            self.plant(fresh)

    async def _after_turn(self, branch: Branch, running: Running) -> None:
        last = running.turns[-1]
        if running.finish is not None or not last.calls:
            return
        child = branch.split(last.index, self.tree.fork_chance)
        if child is None:
            return
        try:
            twin = await running.fork(self._id(child), seed=child.seed, fork_index=branch.forks)
        except ForkUnsupported as error:
            raise ConfigError(
                f"a tree forks its episodes: {error}; or set rollout.strategy=independent"
            ) from error
        except (ConfigError, DeadlineError, asyncio.CancelledError):  # the trunk cannot go on either
            branch.take_back(child)
            raise
        except Exception as error:  # the copy was lost, not the trunk: its leaves begin at the prompt
            branch.take_back(child)
            self._fall(branch, Failure.of(error, turn=len(running.turns)))
        else:
            self.waiting[child.path] = twin
            self.tasks.create_task(self._from_fork(child))

    def _begin(self, branch: Branch) -> Running:
        return Running(
            table=self.tree.table,
            env=self.tree.new_env(),
            task=self.item.task,
            id=self._id(branch),
            group_id=self.item.group_id,
            seed=branch.seed,
            sampling=self.item.sampling,
        )

    def _id(self, branch: Branch) -> str:
        first, *rest = branch.path
        steps = [f"{'.+'[kind]}{number}" for kind, number in zip(rest[::2], rest[1::2], strict=True)]
        return f"{self.item.group_id}/{first}{''.join(steps)}"


def deal(leaves: int, branches: int, seed: int) -> list[int]:
    """Deal leaves out at random, each to one of the branches.

    >>> sum(deal(12, 4, seed=0)), len(deal(12, 4, seed=0))
    (12, 4)
    """
    rng = np.random.default_rng(derive_seed(seed, "deal"))
    return [int(n) for n in np.bincount(rng.integers(branches, size=leaves), minlength=branches)]
