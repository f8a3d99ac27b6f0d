"""What a pass is said to take, and what it then takes; and that sharing pays."""

import copy

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from agentrl.trainers.batch import Row
from agentrl.trainers.passes import head
from agentrl.trainers.passes.lora import Adapter
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.passes.simulate import counter, simulate
from agentrl.trainers.passes.train_pass import compare_passes, recorded_rows
from tests.trainers.forests import SMALL, random_rows
from tests.trainers.passes.test_rotations import LENGTHS, ROTATIONS, rotating, rows_of
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
        adapter = Adapter(real, rank=update.lora_rank, alpha=update.alpha, seed=0)
        own = {p.data_ptr() for p in real.parameters()}
        merged = [t for t in adapter.named_tensors().values() if t.data_ptr() not in own]
        assert found.num_merged == sum(t.numel() for t in merged) > found.num_trained
    else:
        assert found.num_merged == 0

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


@pytest.mark.parametrize("kind", ROTATIONS)
def test_rotations_that_change_with_the_length(kind: str) -> None:
    """Long rows have passes of their own; which frequencies they have costs nothing."""
    rows, model = rows_of(LENGTHS), rotating(kind)
    found = simulate(model, rows, UpdateSettings())
    forward = UpdateSettings().forward(model)
    with counter() as flops:
        for one in forward.passes(rows):
            torch.autograd.backward(forward.run(one).logp_N.sum())
    assert found.flops == flops.get_total_flops() > 0


@pytest.mark.parametrize("chunk", [2**23, 300 * 40], ids=["kept", "chunks"])
def test_the_operations_by_hand(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each product of T tokens with in x out weights takes 2 * T * in * out, twice more on the way back."""
    monkeypatch.setitem(head.CHUNK, "cpu", chunk)
    rng, model = np.random.default_rng(0), larger_model()
    rows = [Row(ids=rng.integers(0, 300, 51), positions=np.arange(10, 50)) for _ in range(8)]
    width = SMALL["head_dim"]
    num_heads, num_kv = SMALL["num_attention_heads"], SMALL["num_key_value_heads"]
    fed = 8 * 50
    linear = 64 * width * 2 * (num_heads + num_kv) + 3 * 64 * 160
    attention = 8 * num_heads * 50 * 50 * width  # a product of queries, keys: 2 forward, 5 back
    output = 8 * 40 * 64 * 300
    by_hand = 3 * (6 * fed * linear + 14 * attention) + 2 * output * (3 if chunk == 2**23 else 4)
    assert simulate(model, rows, UpdateSettings(path="padded")).flops == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize("name", ["addmm_", "baddbmm_", "addbmm_", "addmm", "mm"])
def test_every_form_of_a_product_counts(name: str) -> None:
    batch = () if name in ("addmm", "addmm_", "mm") else (3,)
    one, other = torch.ones(*batch, 10, 7), torch.ones(*batch, 7, 5)
    total = torch.zeros(*(batch if name == "baddbmm_" else ()), 10, 5)
    with counter() as flops:
        torch.mm(one, other, out=total) if name == "mm" else getattr(total, name)(one, other)
    assert flops.get_total_flops() == 2 * 10 * 7 * 5 * (3 if batch else 1)


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
