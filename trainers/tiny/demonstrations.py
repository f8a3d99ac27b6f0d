"""Sloppy demonstrations of one environment: calibrated on the environment itself, then played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from agentrl.errors import ConfigError, EnvironmentFault, InfrastructureError
from agentrl.registry import Worker
from agentrl.store.journal import Journal
from agentrl.task import TaskSource, derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.tiny.habits import Habit, Sloppy, candidates
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.play import Demonstrator, Played, context_of, expert_of, play_many
from agentrl.trainers.tiny.stock import Example

Purpose = Literal["probe", "noise", "habit"]
PURPOSES: tuple[Purpose, ...] = ("probe", "noise", "habit")
WARM = "warm-"
"""What the names in the journal begin with that only an unfinished warm start needs."""
FAR = 10_000_000
"""Positions in the stream of tasks between one purpose and the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SloppySettings:
    """How sloppy the demonstrations are."""

    target: float = 0.22
    """Share of tasks that the sloppy expert solves, noise and habit together."""
    keep: float = 0.94
    """Share of its own success that the expert keeps under noise alone."""
    most_noise: float = 0.15
    """Largest chance of a mistake per action."""
    hopeless: float = 0.05
    """A habit is used only if an episode that has it succeeds at most this often."""
    probes: int = 64
    """Episodes per question while noise and habit are chosen."""

    def __post_init__(self) -> None:
        for name in ("target", "keep", "most_noise", "hopeless"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: need a value between 0 and 1")
        if self.probes < 1:
            raise ConfigError(f"probes={self.probes}: need 1 or more")

    def habit_share(self, noisy: float, habitual: float) -> float:
        """Give the share of episodes with the habit, so that the whole solves the target; more than half.

        >>> round(SloppySettings().habit_share(0.9, 0.0), 2)
        0.76
        """
        return float(np.clip((noisy - self.target) / max(noisy - habitual, 1e-6), 0.55, 0.9))


@dataclass(slots=True, kw_only=True)
class Demonstrations:
    """Plays sloppy episodes; every one is a function of the seed, its purpose and its number."""

    worker: Worker
    tiny: Tiny
    tasks: TaskSource
    seed: int
    settings: SloppySettings = field(default_factory=SloppySettings)
    journal: Journal | None = None
    """Keeps what was played."""
    noise: float = 0.0
    habit: Habit | None = None
    habit_success: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    """Episodes played so far, by purpose; each purpose has tasks and random numbers of its own."""

    async def calibrate(self) -> None:
        """Choose noise and habit by playing.

        Raises:
            ConfigError: No general mistake makes this environment's episodes fail.
        """
        low, high = 0.0, 2 * self.settings.most_noise
        for _ in range(4):
            self.noise = (low + high) / 2
            solved = share_correct(await self.play(self.settings.probes, noise=self.noise))
            if solved < self.settings.keep * self.tiny.expert_success:
                high = self.noise
            else:
                low = self.noise
        self.noise = min(self.noise, self.settings.most_noise)
        await self.choose_habit()

    async def choose_habit(self) -> None:
        """Take the first habit that fails."""
        for habit in candidates(self.tiny.repertoire):
            try:
                played = await self.play(self.settings.probes, noise=0.0, habit=habit)
            except InfrastructureError:
                continue
            if share_correct(played) <= self.settings.hopeless and len(played) == self.settings.probes:
                self.habit = habit
                return
        raise ConfigError(
            f"{self.worker.spec.name}: no general mistake makes its episodes fail: model='tiny' would have "
            "nothing to learn: make wrong actions count, or give a checkpoint folder as the model"
        )

    async def with_noise(self, count: int) -> list[Example]:
        """Play episodes with noise alone."""
        return await self.examples(await self.play(count, purpose="noise", noise=self.noise))

    async def with_habit(self, count: int) -> list[Example]:
        """Play episodes that all have the habit, and noise."""
        played = await self.play(count, purpose="habit", noise=self.noise, habit=self.habit)
        return await self.examples(played)

    async def play(
        self, count: int, *, purpose: Purpose = "probe", noise: float, habit: Habit | None = None
    ) -> list[Played]:
        """Play sloppy episodes on further tasks."""
        expert, first = expert_of(self.worker.spec), self.counts[purpose]
        self.counts[purpose] += count

        def make(number: int) -> Demonstrator:
            rng = np.random.default_rng(derive_seed(self.seed, purpose, first + number))
            return Sloppy(expert(number), self.tiny.repertoire, noise=noise, habit=habit, rng=rng)

        start = PURPOSES.index(purpose) * FAR + first
        tasks = [self.tasks.at(start + n) for n in range(count)]
        name = f"{WARM}{purpose}-{first}-{count}"
        played = await play_many(
            self.worker,
            make,
            tasks,
            tolerant=True,
            journal=self.journal,
            name=name,
            limits=self.tiny.limits,
        )
        if 2 * len(played) < count:
            raise EnvironmentFault(f"it failed in {count - len(played)} of {count} sloppy episodes")
        return played

    async def examples(self, played: Sequence[Played]) -> list[Example]:
        """Give the episodes as rows to train on, each with its success."""
        env = self.worker.new()
        try:
            return [(Row.of(context_of(e, env, self.tiny.dialect)), e.correct) for e in played]
        finally:
            await env.close()


def share_correct(played: Sequence[Played]) -> float:
    """Give the share of solved episodes."""
    return sum(e.correct for e in played) / max(1, len(played))
