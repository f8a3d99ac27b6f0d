"""The updater: the same step however a batch is cut, padded, ordered or split over contexts."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from agentrl.episode import Context, ScoredGroup, Segment, as_ids
from agentrl.errors import ConfigError
from agentrl.trainers.batch import Row, TrainBatch, make_batch
from agentrl.trainers.comm import Comm
from agentrl.trainers.grpo import grpo
from agentrl.trainers.parts import StepContext, Tokens, Totals
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.standard import EpisodeMean, PpoClip
from agentrl.trainers.updater import Updater
from tests.trainers.making import context, scored, scored_group, small_model
from tests.trainers.updating import RECIPES, SETTINGS, exact_model, gradient, same, step, two_groups

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


def test_weights_of_low_precision_are_refused() -> None:
    with pytest.raises(ConfigError, match="precision='bf16'"):
        Updater(small_model(dtype=torch.bfloat16), SETTINGS, total_steps=1)


def test_bf16_passes_train_float32_weights() -> None:
    updater = Updater(small_model(), SETTINGS, total_steps=1, update=UpdateSettings(precision="bf16"))
    stats = updater.sft_step([Row.of(context(0, [3, 3]))])
    exact = Updater(small_model(), SETTINGS, total_steps=1).sft_step([Row.of(context(0, [3, 3]))])
    assert stats.loss != exact.loss and abs(stats.loss - exact.loss) < 0.1
    assert next(updater.model.parameters()).dtype == torch.float32


# ------------------------------------------------------------------ one gradient, however it is cut


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
    model = exact_model()
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


def test_nothing_behind_the_last_trained_token_is_fed() -> None:
    """An observation that filled the context would cost a pass of its length and teach nothing."""
    prompt = Segment(kind="prompt", ids=as_ids([1, 2]))
    first = Segment(kind="action", ids=as_ids([3]))
    heard = Segment(kind="observation", ids=as_ids([4] * 5))
    second = Segment(kind="action", ids=as_ids([5]), turn=1)
    flood = Segment(kind="observation", ids=as_ids([6] * 100_000), turn=1)
    row = Row.of(Context(segments=(prompt, first, heard, second, flood)))
    assert row.ids.tolist() == [1, 2, 3, *[4] * 5, 5] and row.targets.tolist() == [3, 5]
    assert len(Row.of(Context(segments=(prompt, heard)))) == 7


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
