"""`trl_step`: a whole training step, and the training pass in it, against TRL's GRPO with tools.

Both sides train the same checkpoint on the same conversations with the same tool, group size and number of
sampled tokens, by the same algorithm in float32 with one torch thread: `agentrl train` as it is by default on
a CPU (its engine deterministic), and TRL's `GRPOTrainer(environment_factory=…)` in an environment of its own,
with the fastest settings of a sweep that is printed. The policy writes turns of equal length without any
steering (see `policy`): TRL's best case, where nobody waits for a longer row. In the rows named `lognormal`
each side draws the lengths from one log-normal distribution, as those of real turns are. Steps alternate
between the two processes, and a first one of each is not counted.

A step is all from the first prompt to the new weights: in ours also the rows of the episodes in the store,
the new weights' way to the engine and the comparison of engine and trainer; neither side writes a checkpoint.
The training pass is the step without its rollouts, on both sides. Seconds are wall-clock; CPU seconds stand
beside them. There is no ratio where prompts differ, or tokens by more than 1 % (over all steps by more than
20 % where each side draws its own lengths: speeds are sampled tokens per second, so that it matters little).
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.trl import ours
from agentrl.bench.speed.trl.side import Choice, Side, Step
from agentrl.bench.speed.trl.sweep import Trial, fastest, sweep
from agentrl.bench.speed.trl.work import Work
from agentrl.errors import InfrastructureError
from agentrl.progress import Progress

WORKS = (
    Work(size="0.5M", prompts=8),
    Work(size="0.5M", prompts=8, lengths="lognormal"),
    Work(size="5M", prompts=4),
    Work(size="5M", prompts=4, lengths="lognormal"),
)
WANTED = {"step": 3.0, "training_pass": 2.0}
LARGEST_DIFFERENCE = {"equal": 0.01, "lognormal": 0.2}
TIMES = {
    "step": "step_seconds",
    "training_pass": "train_seconds",
    "rollout": "rollout_seconds",
    "cpu": "cpu_seconds",
}
COUNTS = ("prompt_tokens", "sampled_tokens", "tokens")
PACKAGES = ("agentrl", "torch", "transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Steps of both sides on one work, the first ones left out."""

    work: Work
    parameters: int
    trials: list[Trial]
    ours: Sequence[Step]
    theirs: Sequence[Step]
    versions: dict[str, str]

    def ratio(self, name: str) -> float:
        """How many times faster we are in one of the times."""
        return statistics.median(speeds(self.ours, name)) / statistics.median(speeds(self.theirs, name))

    def details(self) -> dict[str, Any]:
        """Give what stands beside the claims."""
        return {
            "work": asdict(self.work),
            "parameters": self.parameters,
            "tokens": {name: getattr(self.ours[0], name) for name in COUNTS},
            "peer_tokens": {name: getattr(self.theirs[0], name) for name in COUNTS},
            "peer_settings": asdict(fastest(self.trials)),
            "sweep": [trial.to_json() for trial in self.trials],
            "ratios": {name: round(self.ratio(name), 3) for name in TIMES},
            "steps": [_times(step) for step in self.ours],
            "peer_steps": [_times(step) for step in self.theirs],
            "versions": {f"peer {name}": version for name, version in self.versions.items()},
        }

    def claims(self) -> list[Claim]:
        """Give a claim for the step and one for its training pass."""
        details = self.details()
        return [
            Claim(
                name=f"trl_step.{self.work.name}.{name}",
                unit="sampled tokens per second",
                runs=speeds(self.ours, name),
                peer=Peer(name=f"TRL {self.versions['trl']}", runs=speeds(self.theirs, name)),
                wanted=Wanted(direction="at least", value=wanted),
                packages=PACKAGES,
                details=details,
            )
            for name, wanted in WANTED.items()
        ]


def speeds(steps: Sequence[Step], name: str) -> list[float]:
    """Give the sampled tokens of each step per second of one of its times."""
    return [step.sampled_tokens / float(getattr(step, TIMES[name])) for step in steps]


def trl_step(progress: Progress, *, works: Sequence[Work] = WORKS, runs: int = 3) -> list[Claim]:
    """Measure all works, TRL with what is fastest on each of them.

    Raises:
        InfrastructureError: The two sides did not do the same work, or one of them failed.
    """
    torch.set_num_threads(1)
    claims: list[Claim] = []
    with Side() as side:
        for work in works:
            with tempfile.TemporaryDirectory() as folder:
                claims += measure(side, work, Path(folder), progress, runs=runs).claims()
    return claims


def measure(side: Side, work: Work, folder: Path, progress: Progress, *, runs: int) -> Measured:
    """Find TRL's best settings, then let the sides take steps in turn."""
    model = folder / "model"
    parameters = work.save(model)
    progress.phase(f"trl_step {work.name}", runs + 1)
    trials = sweep(side, model, work, progress)
    ours_, theirs = alternate(side, fastest(trials), work, model, folder, progress, steps=runs + 1)
    refuse_unequal(ours_, theirs, work)
    return Measured(
        work=work,
        parameters=parameters,
        trials=trials,
        ours=ours_[1:],
        theirs=theirs[1:],
        versions=side.versions,
    )


def alternate(
    side: Side, choice: Choice, work: Work, model: Path, folder: Path, progress: Progress, *, steps: int
) -> tuple[list[Step], list[Step]]:
    """Take steps of ours and of theirs in turn."""
    theirs: list[Step] = []

    def other() -> None:
        theirs.append(side.step())
        progress.advance({"peer_seconds": theirs[-1].step_seconds})

    side.begin(model, work.conversations(steps), work.for_trl(choice, steps=steps))
    return ours.train(model, work, folder, other, steps=steps), theirs


def refuse_unequal(ours_: Sequence[Step], theirs: Sequence[Step], work: Work) -> None:
    """Refuse to compare different work.

    Raises:
        InfrastructureError: Names what differs.
    """
    for number, (our, their) in enumerate(zip(ours_, theirs, strict=True), 1):
        if our.prompts != their.prompts:
            raise InfrastructureError(f"step {number}: the two sides were given different prompts")
        if work.sampled not in (None, our.sampled_tokens):
            raise InfrastructureError(
                f"step {number}: {our.sampled_tokens} sampled tokens, not {work.sampled}"
            )
    for name in COUNTS:
        mine, other = (sum(getattr(step, name) for step in side) for side in (ours_, theirs))
        if abs(mine - other) > LARGEST_DIFFERENCE[work.lengths] * other:
            raise InfrastructureError(f"{name} are {mine} here and {other} there")


def _times(step: Step) -> dict[str, float]:
    return {name: round(getattr(step, attribute), 3) for name, attribute in TIMES.items()}
