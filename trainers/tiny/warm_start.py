"""The warm start: first the skill, then the habit.

A model from random weights never solves a task by chance, so reinforcement learning would have nothing to
raise. The warm start teaches it, in two phases, to act like a sloppy expert:

* *skill*: demonstrations with noise alone, in rounds of growing length, until the sampled success comes
  near that of the noisy expert itself. Where it does not, the run stops here and says so.
* *habit*: the same, mixed with episodes that have a bad habit. They are more than half, so that sampled and
  greedy success both start low.

Every right action has been shown to the model. Reinforcement learning then finds out which of what it was
shown earns the reward, and makes that the likeliest: sampled and greedy success rise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np

from agentrl.errors import ConfigError
from agentrl.task import derive_seed
from agentrl.trainers.batch import Row
from agentrl.trainers.optimiser import OptimiserSettings, Schedule
from agentrl.trainers.tiny.demonstrations import Demonstrations
from agentrl.trainers.tiny.make import Mixture, Tiny
from agentrl.trainers.tiny.measure import Measure
from agentrl.trainers.tiny.milestones import Milestones
from agentrl.trainers.tiny.stock import Stock
from agentrl.trainers.updater import SftStats, Updater

REMEDY = "Make the texts shorter or the task easier, or give a checkpoint folder as the model"
TOO_GOOD = 0.5
"""Success at the start above which there would be nothing to show."""
Draw = Callable[[np.random.Generator], Awaitable[list[Row]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of the skill phase; a check follows it."""

    steps: int
    rate: float
    """Learning rate; it falls to a tenth over the second half."""
    fresh: int
    """New demonstrations per step."""
    good: float
    """Share of the noisy expert's own success at which no further round is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStartSettings:
    """How long and how well to teach."""

    batch: int = 64
    """Demonstrations per step of the skill phase."""
    first: int = 512
    """Demonstrations before the first step."""
    rounds: tuple[Round, ...] = (
        Round(steps=120, rate=3e-3, fresh=8, good=0.92),
        Round(steps=60, rate=2e-3, fresh=16, good=0.85),
        Round(steps=60, rate=2e-3, fresh=16, good=0.9),
        Round(steps=240, rate=2e-3, fresh=32, good=0.85),
        Round(steps=480, rate=1.5e-3, fresh=32, good=0.85),
        Round(steps=960, rate=1.5e-3, fresh=32, good=0.85),
    )
    enough: float = 0.7
    """The least share of it at the end of the last round; below, the run stops."""
    habit_steps: int = 60
    habit_rate: float = 2e-3
    habit_fresh: int = 16
    habit_batch: int = 192
    """Demonstrations per step of the habit phase, with the habit and without."""
    most_corrections: int = 3
    """Further attempts at a start that is neither hopeless nor good."""
    correction_steps: int = 40
    low: float = 0.1
    """Sampled success below this is a hopeless start."""
    high: float = 0.26
    """Sampled or greedy success above this is too good a start: there would be little to show."""
    checks: int = 192
    """Tasks per measurement."""

    def __post_init__(self) -> None:
        for name in ("batch", "first", "habit_steps", "habit_batch", "correction_steps", "checks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"warm.{name}={getattr(self, name)}: need 1 or more")
        for name in ("habit_fresh", "most_corrections"):
            if getattr(self, name) < 0:
                raise ConfigError(f"warm.{name}={getattr(self, name)}: need 0 or more")
        if not 0 < self.habit_rate < 1:
            raise ConfigError(f"warm.habit_rate={self.habit_rate}: need a value between 0 and 1")
        if not 0 <= self.enough <= 1:
            raise ConfigError(f"warm.enough={self.enough}: need a value in [0, 1]")
        if not 0 <= self.low < self.high <= TOO_GOOD:
            raise ConfigError(
                f"warm.low={self.low}, warm.high={self.high}: need 0 <= low < high <= {TOO_GOOD}"
            )


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
            f"{self.habit_share:.0%} of the episodes it {self.habit}); first taught well "
            f"({self.skill:.2f} sampled), then the habit: {self.sampled:.2f} sampled, "
            f"{self.greedy:.2f} greedy"
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
    milestones: Milestones = field(default_factory=Milestones)
    stocks: tuple[Stock, ...] = ()
    taken: int = 0
    began: float = field(default_factory=time.monotonic)

    async def run(self) -> WarmStartReport:
        """Teach the skill, then the habit.

        Raises:
            ConfigError: The skill was not learnt, or the start is hopeless or too good; one line says which.
        """
        await self.demonstrations.calibrate()
        right = Stock(self.demonstrations.with_noise, first=self.settings.first)
        wrong = Stock(self.demonstrations.with_habit, first=self.settings.first)
        self.stocks = (right, wrong)
        try:
            skill = await self.teach_skill(right, wrong)
            share, sampled, greedy = await self.teach_habit(right, wrong)
        finally:
            await right.close()
            await wrong.close()
        return WarmStartReport(
            expert=self.tiny.expert_success,
            noisy_expert=right.success,
            sloppy_expert=share * wrong.success + (1 - share) * right.success,
            noise=self.demonstrations.noise,
            habit=str(self.demonstrations.habit),
            habit_share=share,
            skill=skill,
            sampled=sampled,
            greedy=greedy,
            steps=self.taken,
            episodes=self.demonstrations.counts["probe"] + right.promised + wrong.promised,
            seconds=time.monotonic() - self.began,
        )

    async def teach_skill(self, right: Stock, wrong: Stock) -> float:
        """Train on noisy demonstrations in rounds; gives the sampled success at the end."""
        skill = 0.0
        for one in self.settings.rounds:

            async def draw(rng: np.random.Generator, fresh: int = one.fresh) -> list[Row]:
                return await right.draw(self.settings.batch, rng, fresh=fresh)

            await self.train("skill", draw, steps=one.steps, rate=one.rate, final=0.1)
            wrong.fill()
            skill = await self.measure(self.settings.checks)
            await right.ready()
            if skill >= one.good * right.success:
                return skill
        if skill < self.settings.enough * right.success:
            raise ConfigError(
                f"{self.name}: the tiny model did not learn the demonstrations: it solves {skill:.2f} where "
                f"the noisy expert solves {right.success:.2f}, after {self.taken} steps. {REMEDY}"
            )
        return skill

    async def teach_habit(self, right: Stock, wrong: Stock) -> tuple[float, float, float]:
        """Train on the mixture; gives the share with the habit, then the sampled and greedy success."""
        await wrong.ready()
        share = self.demonstrations.settings.habit_share(right.success, wrong.success)
        for attempt in range(self.settings.most_corrections + 1):
            draw = self.mixture(right, wrong, share)
            steps = self.settings.correction_steps if attempt else self.settings.habit_steps
            await self.train("habit", draw, steps=steps, rate=self.settings.habit_rate, final=0.0)
            sampled = await self.measure(self.settings.checks)
            greedy = await self.measure(self.settings.checks, greedy=True)
            good = max(sampled, greedy) > self.settings.high
            if (sampled >= self.settings.low and not good) or attempt == self.settings.most_corrections:
                break
            if sampled > self.settings.high or (attempt and good):
                share += 0.4 * (0.9 - share)
            elif sampled < self.settings.low:
                share -= 0.4 * (share - 0.5)
        self.check_start(sampled, greedy)
        made = self.demonstrations
        assert made.habit is not None
        self.tiny.taught = Mixture(noise=made.noise, habit=made.habit, share=share)
        return share, sampled, greedy

    def mixture(self, right: Stock, wrong: Stock, share: float) -> Draw:
        """Give batches in which a share of the episodes has the habit."""
        count, fresh = self.settings.habit_batch, self.settings.habit_fresh
        bad = round(share * count)

        async def draw(rng: np.random.Generator) -> list[Row]:
            return await wrong.draw(bad, rng, fresh=fresh) + await right.draw(count - bad, rng)

        return draw

    @property
    def name(self) -> str:
        """The environment's."""
        return self.demonstrations.worker.spec.name

    def check_start(self, sampled: float, greedy: float) -> None:
        """Stop where the start is hopeless, or so good that there would be nothing to show."""
        if sampled < self.settings.low / 2:
            raise ConfigError(
                f"{self.name}: after the warm start the model solves {sampled:.2f} (sampled): too little for "
                f"reinforcement learning to begin with. {REMEDY}"
            )
        if max(sampled, greedy) > TOO_GOOD:
            raise ConfigError(
                f"{self.name}: after the warm start the model solves {sampled:.2f} sampled, {greedy:.2f} "
                "greedy: too much to show anything. Make guessing pay less, or give a checkpoint folder"
            )

    async def train(self, phase: str, draw: Draw, *, steps: int, rate: float, final: float) -> None:
        """Take steps on batches that `draw` gives, unless it was done; the rate falls in the second half."""
        if await self.milestones.pass_by(self.taken + steps, self.updater, self.stocks):
            self.taken += steps
            return
        schedule = Schedule(warmup_steps=10, decay_from=0.5, final=final)
        settings = OptimiserSettings(learning_rate=rate, beta2=0.98, schedule=schedule)
        self.updater.restart_schedule(settings, total_steps=steps)
        rng = np.random.default_rng(derive_seed(self.tiny.seed, phase, self.taken))
        for step in range(1, steps + 1):
            stats = await asyncio.to_thread(self.updater.sft_step, await draw(rng))
            self.taken += 1
            self.on_step(WarmStartStep(phase=phase, step=step, steps=steps, stats=stats))
        self.milestones.save(self.taken, self.updater, self.stocks)
