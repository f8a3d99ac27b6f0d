"""The warm start as a run calls it."""

from __future__ import annotations

import time

from agentrl.progress import Progress
from agentrl.registry import Worker
from agentrl.task import TaskSource
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.tiny.demonstrations import Demonstrations
from agentrl.trainers.tiny.make import Tiny
from agentrl.trainers.tiny.measure import Played
from agentrl.trainers.tiny.warm_start import WarmStart, WarmStartReport, WarmStartStep
from agentrl.trainers.updater import Updater


def prepare(tiny: Tiny, worker: Worker, tasks: TaskSource) -> WarmStart:
    """Put the parts of a warm start together."""
    return WarmStart(
        tiny=tiny,
        demonstrations=Demonstrations(worker=worker, tiny=tiny, tasks=tasks, seed=tiny.seed),
        measure=Played(tiny, worker, tasks, seed=tiny.seed),
        updater=Updater(tiny.model, OptimiserSettings(learning_rate=3e-3, beta2=0.98), total_steps=1),
    )


async def warm_start(tiny: Tiny, worker: Worker, tasks: TaskSource, *, progress: Progress) -> WarmStartReport:
    """Warm-start a tiny model in place."""
    warm = prepare(tiny, worker, tasks)
    shown = ""

    def on_step(step: WarmStartStep) -> None:
        nonlocal shown
        if step.step == 1:
            shown = step.phase
            progress.phase(f"warm start: {shown}", step.steps)
        progress.advance({"loss": step.stats.loss})

    warm.on_step = on_step
    return await warm.run()


async def more_sft(tiny: Tiny, worker: Worker, tasks: TaskSource, *, seconds: float) -> None:
    """Go on with the sloppy mixture for some time: a control for reinforcement learning."""
    warm = prepare(tiny, worker, tasks)
    await warm.demonstrations.calibrate()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stock, _ = await warm.demonstrations.with_habit(warm.settings.stock)
        await warm.train("more", stock, steps=40, rate=1e-3, final=1.0)
