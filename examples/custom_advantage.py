"""A new part of an algorithm in one small file: a baseline in which long attempts count for more.

python examples/custom_advantage.py [STEPS]
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from agentrl import Recipe, grpo, train
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.losses.advantage import group_is_flat
from agentrl.trainers.parts import StepContext


def length_weighted(batch: TrainBatch, context: StepContext) -> Tensor:
    """Advantage: reward less the group's mean reward, in which an attempt counts by the tokens it has.

    Source: OPO, arXiv:2505.23585.
    """
    if not len(batch.reward_E):
        return batch.spread(batch.reward_E)
    length_E = batch.length_E.to(batch.reward_E.dtype)
    empty_G = torch.zeros(int(batch.group_E.max()) + 1, dtype=batch.reward_E.dtype)
    reward_G = empty_G.index_add(0, batch.group_E, length_E * batch.reward_E)
    length_G = empty_G.index_add(0, batch.group_E, length_E)
    baseline_E = (reward_G / length_G.clamp(min=1))[batch.group_E]
    is_flat_E = group_is_flat(batch.reward_E, batch.group_E)
    return batch.spread((batch.reward_E - baseline_E).masked_fill(is_flat_E, 0.0))


def opo(*, steps: int = 40, group_size: int = 8, learning_rate: float | None = None) -> Recipe:
    """GRPO with another advantage; the keywords are what `--set` and `settings` may name."""
    base = grpo(steps=steps, group_size=group_size, learning_rate=learning_rate)
    return replace(base, name="opo", advantage=length_weighted)


def main(steps: int = 40) -> None:
    """Train a tiny model with it."""
    env = f"{Path(__file__).with_name('guess_number.py')}:GuessNumber"
    result = train(env, algorithm=opo, steps=steps, settings={"group_size": 6})
    print(f"held out: {result['success_before']:.2f} before, {result['success_after']:.2f} after")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
