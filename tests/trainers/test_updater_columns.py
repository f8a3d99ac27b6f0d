"""The updater: old, behaviour and reference log-probs, and what must not be silent."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agentrl.episode import Context, Segment, as_ids
from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row, make_batch
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import NonFiniteError, OptimiserSettings
from agentrl.trainers.parts import StepContext, Tokens
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.standard import PpoClip, TokenMean
from agentrl.trainers.updater import Updater
from tests.trainers.making import VOCABULARY, context, scored_group, small_model
from tests.trainers.updating import RECIPES, SETTINGS, Recorded, gradient, same, step, two_groups

# ------------------------------------------------------------------ old, behaviour, reference


class WatchedRatio:
    """The ordinary ratio; keeps what it saw in each minibatch."""

    reads = frozenset({"old"})
    scope = "minibatch"

    def __init__(self) -> None:
        self.old: list[Tensor] = []
        self.seen: list[Tensor] = []

    def __call__(self, tokens: Tokens) -> Tensor:
        log_ratio_N = tokens.logp_N - tokens["old"]
        self.old.append(tokens["old"])
        self.seen.append(log_ratio_N.detach())
        return log_ratio_N


def test_the_ratio_is_one_before_anything_moved() -> None:
    ratio = WatchedRatio()
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    step(updater, two_groups(), replace(grpo(minibatches=3, clip_low=0.2), ratio=ratio))
    assert len(ratio.seen) == 3
    assert bool((ratio.seen[0] == 0).all())
    for later in ratio.seen[1:]:
        assert float(later.abs().max()) > 1e-3


def test_old_is_of_the_weights_before_the_step() -> None:
    """In a second pass the ratio is against the start of the step, not against the last minibatch."""
    ratio = WatchedRatio()
    groups = two_groups()
    model = small_model()
    before = Forward(copy.deepcopy(model))(make_batch(groups).rows).logp_N.detach()
    updater = Updater(model, SETTINGS, total_steps=1)
    recipe = replace(grpo(minibatches=1, inner_epochs=2), ratio=ratio)
    step(updater, groups, recipe)
    assert bool((ratio.seen[0] == 0).all()) and float(ratio.seen[1].abs().max()) > 1e-3
    for old in ratio.old:
        assert_close(old, before, rtol=0, atol=1e-5)


def test_episodes_that_cannot_teach_are_not_passed_through() -> None:
    flat = scored_group("c", [0.7, 0.7, 0.7], seed=3)
    groups = [*two_groups(), flat]

    class Everything(PpoClip):
        uses_advantage = False

    recipe = grpo(minibatches=1)
    same(gradient(groups, recipe), gradient(groups, replace(recipe, surrogate=Everything())))
    with pytest.raises(AssertionError):
        same(gradient(groups, recipe), gradient(two_groups(), recipe))


def test_a_batch_that_cannot_teach_is_skipped() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=5)
    before = copy.deepcopy(updater.model.state_dict())
    for groups in ([], [scored_group("a", [0.1, 0.1, 0.1])], [scored_group("a", [1.0])]):
        stats = step(updater, groups, grpo())
        assert stats.skipped and stats.optimiser_steps == 0 and math.isfinite(stats.loss)
    assert updater.version == 0 and updater.optimiser.step_count == 0
    for name, value in updater.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_mismatch_is_the_distance_to_the_engine() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    groups = two_groups()
    expected = (updater.score(make_batch(groups).rows).logp_N - -1.0).abs()
    stats = step(updater, groups, grpo())
    assert stats.mismatch_mean == pytest.approx(float(expected.mean()), abs=1e-5)
    assert stats.mismatch_max == pytest.approx(float(expected.max()), abs=1e-5)


def test_the_reference_model_stays_where_it_was() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=4)
    recipe = grpo(kl=0.5, minibatches=1)
    with pytest.raises(ConfigError, match="keep_reference"):
        step(updater, two_groups(), recipe)
    updater.keep_reference()
    first, second = (step(updater, two_groups(), recipe).records["kl"] for _ in range(2))
    assert abs(first) < 1e-6 < second


def test_divergence_pulls_back_to_the_reference() -> None:
    """With equal rewards only the KL term teaches, and it moves towards the reference."""
    updater = Updater(small_model(), OptimiserSettings(learning_rate=3e-3), total_steps=30)
    updater.reference = Forward(small_model(seed=1))
    groups = [scored_group("a", [1, 1, 1])]
    recipe = grpo(kl=1.0, kl_estimator="k2", minibatches=1)
    distances = [step(updater, groups, recipe).records["kl"] for _ in range(15)]
    assert distances[-1] < 0.5 * distances[0]


def test_a_column_that_nobody_declared_is_named() -> None:
    class Greedy(PpoClip):
        def __call__(self, log_ratio_N: Tensor, bounds: object, tokens: Tokens) -> Tensor:
            return tokens["entropy"]

    updater = Updater(small_model(), SETTINGS, total_steps=1)
    with pytest.raises(ConfigError, match="no column 'entropy'.*says so in `reads`"):
        step(updater, two_groups(), replace(grpo(), surrogate=Greedy()))


def test_a_part_may_give_the_whole_loss_or_replace_tokens() -> None:
    class Sum(PpoClip):
        scope = "minibatch"
        reads = frozenset({"entropy"})

        def __call__(self, log_ratio_N: Tensor, bounds: object, tokens: Tokens) -> Tensor:
            return (
                -(tokens.advantage_N * tokens.logp_N).sum() / tokens.totals.num_tokens
                + 0 * tokens["entropy"].sum()
            )

    same(
        gradient(two_groups(), RECIPES["token_mean"]),
        gradient(two_groups(), replace(grpo(minibatches=1), surrogate=Sum())),
    )

    def instead(tokens: Tokens) -> tuple[Tensor, Tensor]:
        return -tokens.advantage_N * tokens.logp_N, torch.ones_like(tokens.logp_N, dtype=torch.bool)

    recipe = replace(grpo(minibatches=1), regularisers=(instead,))
    same(gradient(two_groups(), RECIPES["token_mean"]), gradient(two_groups(), recipe))


# ------------------------------------------------------------------ what must not be silent


def test_advantages_of_a_wrong_shape_or_value_are_refused() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    batch = make_batch(two_groups())
    with pytest.raises(ValueError, match="batch.spread"):
        updater.policy_step(batch, torch.zeros(8), grpo(), StepContext())
    with pytest.raises(ValueError, match="one value per episode"):
        batch.spread(torch.zeros(3))
    with pytest.raises(NonFiniteError, match="advantage is not finite"):
        updater.policy_step(batch, torch.full((batch.num_tokens,), torch.nan), grpo(), StepContext())


def test_a_broken_model_is_named_and_not_stepped() -> None:
    model = small_model()
    updater = Updater(model, SETTINGS, total_steps=1)
    with torch.no_grad():
        next(model.parameters())[:] = torch.nan
    with pytest.raises(NonFiniteError, match="the loss is nan at learning rate 0.01"):
        updater.sft_step([Row.of(context(0, [2]))])
    assert updater.version == 0


def test_an_infinite_gradient_is_named() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    (parameter, *_) = updater.optimiser.parameters
    parameter.grad = torch.full_like(parameter, torch.inf)
    with pytest.raises(NonFiniteError, match="norm is inf"):
        updater.apply(0.5)
    assert parameter.grad is None


def test_an_extreme_ratio_is_limited_and_counted() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1)
    groups = two_groups()
    batch = make_batch(groups)
    far = batch.with_column("old", torch.full((batch.num_tokens,), -800.0))
    recipe = grpo(minibatches=1)
    stats = updater.policy_step(far, recipe.advantage(far, StepContext()), recipe, StepContext())
    assert stats.records["ratio_limited"] == batch.num_tokens and math.isfinite(stats.loss)
    assert 0 < stats.clip_share < 1


def test_the_norm_of_a_step_is_clipped() -> None:
    def moved(grad_clip: float) -> float:
        model = small_model()
        before = copy.deepcopy(model.state_dict())
        settings = OptimiserSettings(learning_rate=1.0, grad_clip=grad_clip, beta1=0.0, beta2=0.0)
        updater = Updater(model, settings, total_steps=1)
        updater.sft_step([Row.of(context(0, [4]))])
        return max(float((v - before[n]).abs().max()) for n, v in model.state_dict().items())

    # Adam without memory moves by g / (|g| + 1e-8): only a gradient near 1e-8 moves less than the rate.
    assert moved(1e-9) < 0.2 < 0.99 < moved(1.0)


# ------------------------------------------------------------------ demonstrations, state


def test_a_small_batch_is_learnt_by_heart() -> None:
    updater = Updater(small_model(), OptimiserSettings(learning_rate=1e-2, beta2=0.98), total_steps=120)
    rows = [Row.of(context(seed, [3, 2])) for seed in range(4)]
    losses = [updater.sft_step(rows).loss for _ in range(120)]
    assert losses[0] > math.log(VOCABULARY) * 0.8 and losses[-1] < 0.05


def test_demonstrations_without_an_action_are_refused() -> None:
    silent = Row.of(Context(segments=(Segment(kind="prompt", ids=as_ids([1, 2])),)))
    with pytest.raises(ConfigError, match="without a token of the agent"):
        Updater(small_model(), SETTINGS, total_steps=1).sft_step([silent])


def test_demonstrations_weigh_tokens_alike_however_they_are_cut() -> None:
    rows = [Row.of(context(seed, [1 + seed, 2])) for seed in range(5)]
    found = []
    for max_tokens in (1, 4096):
        update = UpdateSettings(max_tokens=max_tokens)
        updater = Recorded(small_model(dtype=torch.float64), SETTINGS, total_steps=1, update=update)
        updater.sft_step(rows)
        found.append(updater.gradients[0])
    same(*found)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    recipe = grpo(learning_rate=1e-3, final_rate=0.0)
    settings = recipe.optimiser
    updater = Updater(small_model(), settings, total_steps=4)
    for index in range(2):
        step(updater, two_groups(), recipe, context=StepContext(step=index))
    kept, weights = copy.deepcopy(updater.state_dict()), copy.deepcopy(updater.model.state_dict())
    other = Updater(small_model(seed=9), settings, total_steps=4)
    other.model.load_state_dict(weights)
    other.load_state_dict(kept)
    for which in (updater, other):
        step(which, two_groups(), recipe, context=StepContext(step=2))
    assert other.version == updater.version == 3
    for name, value in updater.named_tensors().items():
        assert torch.equal(value, other.named_tensors()[name])


def test_an_aggregate_is_found_by_its_name() -> None:
    assert isinstance(grpo().aggregate, TokenMean)
