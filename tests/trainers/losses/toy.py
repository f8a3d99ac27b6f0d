"""Toy batches: padded rows with masks, as papers write them, and the flat batch that the parts see."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from agentrl.environment import Observation
from agentrl.episode import Episode, ScoredEpisode, Turn
from agentrl.message import Action
from agentrl.trainers.batch import TrainBatch
from agentrl.trainers.parts import StepContext, Tokens, Totals
from agentrl.trainers.policy import policy_loss
from agentrl.trainers.recipe import Recipe

Matrix = list[list[float]]


@dataclass(frozen=True, kw_only=True)
class Toy:
    """Rows of equal width; a 0 in `mask` is padding or what a tool said."""

    group: list[int]
    reward: list[float]
    mask: list[list[int]]
    new: Matrix
    old: Matrix
    reference: Matrix
    behaviour: Matrix
    turn: list[list[int]] = field(default_factory=list)
    turn_reward: list[list[float]] = field(default_factory=list)
    """Of each row, one per turn."""

    @property
    def mask_BT(self) -> Tensor:
        return torch.tensor(self.mask, dtype=torch.bool)

    def flat(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """The values at trained tokens, one behind the other."""
        return torch.tensor(rows, dtype=torch.float64)[self.mask_BT]


def toy_of(rows: dict[str, Matrix], reward: list[float], *, group: list[int] | None = None) -> Toy:
    """Pad ragged rows; all tokens are trained."""
    width = max(map(len, rows["new"]))
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows["new"]]
    padded = {name: [[*row, *[0.0] * (width - len(row))] for row in m] for name, m in rows.items()}
    padded = {"behaviour": padded["old"]} | padded
    return Toy(
        group=group or [0] * len(reward),
        reward=reward,
        mask=mask,
        new=padded["new"],
        old=padded["old"],
        reference=padded["reference"],
        behaviour=padded["behaviour"],
    )


T0_ROWS: dict[str, Matrix] = {
    "old": [[-0.5, -1.0], [-0.2, -2.0, -0.7], [-1.5], [-0.3, -0.9]],
    "new": [[-0.4, -0.9], [-0.2, -2.5, -0.5], [-1.1], [-0.35, -0.9]],
    "reference": [[-0.6, -1.1], [-0.3, -1.8, -0.9], [-1.4], [-0.3, -1.0]],
}
T0 = toy_of(T0_ROWS, [1.0, 0.0, 0.0, 1.0])
T0_ONE = toy_of(T0_ROWS, [1.0, 0.0, 0.0, 0.0])


def random_toy(seed: int, *, drift: float = 0.4, engine: float = 0.3, empty: bool = True) -> Toy:
    """A batch of groups of different sizes, with gaps of masked tokens and perhaps an empty row."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 5, size=random.integers(1, 4))
    group = np.repeat(np.arange(len(sizes)), sizes)
    rows, width = len(group), int(random.integers(1, 7))
    mask = (random.random((rows, width)) < 0.7).astype(int)
    if not empty:
        mask[np.arange(rows), random.integers(0, width, rows)] = 1
    old = random.uniform(-3, -0.05, (rows, width))
    turn = np.minimum(np.cumsum(random.random((rows, width)) < 0.3, axis=1), 2)
    turn_reward = random.choice([0.0, 0.5, 1.0], (rows, 3))
    extra = random.choice([0.0, 0.25], rows)
    return Toy(
        group=group.tolist(),
        reward=(turn_reward.sum(1) + extra).tolist(),
        mask=mask.tolist(),
        new=(old + random.normal(0, drift, old.shape)).tolist(),
        old=old.tolist(),
        reference=(old + random.normal(0, 0.5, old.shape)).tolist(),
        behaviour=(old + random.normal(0, engine, old.shape)).tolist(),
        turn=turn.tolist(),
        turn_reward=turn_reward.tolist(),
    )


def batch_of(toy: Toy) -> TrainBatch:
    """The flat batch."""
    mask_BT = toy.mask_BT
    turn = toy.turn or [[0] * len(row) for row in toy.mask]
    episode_BT = torch.arange(len(toy.reward))[:, None].expand(mask_BT.shape)
    return TrainBatch(
        rows=(),
        episodes=tuple(
            ScoredEpisode(episode=_episode(toy, row), reward=reward) for row, reward in enumerate(toy.reward)
        ),
        reward_E=torch.tensor(toy.reward, dtype=torch.float64),
        group_E=torch.tensor(toy.group),
        length_E=mask_BT.sum(1),
        episode_N=episode_BT[mask_BT],
        turn_N=torch.tensor(turn)[mask_BT],
        columns={
            "old": toy.flat(toy.old),
            "reference": toy.flat(toy.reference),
            "behaviour": toy.flat(toy.behaviour),
        },
    )


def _episode(toy: Toy, row: int) -> Episode:
    earned = toy.turn_reward[row] if toy.turn_reward else []
    turns = [
        Turn(index=i, action=Action(text=""), observation=Observation(), reward=r)
        for i, r in enumerate(earned)
    ]
    return Episode(
        id=str(row),
        task_id=f"task {toy.group[row]}",
        group_id=str(toy.group[row]),
        finish="terminated",
        contexts=(),
        turns=tuple(turns),
        reward=sum(earned),
    )


def tokens_of(toy: Toy, recipe: Recipe, *, logp_N: Tensor | None = None) -> Tokens:
    """What the token-level parts see of the whole batch, with the advantages of a recipe."""
    batch, context = batch_of(toy), StepContext()
    filled = float((batch.length_E > 0).sum())
    return Tokens(
        logp_N=toy.flat(toy.new).requires_grad_() if logp_N is None else logp_N,
        advantage_N=recipe.advantage(batch, context),
        episode_N=batch.episode_N,
        length_N=batch.length_E[batch.episode_N],
        totals=Totals(
            num_tokens=batch.num_tokens,
            num_episodes=filled,
            num_empty=len(batch.length_E) - filled,
        ),
        columns=batch.columns,
        batch=batch,
        context=context,
    )


def loss_and_gradient(recipe: Recipe, toy: Toy) -> tuple[Tensor, Tensor]:
    """The loss of a recipe on a batch, and its gradient for each trained token."""
    tokens = tokens_of(toy, recipe)
    loss = policy_loss(recipe, tokens)
    (gradient_N,) = torch.autograd.grad(loss, tokens.logp_N)
    return loss.detach(), gradient_N
