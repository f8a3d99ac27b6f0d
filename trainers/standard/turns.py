"""What the turns of a batch earned, token by token.

Shape letters: N trained tokens, E episodes, U turns that have trained tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agentrl.episode import Turn
from agentrl.trainers.batch import TrainBatch


def turn_rewards(batch: TrainBatch) -> Tensor:
    """Give every token the reward of its turn, [N]."""
    earned = [{t.index: t.reward for t in scored.episode.turns} for scored in batch.episodes]
    pairs = zip(batch.episode_N.tolist(), batch.turn_N.tolist(), strict=True)
    return batch.reward_E.new_tensor([earned[episode].get(turn, 0.0) for episode, turn in pairs])


def turn_ends(batch: TrainBatch) -> Tensor:
    """Say of every token whether it is the last trained one of its turn, [N] of bool."""
    unit_N = turn_units(batch)[1]
    return torch.cat([unit_N[1:] != unit_N[:-1], unit_N.new_ones(min(len(unit_N), 1), dtype=torch.bool)])


def turn_units(batch: TrainBatch) -> tuple[Tensor, Tensor]:
    """Number the turns that have trained tokens; gives (episode, turn), [U, 2], and the number, [N]."""
    pair_N2 = torch.stack([batch.episode_N, batch.turn_N], dim=1)
    unit_U2, unit_N = torch.unique(pair_N2, dim=0, return_inverse=True)
    return unit_U2, unit_N


def turn_values(batch: TrainBatch, *, discount: float) -> tuple[Tensor, Tensor, Tensor]:
    """Give what each turn is worth, [U], the group it is compared in, [U], and each token's turn, [N].

    A turn is worth its own reward and `discount` times what the episode's next turn is worth. It is compared
    with the turns of the same number in its group.
    """
    unit_U2, unit_N = turn_units(batch)
    worth = [_worth(scored.episode.turns, discount) for scored in batch.episodes]
    units = unit_U2.tolist()
    value_U = batch.reward_E.new_tensor([worth[episode].get(turn, 0.0) for episode, turn in units])
    key_U2 = torch.stack([batch.group_E[unit_U2[:, 0]], unit_U2[:, 1]], dim=1)
    return value_U, torch.unique(key_U2, dim=0, return_inverse=True)[1], unit_N


def _worth(turns: tuple[Turn, ...], discount: float) -> dict[int, float]:
    worth: dict[int, float] = {}
    later = 0.0
    for turn in reversed(turns):
        later = worth[turn.index] = turn.reward + discount * later
    return worth
