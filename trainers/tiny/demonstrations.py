"""Sloppy demonstrations of one environment: calibrated on the environment itself, then played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from agentrl.errors import ConfigError, InfrastructureError
from agentrl.registry import Worker
from agentrl.task import TaskSource, derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.tiny.habits import Habit, Sloppy, candidates
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.play import Demonstrator, Played, context_of, expert_of, play_many


@dataclass(frozen=True, slots=True, kw_only=True)
class SloppySettings:
    """How sloppy the demonstrations are."""

    target: float = 0.27
    """Share of tasks that the sloppy expert solves, noise and habit together."""
    keep: float = 0.87
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


@dataclass(slots=True, kw_only=True)
class Demonstrations:
    """Plays sloppy episodes; every one is a function of the seed and its number."""

    worker: Worker
    tiny: Tiny
    tasks: TaskSource
    seed: int
    settings: SloppySettings = field(default_factory=SloppySettings)
    noise: float = 0.0
    habit: Habit | None = None
    habit_success: float = 0.0
    num_episodes: int = 0
    noisy: list[bool] = field(default_factory=list)
    """Success of each episode with noise alone, at the noise chosen."""

    @property
    def noisy_success(self) -> float:
        """Share of tasks that the expert solves under noise alone."""
        return float(np.mean(self.noisy)) if self.noisy else 0.0

    @property
    def habit_share(self) -> float:
        """Share of episodes with the habit, so that the whole solves the target; always more than half."""
        gap = max(self.noisy_success - self.habit_success, 1e-6)
        return float(np.clip((self.noisy_success - self.settings.target) / gap, 0.55, 0.9))

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
            if share_correct(played) <= self.settings.hopeless:
                self.habit, self.habit_success = habit, share_correct(played)
                return
        raise ConfigError(
            f"{self.worker.spec.name}: no general mistake makes its episodes fail: model='tiny' would have "
            "nothing to learn: make wrong actions count, or give a checkpoint folder as the model"
        )

    async def with_noise(self, count: int) -> list[Row]:
        """Play episodes with noise alone."""
        played = await self.play(count, noise=self.noise)
        self.noisy += [e.correct for e in played]
        return await self.rows(played)

    async def with_habit(self, count: int) -> list[Row]:
        """Play episodes that all have the habit, and noise."""
        return await self.rows(await self.play(count, noise=self.noise, habit=self.habit))

    async def play(self, count: int, *, noise: float, habit: Habit | None = None) -> list[Played]:
        """Play sloppy episodes on further tasks."""
        expert, first = expert_of(self.worker.spec), self.num_episodes
        self.num_episodes += count

        def make(number: int) -> Demonstrator:
            rng = np.random.default_rng(derive_seed(self.seed, "sloppy", first + number))
            return Sloppy(expert(number), self.tiny.repertoire, noise=noise, habit=habit, rng=rng)

        return await play_many(self.worker, make, self.tasks.take(count))

    async def rows(self, played: Sequence[Played]) -> list[Row]:
        """Give the episodes as rows to train on."""
        env = self.worker.new()
        try:
            return [Row.of(context_of(e, env, self.tiny.dialect)) for e in played]
        finally:
            await env.close()


def share_correct(played: Sequence[Played]) -> float:
    """Give the share of solved episodes."""
    return sum(e.correct for e in played) / max(1, len(played))
