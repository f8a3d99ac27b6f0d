"""Finds the settings with which TRL is fastest, one kind after another, each at the best of those before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agentrl.bench.speed.trl.side import Choice, Side, Step
from agentrl.bench.speed.trl.work import Work
from agentrl.errors import InfrastructureError
from agentrl.progress import Progress

ROWS = (2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One combination of settings, and what its step took, or why there was none."""

    choice: Choice
    step: Step | None = None
    refused: str = ""

    @property
    def seconds(self) -> float:
        """CPU seconds of the step, which neighbours change least; infinite where there was none."""
        return float("inf") if self.step is None else self.step.cpu_seconds

    def to_json(self) -> dict[str, Any]:
        """Give a row of the sweep."""
        data = asdict(self.choice)
        if self.step is None:
            return data | {"refused": self.refused}
        names = ("step_seconds", "rollout_seconds", "train_seconds", "cpu_seconds")
        return data | {name: round(getattr(self.step, name), 3) for name in names}

    def __str__(self) -> str:
        if self.step is None:
            return f"{self.choice}: refused, {self.refused}"
        step = self.step
        return (
            f"{self.choice}: {step.step_seconds:.2f} s a step, "
            f"{step.rollout_seconds:.2f} s rollout, "
            f"{step.train_seconds:.2f} s training, {step.cpu_seconds:.2f} CPU s"
        )


def kinds(work: Work) -> list[list[Mapping[str, Any]]]:
    """Give what is tried, kind by kind."""
    rows = [n for n in ROWS if n <= work.episodes and work.episodes % n == 0 and n != Choice().rows]
    return [
        [{"attention": "eager"}],
        [{"generation": "static"}, {"generation": "continuous"}],
        [{"rows": n} for n in rows],
        [{"compiled": True}],
    ]


def sweep(side: Side, model: Path, work: Work, progress: Progress) -> list[Trial]:
    """Try all kinds; gives the trials in order, the best of which is the fastest."""
    attempt(side, model, work, Choice())  # not to be measured: imports and first touches
    trials = [attempt(side, model, work, Choice())]
    progress.note(f"TRL {work.name}: {trials[0]}")
    for variants in kinds(work):
        best = fastest(trials)
        for trial in tried(side, model, work, best, variants):
            trials.append(trial)
            progress.note(f"TRL {work.name}: {trial}")
    return trials


def fastest(trials: Sequence[Trial]) -> Choice:
    """Give the settings of the fastest trial."""
    return min(trials, key=lambda trial: trial.seconds).choice


def tried(
    side: Side, model: Path, work: Work, best: Choice, variants: list[Mapping[str, Any]]
) -> Iterator[Trial]:
    """Try variants of the best so far."""
    for variant in variants:
        yield attempt(side, model, work, replace(best, **variant))


def attempt(side: Side, model: Path, work: Work, choice: Choice) -> Trial:
    """Take a step with some settings, behind a first one where TRL compiles."""
    steps = 2 if choice.compiled else 1
    try:
        side.begin(model, work.conversations(steps), work.for_trl(choice, steps=steps))
        return Trial(choice=choice, step=[side.step() for _ in range(steps)][-1])
    except InfrastructureError as error:
        return Trial(choice=choice, refused=str(error))
