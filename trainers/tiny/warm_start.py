"""The warm start: first the skill, then the habit.

A model from random weights never solves a task by chance, so reinforcement learning would have nothing to raise. The
warm start teaches it, in two phases, to act like a sloppy expert:

* *skill*: demonstrations with noise alone, in rounds of growing length, until the sampled success comes near that of
  the noisy expert itself. Where it does not, the run stops here and says so.
* *habit*: the full mixture, in which more than half of the episodes have a bad habit, so that sampled and greedy
  success both start low.

Every right action has been shown to the model. Reinforcement learning then finds out which of what it was shown
earns the reward, and makes that the likeliest: sampled and greedy success rise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from agentrl.episode import Context
from agentrl.errors import ConfigError
from agentrl.task import derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.optimiser import OptimiserSettings, Schedule
from agentrl.trainers.tiny.demonstrations import Demonstrations
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.measure import Measure
from agentrl.trainers.updater import SftStats, Updater


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartSettings:
    """How long and how well to teach."""

    batch: int = 64
    rounds: tuple[int, ...] = (120, 240, 480, 960)
    """Steps of each round of the skill phase; a check follows each."""
    rates: tuple[float, ...] = (3e-3, 2e-3, 1.5e-3, 1.5e-3)
    """Learning rate of each round; it falls to a tenth over the second half."""
    good: float = 0.75
    """Share of the noisy expert's own success at which the skill phase ends early."""
    enough: float = 0.7
    """The least share of it at the end of the last round; below, the run stops."""
    habit_steps: int = 100
    habit_rate: float = 2e-3
    most_corrections: int = 3
    low: float = 0.12
    """Sampled success below this is a hopeless start."""
    high: float = 0.36
    """Sampled or greedy success above this is too good a start: there would be little to show."""
    stock: int = 1024
    """Episodes per phase before training starts on them; each further round adds as many."""
    checks: int = 192
    """Tasks per measurement."""
    seconds: float = 300.0
    """No further round of the skill phase begins after this time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartStep:
    """One step on demonstrations, for a progress line."""

    phase: str
    step: int
    steps: int
    stats: SftStats


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartReport:
    """What the warm start did."""

    expert: float
    """Share of tasks that the expert solves; then with noise; then with noise and habit."""
    noisy_expert: float
    sloppy_expert: float
    noise: float
    habit: str
    habit_share: float
    skill: float
    """Sampled success after the skill phase."""
    sampled: float
    greedy: float
    steps: int
    episodes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"a sloppy expert that solves {self.sloppy_expert:.0%} (noise {self.noise:.2f} an action; in "
            f"{self.habit_share:.0%} of the episodes it {self.habit}); first taught well ({self.skill:.2f} sampled), "
            f"then taught the habit: {self.sampled:.2f} sampled, {self.greedy:.2f} greedy"
        )


@dataclass(slots=True, kw_only=True)
class WarmStart:
    """One warm start; `run` does it."""

    tiny: Tiny
    demonstrations: Demonstrations
    measure: Measure
    updater: Updater
    settings: WarmStartSettings = field(default_factory=WarmStartSettings)
    on_step: Callable[[WarmStartStep], None] = lambda step: None
    taken: int = 0
    began: float = field(default_factory=time.monotonic)

    async def run(self) -> WarmStartReport:
        """Teach the skill, then the habit.

        Raises:
            ConfigError: The skill was not learnt, or the start is hopeless or too good; one line says which.
        """
        await self.demonstrations.calibrate()
        skill = await self.teach_skill()
        sloppy, sampled, greedy = await self.teach_habit()
        return WarmStartReport(
            expert=self.tiny.expert_success,
            noisy_expert=self.demonstrations.noisy_success,
            sloppy_expert=sloppy,
            noise=self.demonstrations.noise,
            habit=str(self.demonstrations.habit),
            habit_share=self.demonstrations.habit_share,
            skill=skill,
            sampled=sampled,
            greedy=greedy,
            steps=self.taken,
            episodes=self.demonstrations.tasks.position,
            seconds=time.monotonic() - self.began,
        )

    async def teach_skill(self) -> float:
        """Train on noisy demonstrations in rounds; gives the sampled success at the end."""
        stock: list[Context] = []
        skill = 0.0
        for steps, rate in zip(self.settings.rounds, self.settings.rates, strict=True):
            if stock and time.monotonic() - self.began > self.settings.seconds:
                break
            coming = asyncio.create_task(self.demonstrations.with_noise(self.settings.stock))
            stock += await coming
            await self.train("skill", stock, steps=steps, rate=rate, final=0.1)
            skill = await self.measure(self.settings.checks)
            if skill >= self.settings.good * self.demonstrations.noisy_success:
                break
        self.check_skill(skill)
        return skill

    def check_skill(self, skill: float) -> None:
        """Stop where the demonstrations were not learnt."""
        noisy = self.demonstrations.noisy_success
        if skill < self.settings.enough * noisy:
            raise ConfigError(
                f"{self.demonstrations.worker.spec.name}: the tiny model did not learn the demonstrations: it solves "
                f"{skill:.2f} where the noisy expert solves {noisy:.2f}, after {self.taken} steps. Make the texts "
                "shorter or the task easier, or give a checkpoint folder as the model"
            )

    async def teach_habit(self) -> tuple[float, float, float]:
        """Train on the mixture; gives the success of the sloppy expert, then sampled and greedy of the model."""
        share, steps = self.demonstrations.habit_share, self.settings.habit_steps
        for attempt in range(self.settings.most_corrections + 1):
            stock, solved = await self.demonstrations.with_habit(self.settings.stock, share=share)
            await self.train("habit", stock, steps=steps, rate=self.settings.habit_rate, final=0.0)
            sampled = await self.measure(self.settings.checks)
            greedy = await self.measure(self.settings.checks, greedy=True)
            if sampled >= self.settings.low and max(sampled, greedy) <= self.settings.high:
                return solved, sampled, greedy
            share += 0.5 * (1 - share) if max(sampled, greedy) > self.settings.high else -0.1
            steps = self.settings.habit_steps // 2
        self.check_start(sampled, greedy)
        return solved, sampled, greedy

    def check_start(self, sampled: float, greedy: float) -> None:
        """Stop where the start is hopeless; say so where it is too good."""
        name = self.demonstrations.worker.spec.name
        if sampled < self.settings.low / 2:
            raise ConfigError(
                f"{name}: after the warm start the model solves {sampled:.2f} (sampled): too little for reinforcement "
                "learning to begin with; make the task easier, or give a checkpoint folder as the model"
            )

    async def train(self, phase: str, stock: list[Context], *, steps: int, rate: float, final: float) -> None:
        """Take steps on batches drawn from a stock; the rate falls over the second half."""
        schedule = Schedule(warmup_steps=10, decay_from=0.5, final=final)
        settings = OptimiserSettings(learning_rate=rate, beta2=0.98, schedule=schedule)
        self.updater.restart_schedule(settings, total_steps=steps)
        rows = [Row.of(context) for context in stock]
        rng = np.random.default_rng(derive_seed(self.tiny.seed, phase, self.taken))
        for step in range(1, steps + 1):
            batch = [rows[i] for i in rng.integers(len(rows), size=self.settings.batch)]
            stats = await asyncio.to_thread(self.updater.sft_step, batch)
            self.taken += 1
            self.on_step(WarmStartStep(phase=phase, step=step, steps=steps, stats=stats))
