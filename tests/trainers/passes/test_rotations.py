"""Where rotations depend on the longest row of a pass, each long row has its own."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.backward import backward
from agentrl.trainers.passes.forward import Forward, Scores
from agentrl.trainers.passes.planning import Path
from agentrl.trainers.passes.rotations import steady_context
from tests.trainers.forests import SMALL, VOCABULARY

CONTEXT = 32
LENGTHS = (20, 60, 33, 45, 12, 34)
"""Shorter, longer and, in tokens that the model sees, just as long as the context, in no order."""
ROTATIONS: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0},
    "longrope": {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "factor": 4.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": CONTEXT,
    },
}


def rotating(kind: str) -> Any:
    longest = CONTEXT if kind == "dynamic" else 4 * CONTEXT
    torch.manual_seed(0)
    config = SMALL | {"max_position_embeddings": longest, "rope_parameters": dict(ROTATIONS[kind])}
    return LlamaForCausalLM(LlamaConfig(**config)).double()


def rows_of(lengths: tuple[int, ...]) -> list[Row]:
    random = np.random.default_rng(0)
    return [Row(ids=random.integers(0, VOCABULARY, n), positions=np.arange(n - 1)) for n in lengths]


def alone(kind: str, row: Row) -> Tensor:
    """Log-probs of a row by a model that has seen no other."""
    logits_TV: Tensor = rotating(kind)(torch.from_numpy(row.ids[None, :-1])).logits[0]
    return logits_TV.log_softmax(-1).gather(1, torch.from_numpy(row.targets)[:, None])[:, 0].detach()


@pytest.mark.parametrize("path", ["padded", "packed", "shared", "auto"])
@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_row_reads_the_same_whatever_stands_beside_or_before_it(kind: str, path: Path) -> None:
    rows = rows_of(LENGTHS)
    expected = torch.cat([alone(kind, row) for row in rows])
    forward = Forward(rotating(kind), path=path)
    for _ in range(2):
        assert_close(forward(rows).logp_N.detach(), expected, rtol=0, atol=1e-5)
    passes = forward.passes(rows)
    assert {i for one in passes if len(one.rows) == 1 for i in one.rows} >= {1, 3, 5}
    assert any(len(one.rows) > 1 for one in passes)


@pytest.mark.parametrize("kind", ROTATIONS)
def test_rows_with_one_loss_have_a_pass_each(kind: str) -> None:
    rows = rows_of(LENGTHS)
    model = rotating(kind)

    def loss(members: list[int], scores: Scores) -> Tensor:
        assert sorted(members) == list(range(len(rows)))
        return (scores.logp_N.mean() + 2).square()

    value = backward(Forward(model), rows, loss, units=[list(range(len(rows)))])
    mean = torch.cat([alone(kind, row) for row in rows]).mean()
    assert value == pytest.approx(float((mean + 2).square()), abs=1e-6)
    found = [p.grad for p in model.parameters() if p.grad is not None]
    other = rotating(kind)
    for row in rows:
        torch.autograd.backward(
            Forward(other)([row]).logp_N.sum() * 2 * float(mean + 2) / sum(LENGTHS - np.ones(len(rows)))
        )
    for one, right in zip(found, [p.grad for p in other.parameters() if p.grad is not None], strict=True):
        assert_close(one, right, rtol=1e-5, atol=1e-6)


def test_where_rotations_begin_to_change() -> None:
    def layered() -> nn.Module:
        part: Any = nn.Module()
        part.rope_type, part.original_max_seq_len = {"full": "default", "sliding": "dynamic"}, 7
        return nn.Sequential(part)

    assert steady_context(layered()) == 7
    assert steady_context(rotating("longrope")) == steady_context(rotating("dynamic")) == CONTEXT
    assert steady_context(LlamaForCausalLM(LlamaConfig(**SMALL))) == torch.inf
