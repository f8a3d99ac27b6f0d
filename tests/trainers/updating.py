"""What the tests of the updater share: groups, a watched updater, one step."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from agentrl.episode import ScoredGroup
from agentrl.trainers.batch import make_batch
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import OptimiserSettings
from agentrl.trainers.parts import StepContext
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.policy import PolicyStats
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.updater import Updater
from tests.trainers.making import scored_group, small_model

SETTINGS = OptimiserSettings(learning_rate=1e-2, grad_clip=math.inf)


def two_groups() -> list[ScoredGroup]:
    return [scored_group("a", [1, 0, 0.5, 0], seed=1), scored_group("b", [0, 1, 1, 0.25], seed=2)]


class Recorded(Updater):
    """An updater that keeps the gradient of each optimiser step and does not move."""

    gradients: list[dict[str, Tensor]]

    def apply(self, loss: float) -> float:
        found = {n: p.grad.clone() for n, p in self.model.named_parameters() if p.grad is not None}
        self.gradients = [*getattr(self, "gradients", []), found]
        self.optimiser.zero_grad()
        return 0.0


def step(
    updater: Updater, groups: Sequence[ScoredGroup], recipe: Recipe, *, context: StepContext | None = None
) -> PolicyStats:
    place = context or StepContext()
    batch = updater.annotate(make_batch(groups), recipe.forward_spec())
    return updater.policy_step(batch, recipe.advantage(batch, place), recipe, place)


def exact_model() -> nn.Module:
    """A small model in float64 throughout: Qwen2's own norms round to float32 in every dtype."""
    model = small_model(dtype=torch.float64)
    for module in list(model.modules()):
        for name, norm in list(module.named_children()):
            if isinstance(norm, Qwen2RMSNorm):
                plain = nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon, dtype=torch.float64)
                plain.weight = norm.weight
                setattr(module, name, plain)
    return model


def gradient(
    groups: Sequence[ScoredGroup],
    recipe: Recipe,
    *,
    max_tokens: int = 4096,
    reference: nn.Module | None = None,
) -> dict[str, Tensor]:
    updater = Recorded(
        exact_model(),
        SETTINGS,
        total_steps=1,
        update=UpdateSettings(max_tokens=max_tokens),
    )
    if reference is not None:
        updater.reference = Forward(reference)
    step(updater, groups, recipe)
    (found,) = updater.gradients
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert max(float(g.abs().max()) for g in a.values()) > 1e-3, "a gradient of zero proves nothing"
    for name in a:
        assert_close(a[name], b[name], rtol=1e-6, atol=1e-8)


RECIPES = {
    "token_mean": grpo(minibatches=1),
    "seq_mean_token_mean": grpo(minibatches=1, aggregate="seq_mean_token_mean"),
    "seq_mean_token_sum": grpo(minibatches=1, aggregate="seq_mean_token_sum"),
    "const_norm": grpo(minibatches=1, aggregate="const_norm", max_length=12, normalise=False),
}
