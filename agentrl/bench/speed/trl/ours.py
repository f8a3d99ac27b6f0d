"""Our side: `agentrl train` as a user runs it, with a step of the other side after each of ours."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.bench.speed.trl.peer import digest
from agentrl.bench.speed.trl.side import Step
from agentrl.bench.speed.trl.work import SEED, WORLD, Work
from agentrl.cli.drivers import driver
from agentrl.episode import Episode
from agentrl.errors import InfrastructureError
from agentrl.progress import Metrics, SilentProgress
from agentrl.runs import read_config
from agentrl.store.store import TRAIN, open_store

RUN = "step"
PHASE = "GRPO"
"""What the phase of reinforcement learning is called."""


@dataclass(slots=True)
class Alternating(SilentProgress):
    """Hears of each step when it is over, and lets the other side take one before the next begins."""

    other: Callable[[], None]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    training: bool = False
    began: tuple[float, float] = (0.0, 0.0)

    def phase(self, name: str, total: int) -> None:
        """Begin to time where training begins."""
        self.training = name == PHASE
        self.began = time.perf_counter(), time.process_time()

    def advance(self, metrics: Metrics | None = None, *, steps: int = 1) -> None:
        """Note a step and wait for the other side."""
        if self.training:
            self.seconds.append(time.perf_counter() - self.began[0])
            self.cpu.append(time.process_time() - self.began[1])
            self.other()
            self.began = time.perf_counter(), time.process_time()


def train(model: Path, work: Work, folder: Path, other: Callable[[], None], *, steps: int) -> list[Step]:
    """Train in `folder`, alternating with `other`; gives what each step took.

    Raises:
        InfrastructureError: A step did not do the whole work.
    """
    progress = Alternating(other)
    with contextlib.chdir(folder):
        driver("train")(
            WORLD,
            model=str(model),
            seed=SEED,
            run=RUN,
            settings=work.for_us(steps=steps),
            progress=progress,
        )
    return [
        Step(
            step_seconds=seconds,
            rollout_seconds=metrics["rollout_seconds"],
            train_seconds=seconds - metrics["rollout_seconds"],
            cpu_seconds=cpu,
            **counts,
        )
        for seconds, cpu, (metrics, counts) in zip(
            progress.seconds, progress.cpu, recorded(folder / "runs" / RUN, steps), strict=True
        )
    ]


def recorded(run: Path, steps: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Give the metrics and the counts of each step."""
    config = read_config(run)
    assert config is not None
    store = open_store(run, config)
    try:
        found = []
        for metrics in store.metrics():
            groups = store.groups(phase=TRAIN, step=metrics["step"]).values()
            found.append((metrics, counted([e for group in groups for e in group], metrics)))
    finally:
        store.close()
    return found


def counted(episodes: list[Episode], metrics: dict[str, Any]) -> dict[str, Any]:
    """Count tokens as the other side does.

    Raises:
        InfrastructureError: Episodes failed, or were left out of the training pass.
    """
    if metrics["failures"] or metrics["zero_variance_groups"] or metrics["skipped"]:
        raise InfrastructureError(f"step {metrics['step']} trained on less than it played: {metrics}")
    prompts = [e.contexts[0].segments[0] for e in episodes]
    return {
        "prompt_tokens": sum(map(len, prompts)),
        "sampled_tokens": metrics["trained_tokens"],
        "tokens": sum(len(c) for e in episodes for c in e.contexts),
        "prompts": digest(prompt.ids.tolist() for prompt in prompts),
    }
