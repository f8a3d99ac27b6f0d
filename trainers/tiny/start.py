"""The warm start in one call."""

from __future__ import annotations

from collections.abc import Callable

from agentrl.registry import Worker
from agentrl.task import TaskSource, derive_seed
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.tiny.demonstrations import Demonstrations, SloppySettings
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.measure import Played
from agentrl.trainers.tiny.warm_start import WarmStart, WarmStartReport, WarmStartSettings, WarmStartStep
from agentrl.trainers.updater import Updater


async def warm_start(
    tiny: Tiny,
    worker: Worker,
    tasks: TaskSource,
    *,
    seed: int = 0,
    sloppy: SloppySettings | None = None,
    settings: WarmStartSettings | None = None,
    on_step: Callable[[WarmStartStep], None] = lambda step: None,
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

    Raises:
        ConfigError: The demonstrations were not learnt, or the start is hopeless; one line says which.
    """
    demonstrations = Demonstrations(
        worker=worker,
        tiny=tiny,
        tasks=tasks,
        seed=derive_seed(seed, "warm-start"),
        settings=sloppy or SloppySettings(),
    )
    updater = Updater(tiny.model, OptimiserSettings(learning_rate=1e-3, beta2=0.98), total_steps=1, seed=seed)
    run = WarmStart(
        tiny=tiny,
        demonstrations=demonstrations,
        measure=Played(tiny, worker, tasks, seed=derive_seed(seed, "measure")),
        updater=updater,
        settings=settings or WarmStartSettings(),
        on_step=on_step,
    )
    return await run.run()
