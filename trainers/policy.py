"""One policy update: how it is dealt out, what of it stays together, and the loss of a cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row
from agentrl.trainers.parts import Scope, Tokens
from agentrl.trainers.recipe import Recipe


def policy_loss(recipe: Recipe, tokens: Tokens) -> Tensor:
    """Give the loss of a cut of an update; the losses of all its cuts add up to that of the whole."""
    loss_N = recipe.surrogate(recipe.ratio(tokens), recipe.bounds(tokens), tokens)
    if recipe.correction is not None:
        if loss_N.ndim == 0:
            raise ConfigError(f"{type(recipe.surrogate).__name__} gives no loss per token to correct")
        loss_N = loss_N * recipe.correction(tokens)
    if loss_N.ndim == 0:
        return loss_N + _regularised(recipe, tokens, torch.zeros_like(tokens.logp_N))
    return _regularised(recipe, tokens, loss_N)


def _regularised(recipe: Recipe, tokens: Tokens, loss_N: Tensor) -> Tensor:
    for regulariser in recipe.regularisers:
        added_N, replaced_N = regulariser(tokens)
        loss_N = (loss_N if replaced_N is None else loss_N.masked_fill(replaced_N, 0.0)) + added_N
    return recipe.aggregate(loss_N, tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyStats:
    """What one policy step did; means over its optimiser steps."""

    skipped: bool
    """Nothing could teach: every advantage was 0; the weights and the schedule stayed as they were."""
    optimiser_steps: int = 0
    num_tokens: int = 0
    """Trained tokens in the batch, those of zero advantage included."""
    loss: float = 0.0
    grad_norm: float = 0.0
    learning_rate: float = 0.0
    clip_share: float = 0.0
    """Share of the tokens that a clip bound left without gradient."""
    mismatch_mean: float = 0.0
    """Mean |old - behaviour| log-probability: how far trainer and engine are apart on the same weights."""
    mismatch_max: float = 0.0
    mismatch_first: float = 0.0
    """The mean over tokens of first turns alone."""
    moved: float | None = None
    """Mean |change| of a trained token's log-probability by the whole step, in nats; None without rows."""
    moved_right: float | None = None
    """Correlation of that with the reward; see `agentrl.trainers.signal`."""
    records: Mapping[str, float] = field(default_factory=dict)


def units_of(rows: Sequence[Row], groups: Sequence[int], *, scope: Scope) -> list[list[int]]:
    """Gather the rows of an update that no part lets apart; gives indices.

    Args:
        rows: Rows of one optimiser step.
        groups: Group of each row.
        scope: What must stay together.
    """
    key: dict[Scope, Callable[[int], int]] = {
        "token": lambda i: i,
        "episode": lambda i: rows[i].episode,
        "group": lambda i: groups[i],
        "minibatch": lambda i: 0,
    }
    units: dict[int, list[int]] = {}
    for index in range(len(rows)):
        units.setdefault(key[scope](index), []).append(index)
    return list(units.values())


def plan_minibatches(
    rows: Sequence[Row], episodes: Sequence[int], groups: Sequence[int], recipe: Recipe, *, seed: int
) -> list[tuple[list[int], list[int]]]:
    """Deal the episodes of a step out to its optimiser steps, anew in every inner epoch.

    Gives (episodes, rows) of each optimiser step; whole groups stay together where a part's scope asks for
    it.
    """
    whole_groups = recipe.forward_spec().scope == "group"
    unit_of = {e: (groups[e] if whole_groups else e) for e in episodes}
    units = sorted(set(unit_of.values()))
    random = np.random.default_rng(seed)
    plan = []
    for _ in range(recipe.inner_epochs):
        for share in np.array_split(random.permutation(units), recipe.minibatches):
            chosen = set(share.tolist())
            members = [e for e in episodes if unit_of[e] in chosen]
            inside = set(members)
            plan.append((members, [i for i, row in enumerate(rows) if row.episode in inside]))
    return plan
