"""The same algorithms once more, written as papers write them: row by row, token by token, with masks.

Nothing here is shared with the package. Advantages are plain Python; losses are sums of float64 scalars,
whose gradient torch takes.
"""

import math
import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from tests.trainers.losses.toy import Matrix, Toy


def members(toy: Toy, row: int) -> list[int]:
    return [i for i, g in enumerate(toy.group) if g == toy.group[row]]


def spans(toy: Toy, row: int) -> list[int]:
    """Columns of the trained tokens of a row."""
    return [t for t, m in enumerate(toy.mask[row]) if m]


# ------------------------------------------------------------------ advantages: one list of T values per row


def every_token(toy: Toy, values: list[float]) -> Matrix:
    return [[v] * len(toy.mask[0]) for v in values]


def z_scores(toy: Toy) -> Matrix:
    result = []
    for row, reward in enumerate(toy.reward):
        others = [toy.reward[i] for i in members(toy, row)]
        flat = len(set(others)) == 1
        result.append(
            0.0 if flat else (reward - statistics.fmean(others)) / (statistics.stdev(others) + 1e-6)
        )
    return every_token(toy, result)


def centred(toy: Toy) -> Matrix:
    return every_token(
        toy,
        [
            r - statistics.fmean([toy.reward[i] for i in members(toy, row)])
            for row, r in enumerate(toy.reward)
        ],
    )


def leave_one_out(toy: Toy) -> Matrix:
    result = []
    for row, reward in enumerate(toy.reward):
        others = [toy.reward[i] for i in members(toy, row) if i != row]
        result.append(reward - statistics.fmean(others) if others else 0.0)
    return every_token(toy, result)


def whitened(toy: Toy, values: Matrix) -> Matrix:
    valid = [values[b][t] for b in range(len(values)) for t in spans(toy, b)]
    if len(valid) < 2 or max(valid) - min(valid) < 1e-12:
        return [[0.0] * len(row) for row in values]
    mean, variance = statistics.fmean(valid), statistics.variance(valid)
    return [[(v - mean) / math.sqrt(variance + 1e-8) for v in row] for row in values]


def token_returns(toy: Toy, rewards: Matrix, discount: float) -> Matrix:
    result = [[0.0] * len(row) for row in rewards]
    for row in range(len(rewards)):
        later = 0.0
        for t in reversed(spans(toy, row)):
            later = rewards[row][t] + discount * later
            result[row][t] = later
    return result


def reinforce_pp(toy: Toy, *, discount: float = 1.0, kl: float = 0.0, turns: bool = False) -> Matrix:
    rewards = [[0.0] * len(row) for row in toy.mask]
    for row, places in enumerate(map(lambda b: spans(toy, b), range(len(toy.mask)))):
        left = toy.reward[row]
        for number in sorted({toy.turn[row][t] for t in places}) if turns else []:
            last = max(t for t in places if toy.turn[row][t] == number)
            rewards[row][last] += toy.turn_reward[row][number]
            left -= toy.turn_reward[row][number]
        for t in places:
            rewards[row][t] -= kl * (toy.old[row][t] - toy.reference[row][t])
            if t == places[-1]:
                rewards[row][t] += left
    return whitened(toy, token_returns(toy, rewards, discount))


def reinforce_pp_baseline(toy: Toy) -> Matrix:
    values = []
    for row, reward in enumerate(toy.reward):
        others = [toy.reward[i] for i in members(toy, row)]
        values.append(reward if len(others) == 1 else reward - statistics.fmean(others))
    return whitened(toy, every_token(toy, values))


def with_turns(toy: Toy, *, weight: float, discount: float) -> Matrix:
    """GRPO, and the z-score of each turn among the same turns of the group."""
    result = z_scores(toy)
    for row in range(len(toy.mask)):
        for t in spans(toy, row):
            number = toy.turn[row][t]
            peers = [i for i in members(toy, row) if any(toy.turn[i][s] == number for s in spans(toy, i))]
            worths = [worth(toy, i, number, discount) for i in peers]
            if max(worths) - min(worths) > 1e-12:
                mine = worth(toy, row, number, discount) - statistics.fmean(worths)
                result[row][t] += weight * mine / (statistics.stdev(worths) + 1e-6)
    return result


def worth(toy: Toy, row: int, number: int, discount: float) -> float:
    later = toy.turn_reward[row][number:]
    return sum(reward * discount**i for i, reward in enumerate(later))


# ------------------------------------------------------------------ losses of a token


def zero() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def clip(ratio: Tensor, low: float, high: float) -> Tensor:
    return torch.minimum(
        torch.maximum(ratio, torch.tensor(low, dtype=torch.float64)), torch.tensor(high, dtype=torch.float64)
    )


def ppo(ratio: Tensor, advantage: float, low: float, high: float, dual: float | None = None) -> Tensor:
    loss = torch.maximum(-advantage * ratio, -advantage * clip(ratio, 1 - low, 1 + high))
    if dual is not None and advantage < 0:
        loss = torch.minimum(loss, torch.tensor(-advantage * dual, dtype=torch.float64))
    return loss


def sigmoid_gate(ratio: Tensor, advantage: float) -> Tensor:
    tau = 1.0 if advantage > 0 else 1.05
    return -advantage * 4 / tau / (1 + torch.exp(-tau * (ratio - 1)))


# ------------------------------------------------------------------ averages


Losses = list[list[Tensor]]


def token_mean(toy: Toy, losses: Losses) -> Tensor:
    every = [loss for row in losses for loss in row]
    return sum(every, zero()) / max(len(every), 1)


def row_means(toy: Toy, losses: Losses, *, weigh: bool = False, count_empty: bool = False) -> Tensor:
    total = zero()
    for row in losses:
        if row:
            total = total + sum(row, zero()) / (1 if weigh else len(row))
    count = sum(1 for row in losses if row or count_empty)
    return total / max(count, 1)


def constant(toy: Toy, losses: Losses, max_length: int) -> Tensor:
    return row_means(toy, losses, weigh=True) / max_length


# ------------------------------------------------------------------ algorithms


def token_losses(
    toy: Toy, new_BT: Tensor, advantage: Matrix, loss: Callable[[Tensor, float, Tensor], Tensor]
) -> Losses:
    """`loss(ratio, advantage, log pi)` of every trained token."""
    return [
        [
            loss(torch.exp(new_BT[row, t] - toy.old[row][t]), advantage[row][t], new_BT[row, t])
            for t in spans(toy, row)
        ]
        for row in range(len(toy.mask))
    ]


def row_losses(toy: Toy, new_BT: Tensor, advantage: Matrix, *, mean: bool, low: float, high: float) -> Losses:
    """PPO's loss of each row's one ratio, at every trained token of the row."""
    result: Losses = []
    for row in range(len(toy.mask)):
        places = spans(toy, row)
        if not places:
            result.append([])
            continue
        log_ratio = sum((new_BT[row, t] - toy.old[row][t] for t in places), zero())
        ratio = torch.exp(log_ratio / len(places) if mean else log_ratio)
        result.append([ppo(ratio, advantage[row][places[0]], low, high)] * len(places))
    return result


def kl_losses(toy: Toy, new_BT: Tensor, estimator: str) -> Losses:
    def one(row: int, t: int) -> Tensor:
        new, x = new_BT[row, t], toy.reference[row][t] - new_BT[row, t]
        if estimator == "k1":
            return -x
        if estimator == "k2":
            return x * x / 2
        if estimator == "k3":
            return torch.exp(x) - x - 1
        if estimator == "k3_weighted":
            return torch.exp(new - toy.old[row][t]) * (torch.exp(x) - x - 1)
        value = {"k1+": -x, "k3+": torch.exp(x) - x - 1}[estimator].detach()
        return value + (x * x / 2 - (x * x / 2).detach())

    return [[one(row, t) for t in spans(toy, row)] for row in range(len(toy.mask))]


def weights(toy: Toy, *, kind: str, level: str, low: float, high: float) -> Matrix:
    """Weights against the mismatch, of every trained token."""
    result = []
    for row in range(len(toy.mask)):
        logs = [toy.old[row][t] - toy.behaviour[row][t] for t in spans(toy, row)]
        if level == "episode":
            logs = [sum(logs)] * len(logs)
        raw = [math.exp(value) for value in logs]
        if kind == "truncate":
            result.append([min(max(w, low), high) for w in raw])
        else:
            result.append([w if low <= w <= high else 0.0 for w in raw])
    return result


def plus(one: Losses, other: Losses, factor: float) -> Losses:
    return [[a + factor * b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=True)]


def times(losses: Losses, by: Matrix) -> Losses:
    return [[a * w for a, w in zip(x, y, strict=True)] for x, y in zip(losses, by, strict=True)]
