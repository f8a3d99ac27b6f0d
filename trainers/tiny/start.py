"""The warm start in one call, and more of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from agentrl.errors import ConfigError
from agentrl.registry import Worker
from agentrl.store.journal import Journal
from agentrl.task import TaskSource, derive_seed
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.tiny.demonstrations import Demonstrations, SloppySettings
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.measure import Played
from agentrl.trainers.tiny.milestones import Milestones
from agentrl.trainers.tiny.stock import Stock
from agentrl.trainers.tiny.warm_start import WarmStart, WarmStartReport, WarmStartSettings, WarmStartStep
from agentrl.trainers.updater import Updater

STOCK = 512
"""Demonstrations of each kind that `more_sft` begins with."""


async def warm_start(
    tiny: Tiny,
    worker: Worker,
    tasks: TaskSource,
    *,
    seed: int = 0,
    sloppy: SloppySettings | None = None,
    settings: WarmStartSettings | None = None,
    on_step: Callable[[WarmStartStep], None] = lambda step: None,
    journal: Journal | None = None,
    milestones: Milestones | None = None,
) -> WarmStartReport:
    """Teach a tiny model to act like a sloppy expert; it is trained in place.

    Args:
        tiny: What `make_tiny` gave.
        worker: Makes the environment's instances.
        tasks: Of the training split; demonstrations and measurements take from it.
        seed: Of everything random here.
        sloppy: How sloppy the demonstrations are.
        settings: How long and how well to teach.
        on_step: Called after every step, for a progress line.
        journal: Keeps demonstrations and measurements, so that an interrupted warm start does not play again.
        milestones: Keep the weights now and then.

    Raises:
        ConfigError: The demonstrations were not learnt, or the start is hopeless; one line says which.
    """
    run = starting(tiny, worker, tasks, seed=seed, sloppy=sloppy, settings=settings, journal=journal)
    run.on_step, run.milestones = on_step, milestones or Milestones()
    return await run.run()


async def more_sft(tiny: Tiny, worker: Worker, tasks: TaskSource, *, seconds: float, seed: int) -> None:
    """Go on teaching the mixture that the warm start ended with: the control for reinforcement learning.

    Raises:
        ConfigError: There was no warm start.
    """
    if tiny.taught is None:
        raise ConfigError("more_sft before warm_start: there is no mixture to go on with")
    run = starting(tiny, worker, tasks, seed=derive_seed(seed, "more"))
    made, share, end = run.demonstrations, tiny.taught.share, time.monotonic() + seconds
    made.noise, made.habit = tiny.taught.noise, tiny.taught.habit
    right, wrong = Stock(made.with_noise, first=STOCK), Stock(made.with_habit, first=STOCK)
    draw = run.mixture(right, wrong, share)
    try:
        while time.monotonic() < end:
            await run.train("more", draw, steps=10, rate=1e-3, final=1.0)
    finally:
        await right.close()
        await wrong.close()


def starting(
    tiny: Tiny,
    worker: Worker,
    tasks: TaskSource,
    *,
    seed: int,
    sloppy: SloppySettings | None = None,
    settings: WarmStartSettings | None = None,
    journal: Journal | None = None,
) -> WarmStart:
    """Put the parts of a warm start together."""
    made = Demonstrations(
        worker=worker,
        tiny=tiny,
        tasks=tasks,
        seed=derive_seed(seed, "warm-start"),
        settings=sloppy or SloppySettings(),
        journal=journal,
    )
    return WarmStart(
        tiny=tiny,
        demonstrations=made,
        measure=Played(tiny, worker, tasks, seed=derive_seed(seed, "measure"), journal=journal),
        updater=Updater(
            tiny.model, OptimiserSettings(learning_rate=1e-3, beta2=0.98), total_steps=1, seed=seed
        ),
        settings=settings or WarmStartSettings(),
    )
