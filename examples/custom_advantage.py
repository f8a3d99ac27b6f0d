"""A new part of an algorithm in one small file: an attempt is compared with the others of its group only.

python examples/custom_advantage.py [STEPS]
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from agentrl import Recipe, grpo, train
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.parts import StepContext


def leave_one_out(batch: TrainBatch, context: StepContext) -> Tensor:
    """Advantage: reward less the mean reward of the *other* attempts at the same task.

    Source: RLOO, arXiv:2402.14740 sec. 2.2.
    """
    groups = int(batch.group_E.max()) + 1
    sum_G = torch.zeros(groups, dtype=batch.reward_E.dtype).index_add(0, batch.group_E, batch.reward_E)
    size_E = torch.bincount(batch.group_E)[batch.group_E]
    others_E = (sum_G[batch.group_E] - batch.reward_E) / (size_E - 1).clamp(min=1)
    return batch.spread((batch.reward_E - others_E) * (size_E > 1))


def rloo(*, steps: int = 40, group_size: int = 8, learning_rate: float | None = None) -> Recipe:
    """GRPO with another advantage; the keywords are what `--set` and `settings` may name."""
    base = grpo(steps=steps, group_size=group_size, learning_rate=learning_rate)
    return replace(base, name="rloo", advantage=leave_one_out)


def main(steps: int = 40) -> None:
    """Train a tiny model with it."""
    env = f"{Path(__file__).with_name('guess_number.py')}:GuessNumber"
    result = train(env, algorithm=rloo, steps=steps, settings={"group_size": 6})
    print(f"held out: {result['success_before']:.2f} before, {result['success_after']:.2f} after")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
