"""`trl_step`: a whole training step, and the training pass in it, against TRL's GRPO with tools.

Both sides train the same checkpoint on the same conversations with the same tool, group size and number of
sampled tokens, by the same algorithm in float32 with one torch thread: `agentrl train` as it is by default on
a CPU (its engine deterministic), and TRL's `GRPOTrainer(environment_factory=…)` in an environment of its own,
with the fastest settings of a sweep that is printed. The policy writes turns of equal length without any
steering (see `policy`), which is TRL's best case: nobody waits for a longer row. Steps alternate between the
two processes, and a first one of each is not counted.

A step is all from the first prompt to the new weights: in ours also the rows of the episodes in the store,
the new weights' way to the engine and the comparison of engine and trainer; neither side writes a checkpoint.
The training pass is the step without its rollouts. Seconds are wall-clock; CPU seconds stand beside them.
Where prompts, sampled or all tokens of the two differ by more than 1 % there is no ratio.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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

WORKS = (Work(size="0.5M", prompts=8), Work(size="5M", prompts=8))
SWEEP_PROMPTS = 2
WANTED = {"step": 3.0, "training_pass": 2.0}
LARGEST_DIFFERENCE = 0.01
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
    trials: Sequence[Trial]
    ours: Sequence[Step]
    theirs: Sequence[Step]
    versions: dict[str, str]

    def ratio(self, name: str) -> float:
        """How many times faster we are in one of the times."""
        theirs, ours = (
            statistics.median(float(getattr(step, TIMES[name])) for step in side)
            for side in (self.theirs, self.ours)
        )
        return theirs / ours

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
                name=f"trl_step.{self.work.size}.{name}",
                unit="s",
                runs=[getattr(step, TIMES[name]) for step in self.ours],
                peer=Peer(
                    name=f"TRL {self.versions['trl']}", runs=[getattr(s, TIMES[name]) for s in self.theirs]
                ),
                wanted=Wanted(direction="at least", value=wanted),
                speed_up=True,
                packages=PACKAGES,
                details=details,
            )
            for name, wanted in WANTED.items()
        ]


def trl_step(progress: Progress, *, works: Sequence[Work] = WORKS, runs: int = 3) -> list[Claim]:
    """Measure all works.

    Raises:
        InfrastructureError: The two sides did not do the same work, or one of them failed.
    """
    torch.set_num_threads(1)
    claims = []
    for work in works:
        with tempfile.TemporaryDirectory() as folder, Side() as side:
            claims += measure(side, work, Path(folder), progress, runs=runs).claims()
    return claims


def measure(side: Side, work: Work, folder: Path, progress: Progress, *, runs: int) -> Measured:
    """Find TRL's best settings, then let the sides take steps in turn."""
    model = folder / "model"
    parameters = work.save(model)
    sample = replace(work, prompts=min(work.prompts, SWEEP_PROMPTS))
    progress.phase(f"trl_step {work.size}", runs + 1)
    trials = sweep(side, model, sample, progress)
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
        counts = {name: (getattr(our, name), getattr(their, name)) for name in COUNTS}
        counts["sampled_tokens of the work"] = (our.sampled_tokens, work.sampled)
        for name, (mine, other) in counts.items():
            if abs(mine - other) > LARGEST_DIFFERENCE * other:
                raise InfrastructureError(f"step {number}: {name} are {mine} here and {other} there")


def _times(step: Step) -> dict[str, float]:
    return {name: round(getattr(step, attribute), 3) for name, attribute in TIMES.items()}
