"""What a step did with what the environment said: whom it paid, how far it moved the policy, and which way.

Nothing here asks the recipe. Rewards are those that the environment gave, the tokens those that were sampled;
so a part that turns, drops or flattens something on the way to the weights shows, whatever it is. These
numbers are what `agentrl diagnose` reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from agentrl.trainers.batch import TrainBatch

Chosen = TypeVar("Chosen")

Numbers = NDArray[np.float64]
PROBED = 16
"""Rows that are scored once more after the update: a few hundredths of what the update itself takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """How the advantages of a step go with what was sampled and what it earned."""

    foreign_share: float
    """Trained tokens that the policy did not sample, of all trained tokens of its own episodes."""
    masked_share: float
    """Sampled tokens that cannot teach, of those of episodes that did better or worse than their group."""
    direction: float | None
    """Correlation of an episode's advantage with its reward against its group; None where no group differs.

    1 is what a group's z-score gives, -1 teaches the opposite of what was rewarded.
    """

    @classmethod
    def of(cls, batch: TrainBatch, advantage_N: Tensor, *, uses_advantage: bool = True) -> Signal:
        """Gather it; `uses_advantage`: whether a token without advantage has no gradient."""
        own_E = np.array([e.episode.origin == "policy" for e in batch.episodes], dtype=bool)
        episode_N = batch.episode_N.numpy()
        sampled_N = batch.columns["behaviour"].isfinite().numpy()
        values_N = advantage_N.detach().cpu().double().numpy()
        count = len(batch.episodes)
        own_N = own_E[episode_N]
        paid_N = sampled_N & ((values_N != 0) | (not uses_advantage))
        differs_E = own_E & (against_group(batch, batch.reward_E.tolist()) != 0)
        sampled = sum(e.episode.num_sampled for e, d in zip(batch.episodes, differs_E, strict=True) if d)
        mean_E = per_episode(values_N, episode_N, count)
        return cls(
            foreign_share=float((own_N & ~sampled_N).sum() / max(own_N.sum(), 1)),
            masked_share=1 - float((paid_N & differs_E[episode_N]).sum() / sampled) if sampled else 0.0,
            direction=correlation(given(batch), mean_E),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """How a step changed the log-probabilities of some of the tokens that it trained on."""

    size: float
    """Mean |change| of a token, in nats."""
    direction: float | None
    """Correlation of an episode's mean change with its reward against its group; None as above."""

    @classmethod
    def of(cls, batch: TrainBatch, rows: Sequence[int], change_N: Tensor) -> Move:
        """Gather it from the changes of the trained tokens of `rows`, one row behind the other."""
        change = change_N.cpu().double().numpy()
        lengths = [len(batch.rows[i].positions) for i in rows]
        mean_R = per_episode(change, np.repeat(np.arange(len(rows)), lengths), len(rows))
        earned_R = given(batch)[[batch.rows[i].episode for i in rows]]
        return cls(size=float(np.abs(change).mean()), direction=correlation(earned_R, mean_R))


def spread_out(rows: Sequence[Chosen], count: int = PROBED) -> list[Chosen]:
    """Choose some of the rows, evenly.

    >>> spread_out([2, 3, 5, 7, 11], 2)
    [2, 5]
    """
    return [rows[i * len(rows) // count] for i in range(count)] if len(rows) > count else list(rows)


def given(batch: TrainBatch) -> Numbers:
    """What the environment gave each episode, against the mean of its group."""
    return against_group(batch, [e.episode.reward for e in batch.episodes])


def against_group(batch: TrainBatch, rewards: Sequence[float]) -> Numbers:
    """Take from each value the mean of its group; equal values give exactly 0."""
    reward_E, group_E = np.array(rewards, dtype=np.float64), batch.group_E.numpy()
    found_E = np.zeros_like(reward_E)
    for group in np.unique(group_E):
        inside = group_E == group
        if np.ptp(reward_E[inside]) > 0:
            found_E[inside] = reward_E[inside] - reward_E[inside].mean()
    return found_E


def per_episode(value_N: Numbers, episode_N: NDArray[np.int64], count: int) -> Numbers:
    """Mean of the tokens of each episode; 0 where it has none."""
    total_E = np.bincount(episode_N, weights=value_N, minlength=count)
    return np.asarray(total_E / np.maximum(np.bincount(episode_N, minlength=count), 1))


def correlation(first: Numbers, second: Numbers) -> float | None:
    """Pearson's, None where one of the two is constant.

    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([-1.0, -2.0, -3.5])), 2)
    -0.99
    """
    if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
        return None
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # values too small to be squared
        value = float(np.corrcoef(first, second)[0, 1])
    return value if math.isfinite(value) else None
