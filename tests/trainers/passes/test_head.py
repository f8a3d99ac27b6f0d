"""Log-prob and entropy at the head: exact, differentiable, and never [tokens, vocabulary] whole."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from agentrl.errors import ConfigError
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.head import HeadShape, head_shape, output_head, token_scores
from tests.trainers.forests import family, gemma2
from tests.trainers.tracking import peak_bytes

SHAPES = {
    "plain": HeadShape(),
    "tempered": HeadShape(temperature=0.7),
    "scaled": HeadShape(scale=0.3, temperature=1.3),
    "capped": HeadShape(softcap=2.0, scale=1.5, temperature=0.8),
}


def whole(hidden_ND: Tensor, head: nn.Linear, target_N: Tensor, shape: HeadShape) -> tuple[Tensor, Tensor]:
    """The same by way of all logits."""
    logit_NV = head(hidden_ND) * shape.scale
    if shape.softcap is not None:
        logit_NV = shape.softcap * torch.tanh(logit_NV / shape.softcap)
    logp_NV = (logit_NV / shape.temperature).log_softmax(-1)
    return logp_NV.gather(1, target_N[:, None])[:, 0], -(logp_NV.exp() * logp_NV).sum(-1)


def head_of(
    vocabulary: int, width: int, *, bias: bool = False, dtype: torch.dtype = torch.float64
) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(width, vocabulary, bias=bias, dtype=dtype)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bias", [False, True])
@given(chunk=st.sampled_from([1, 11, 30, 1000]), count=st.integers(1, 12), seed=st.integers(0, 99))
def test_values_and_gradients_are_those_of_all_logits(
    name: str, bias: bool, chunk: int, count: int, seed: int
) -> None:
    torch.manual_seed(seed)
    head, shape = head_of(11, 5, bias=bias), replace(SHAPES[name], chunk=chunk)
    hidden_ND = torch.randn(count, 5, dtype=torch.float64, requires_grad=True)
    target_N = torch.randint(0, 11, (count,))
    weights = torch.randn(2, count, dtype=torch.float64)
    results = []
    for logp_N, entropy_N in (
        token_scores(hidden_ND, head, target_N, shape=shape, entropy=True),
        whole(hidden_ND, head, target_N, shape),
    ):
        assert entropy_N is not None
        inputs = [hidden_ND, *head.parameters()]
        loss = (weights[0] * logp_N).sum() + (weights[1] * entropy_N).sum()
        results.append([logp_N, entropy_N, *torch.autograd.grad(loss, inputs)])
    for ours, expected in zip(*results, strict=True):
        assert_close(ours, expected)


def test_a_gradient_is_asked_for_only_where_it_is_wanted() -> None:
    """With frozen weights, as under an adapter, the hidden states alone get one, and it is the same."""
    head = head_of(11, 5)
    hidden_ND = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    target_N = torch.tensor([1, 10, 0, 3])
    found = []
    for wanted in (True, False):
        head.requires_grad_(wanted)
        logp_N, entropy_N = token_scores(hidden_ND, head, target_N, shape=HeadShape(chunk=22))
        assert entropy_N is None
        found.append(torch.autograd.grad(logp_N.sum(), hidden_ND)[0])
    assert torch.equal(*found) and head.weight.grad is None


def test_configurations_say_what_is_done_to_logits() -> None:
    assert head_shape(family("cohere").config).scale == 0.5
    assert head_shape(family("granite").config).scale == pytest.approx(1 / 3)
    assert head_shape(gemma2().config).softcap == 3.0


def test_a_head_that_is_no_linear_layer_is_named() -> None:
    model = family("qwen2")
    model.lm_head = nn.Sequential(model.lm_head)
    with pytest.raises(ConfigError, match="output head of type Sequential"):
        output_head(model)
    with pytest.raises(ConfigError, match="Sequential"):
        Forward(model)


@pytest.mark.parametrize("entropy", [False, True])
def test_a_large_vocabulary_is_never_held_whole(entropy: bool) -> None:
    """Of 600 x 50,000 logits, 120 MB in fp32, at most a few chunks of 4 MB are held at a time."""
    tokens, vocabulary, width, chunk = 600, 50_000, 16, 2**20
    head = head_of(vocabulary, width, dtype=torch.float32)
    target_N = torch.randint(0, vocabulary, (tokens,))
    hidden_ND = torch.randn(tokens, width, requires_grad=True)

    def work(shape: HeadShape) -> None:
        logp_N, entropy_N = token_scores(hidden_ND, head, target_N, shape=shape, entropy=entropy)
        torch.autograd.backward(logp_N.mean() + (entropy_N.mean() if entropy_N is not None else 0.0))
        head.zero_grad()

    weights = 4 * vocabulary * width
    assert peak_bytes(lambda: work(HeadShape(chunk=chunk))) < 4 * (4 * chunk) + 2 * weights
    assert peak_bytes(lambda: work(HeadShape(chunk=tokens * vocabulary))) > 4 * tokens * vocabulary
