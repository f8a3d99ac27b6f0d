"""What a pass is said to take, and what it then takes; and that sharing pays."""

import copy

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.trainers.lora import Adapter
from agentrl.trainers.simulate import counter, simulate
from agentrl.trainers.train_pass import compare_passes, recorded_rows
from agentrl.trainers.update_settings import UpdateSettings
from tests.trainers.forests import SMALL, random_rows
from tests.trainers.tracking import peak_bytes

LARGER = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3}


def larger_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    return Qwen2ForCausalLM(Qwen2Config(**SMALL | LARGER | {"max_position_embeddings": 1024}))


@pytest.mark.parametrize(
    "update",
    [
        UpdateSettings(path="padded"),
        UpdateSettings(path="shared", checkpointing=True),
        UpdateSettings(path="packed", max_tokens=300, precision="bf16"),
        UpdateSettings(lora_rank=8),
    ],
    ids=["padded", "checkpoints", "cut", "lora"],
)
def test_a_simulated_pass_takes_what_the_real_one_takes(update: UpdateSettings) -> None:
    rows, model = random_rows(8, seed=0, longest=100), larger_model()
    found = simulate(model, rows, update)
    real = copy.deepcopy(model)
    forward = update.forward(real)
    if update.lora_rank:
        Adapter(real, rank=update.lora_rank, alpha=update.alpha, seed=0)

    def work() -> None:
        for one in forward.passes(rows):
            torch.autograd.backward(forward.run(one).logp_N.sum())

    with counter() as flops:
        work()
    assert found.flops == flops.get_total_flops()
    real.zero_grad()
    # Without values, a backward pass makes a sum of gradients anew that is otherwise added up in place.
    assert found.peak_bytes == pytest.approx(peak_bytes(work), rel=0.1)
    assert found.num_trained == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters())


def test_what_is_shared_is_not_computed_again() -> None:
    """Of rows with a long prompt in common, the shared pass counts at most half of the operations."""
    rows = recorded_rows(groups=3, group_size=8, vocabulary=300)
    model = larger_model()
    packed, shared = (simulate(model, rows, UpdateSettings(path=p)).flops for p in ("packed", "shared"))
    assert shared < 0.5 * packed


def test_compared_passes_take_the_same_gradient() -> None:
    rows = recorded_rows(groups=2, group_size=4, vocabulary=300, prompt=20, rest=10)
    found = compare_passes(larger_model(), rows, runs=1)
    assert found["difference"] < 1e-5 and found["seconds"].keys() == {"padded", "packed", "ours"}
