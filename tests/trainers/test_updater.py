"""The updater: the same step however a batch is cut, padded, ordered or split over contexts."""

import copy
import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from agentrl.episode import Context, ScoredGroup, Segment, as_ids
from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row, TrainBatch, make_batch
from agentrl.trainers.comm import Comm
from agentrl.trainers.forward import Forward, by_length
from agentrl.trainers.grpo import grpo
from agentrl.trainers.optimiser import NonFiniteError, OptimiserSettings
from agentrl.trainers.parts import StepContext, Tokens, Totals
from agentrl.trainers.policy import PolicyStats
from agentrl.trainers.recipe import Recipe
from agentrl.trainers.standard import EpisodeMean, PpoClip, TokenMean
from agentrl.trainers.updater import Updater
from tests.trainers.making import VOCABULARY, context, scored, scored_group, small_model

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


def gradient(
    groups: Sequence[ScoredGroup],
    recipe: Recipe,
    *,
    max_tokens: int = 4096,
    reference: nn.Module | None = None,
) -> dict[str, Tensor]:
    updater = Recorded(small_model(dtype=torch.float64), SETTINGS, total_steps=1, max_tokens=max_tokens)
    if reference is not None:
        updater.reference = Forward(reference)
    step(updater, groups, recipe)
    (found,) = updater.gradients
    return found


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert max(float(g.abs().max()) for g in a.values()) > 1e-3, "a gradient of zero proves nothing"
    for name in a:
        assert_close(a[name], b[name], rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------ passes


@pytest.mark.parametrize("tied", [True, False])
def test_log_probabilities_are_those_of_the_whole_model(tied: bool) -> None:
    model = small_model(tied=tied)
    rows = [Row.of(context(seed, [2, 1, 3][: 1 + seed % 3])) for seed in range(7)]
    scores = Forward(model, max_tokens=20)(rows, temperature=0.7, entropy=True)
    expected, entropies = [], []
    for row in rows:
        with torch.no_grad():
            logits = model(torch.from_numpy(row.ids)[None]).logits[0] / 0.7
        logp = logits.log_softmax(-1)[torch.from_numpy(row.positions)]
        expected.append(logp.gather(1, torch.from_numpy(row.targets)[:, None])[:, 0])
        entropies.append(-(logp.exp() * logp).sum(-1))
    assert_close(scores.logp_N.detach(), torch.cat(expected), rtol=0, atol=1e-5)
    assert scores.entropy_N is not None
    assert_close(scores.entropy_N.detach(), torch.cat(entropies), rtol=0, atol=1e-5)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=30), st.integers(10, 200))
def test_buckets_hold_every_row_once_and_fit(lengths: list[int], max_tokens: int) -> None:
    rows = [
        Row(ids=torch.zeros(n, dtype=torch.int64).numpy(), positions=torch.tensor([0]).numpy())
        for n in lengths
    ]
    buckets = by_length(rows, max_tokens=max_tokens)
    assert sorted(i for b in buckets for i in b) == list(range(len(rows)))
    for bucket in buckets:
        widths = [lengths[i] for i in bucket]
        padded = max(widths) * len(widths)
        assert len(bucket) == 1 or padded <= max_tokens
        assert padded * 8 <= max_tokens or sum(widths) >= 0.85 * padded


def test_weights_of_low_precision_are_refused() -> None:
    with pytest.raises(ConfigError, match="precision='bf16'"):
        Updater(small_model(dtype=torch.bfloat16), SETTINGS, total_steps=1)


def test_bf16_passes_train_float32_weights() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1, precision="bf16")
    stats = updater.sft_step([Row.of(context(0, [3, 3]))])
    exact = Updater(small_model(), SETTINGS, total_steps=1).sft_step([Row.of(context(0, [3, 3]))])
    assert stats.loss != exact.loss and abs(stats.loss - exact.loss) < 0.1
    assert next(updater.model.parameters()).dtype == torch.float32


# ------------------------------------------------------------------ one gradient, however it is cut

RECIPES = {
    "token_mean": grpo(minibatches=1),
    "seq_mean_token_mean": grpo(minibatches=1, aggregate="seq_mean_token_mean"),
    "seq_mean_token_sum": grpo(minibatches=1, aggregate="seq_mean_token_sum"),
    "const_norm": grpo(minibatches=1, aggregate="const_norm", max_length=12, normalise=False),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_gradient_does_not_depend_on_the_cut(name: str) -> None:
    whole = gradient(two_groups(), RECIPES[name])
    for max_tokens in (1, 25, 60):
        same(whole, gradient(two_groups(), RECIPES[name], max_tokens=max_tokens))


@pytest.mark.parametrize("scope", ["episode", "group", "minibatch"])
def test_the_gradient_does_not_depend_on_the_scope(scope: str) -> None:
    class Wide(PpoClip):
        pass

    Wide.scope = scope  # type: ignore[attr-defined]
    recipe = replace(grpo(minibatches=1), surrogate=Wide())
    assert recipe.forward_spec().scope == scope
    same(gradient(two_groups(), RECIPES["token_mean"]), gradient(two_groups(), recipe, max_tokens=30))


def test_the_gradient_does_not_depend_on_the_order() -> None:
    groups = two_groups()
    turned = [replace(g, episodes=g.episodes[::-1]) for g in groups[::-1]]
    same(gradient(groups, RECIPES["seq_mean_token_mean"]), gradient(turned, RECIPES["seq_mean_token_mean"]))


def test_the_gradient_is_the_policy_gradient() -> None:
    """At the first step every ratio is 1, so the gradient is that of -A log pi, averaged over tokens."""
    groups = two_groups()
    batch = make_batch(groups)
    model = small_model(dtype=torch.float64)
    weight_N = grpo().advantage(batch, StepContext())
    torch.autograd.backward(-(weight_N * Forward(model)(batch.rows).logp_N).mean())
    expected = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    same(gradient(groups, RECIPES["token_mean"]), expected)


def test_episodes_count_once_however_many_contexts_they_have() -> None:
    """Cutting an episode's tokens into two contexts changes nothing in what counts episodes."""
    first, second = context(1, [2, 1]), context(2, [3])
    alone = context(3, [2])

    def lengths(*contexts: Context) -> TrainBatch:
        members = (scored("a/0", 1, *contexts), scored("a/1", 0, alone))
        return make_batch([ScoredGroup(id="a", episodes=members)])

    batch = lengths(first, second)
    assert batch.length_E.tolist() == [6, 2] and batch.reward_E.tolist() == [1, 0]
    assert batch.episode_N.tolist() == [0] * 6 + [1] * 2
    assert batch.turn_N.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    weight_N = grpo().advantage(batch, StepContext())
    assert len(set(weight_N[:6].tolist())) == 1
    aggregate = EpisodeMean()
    value = aggregate(torch.ones(8), tokens_of(batch))
    assert value == 1


def tokens_of(batch: TrainBatch) -> Tokens:
    zeros = torch.zeros(batch.num_tokens)
    filled = float((batch.length_E > 0).sum())
    empty = len(batch.length_E) - filled
    return Tokens(
        logp_N=zeros,
        advantage_N=zeros,
        episode_N=batch.episode_N,
        length_N=batch.length_E[batch.episode_N],
        totals=Totals(num_tokens=batch.num_tokens, num_episodes=filled, num_empty=empty),
        columns={},
        batch=batch,
        context=StepContext(),
    )


def test_empty_episodes_count_only_when_asked() -> None:
    silent = Context(segments=(Segment(kind="prompt", ids=as_ids([1, 2, 3])),))
    members = (scored("a/0", 1, context(1, [2])), scored("a/1", 0, silent))
    batch = make_batch([ScoredGroup(id="a", episodes=members)])
    assert batch.length_E.tolist() == [2, 0] and len(batch.rows) == 1
    assert EpisodeMean()(torch.ones(2), tokens_of(batch)) == 1
    assert EpisodeMean(count_empty_rows=True)(torch.ones(2), tokens_of(batch)) == 0.5
    same_reward = grpo().advantage(batch, StepContext())
    assert same_reward.shape == (2,) and same_reward.isfinite().all() and bool((same_reward > 0).all())


def test_a_trained_first_token_has_nothing_before_it() -> None:
    only = Context(segments=(Segment(kind="action", ids=as_ids([4, 5])),))
    assert Row.of(only).targets.tolist() == [5]


def test_masked_episodes_keep_their_reward() -> None:
    group = scored_group("a", [1, 0, 0, 0])
    whole, masked = make_batch([group]), make_batch([group], masked=frozenset({"a/0"}))
    assert masked.reward_E.tolist() == whole.reward_E.tolist()
    assert masked.length_E[0] == 0 and masked.num_tokens == whole.num_tokens - int(whole.length_E[0])
    advantage_N = grpo().advantage(masked, StepContext())
    assert bool((advantage_N < 0).all())


def test_failed_episodes_never_enter_a_batch() -> None:
    members = (scored("a/0", 1, context(0, [1]), finish="failed"),)
    with pytest.raises(ValueError, match=r"a/0 failed \(tool\)"):
        make_batch([ScoredGroup(id="a", episodes=members)])


class TwoProcesses:
    """The sums of two processes, played by two threads."""

    def __init__(self) -> None:
        self.barrier, self.values = threading.Barrier(2, timeout=20), [torch.zeros(()), torch.zeros(())]

    def rank(self, index: int) -> Comm:
        class Rank:
            def sum(_, value: Tensor) -> Tensor:
                self.values[index] = value
                self.barrier.wait()
                total = self.values[0] + self.values[1]
                self.barrier.wait()
                return total

        return Rank()


def test_two_processes_make_the_steps_of_one() -> None:
    """Denominators and gradients are sums over processes, also where one of them has nothing to teach."""
    flat = scored_group("c", [0.5, 0.5], seed=5)
    shares = [[*two_groups(), flat][:1], [*two_groups(), flat][1:], [flat]]
    recipe = grpo(minibatches=1, aggregate="seq_mean_token_mean")

    def make(comm: Comm | None) -> Updater:
        return Updater(small_model(dtype=torch.float64), SETTINGS, total_steps=1, comm=comm)

    def weights(updater: Updater, groups: Sequence[ScoredGroup]) -> dict[str, Tensor]:
        step(updater, groups, recipe)
        return updater.named_tensors()

    for first, second in ((shares[0], shares[1]), (shares[0], shares[2])):
        alone, both = weights(make(None), [*first, *second]), TwoProcesses()
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(weights, [make(both.rank(0)), make(both.rank(1))], [first, second]))
        for name, value in alone.items():
            assert_close(results[0][name], value, rtol=1e-6, atol=1e-9)
            assert torch.equal(results[0][name], results[1][name])


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
        updater = Recorded(small_model(dtype=torch.float64), SETTINGS, total_steps=1, max_tokens=max_tokens)
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
