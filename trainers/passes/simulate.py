"""A training pass with tensors that have shapes and no values: what it would take, without taking it."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from agentrl.trainers.batch import Row
from agentrl.trainers.passes.forward import Forward
from agentrl.trainers.passes.lora import MERGED, Adapter
from agentrl.trainers.passes.planning import Pass
from agentrl.trainers.passes.rotations import hold_frequencies
from agentrl.trainers.passes.settings import UpdateSettings

PRODUCTS = [getattr(torch.ops.aten, name) for name in ("addmm_", "baddbmm_", "addbmm", "addbmm_")]
"""Matrix products that are added up; torch's counter knows those alone that give a tensor of their own."""
ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """What forward and backward passes over some rows take."""

    num_fed: int
    """Tokens of the rows."""
    num_trained: int
    """Numbers that the optimiser moves."""
    num_merged: int
    """Weights that an adapter is added to where they are handed over; 0 without one."""
    flops: float
    """Of matrix products and attention; a masked pair of query and key counts like any other."""
    peak_bytes: int
    """Most bytes held at a time beyond the weights; the gradients are among them."""


def simulate(model: Any, rows: Sequence[Row], update: UpdateSettings) -> Simulated:
    """Run the passes of an update over `rows`, with the model's shapes alone.

    Args:
        model: Gives class, configuration, device and type of the weights; it is not touched.
        rows: Each with at least one trained token.
        update: How passes run, and whether an adapter is trained.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        forward = update.forward(shadow_of(model, update))
        hold_frequencies(forward.model)
        passes = forward.passes(rows)
        with Held() as held:
            run_all(forward, passes)
        forward.model.zero_grad()
        with counter() as flops:  # by itself: its hooks on modules keep tensors alive
            run_all(forward, passes)
    weights = dict(forward.model.named_parameters())
    return Simulated(
        num_fed=sum(map(len, rows)),
        num_trained=sum(p.numel() for p in weights.values() if p.requires_grad),
        num_merged=sum(p.numel() for name, p in weights.items() if name.endswith(MERGED)),
        flops=float(flops.get_total_flops()),
        peak_bytes=held.most,
    )


def run_all(forward: Forward, passes: Sequence[Pass]) -> None:
    """Take the gradient of every pass, with a loss of no size."""
    for one in passes:
        torch.autograd.backward(forward.run(one).logp_N.sum())


def shadow_of(model: Any, update: UpdateSettings) -> nn.Module:
    """Give a model of the same shapes, with an adapter if one is trained; called where tensors are fake."""
    weight = model.get_output_embeddings().weight
    with unset_fake_temporarily(), torch.device("meta"):  # peft moves its layers, which fake ones refuse
        shadow: nn.Module = type(model)._from_config(model.config, dtype=weight.dtype)
        if update.lora_rank:
            Adapter(shadow, rank=update.lora_rank, alpha=update.alpha, seed=0)
    made: dict[int, Tensor] = {}
    for module in shadow.modules():
        for tensors in (module._parameters, module._buffers):
            for name, old in tensors.items():
                if old is not None and id(old) not in made:
                    fresh = torch.empty_like(old, device=weight.device)
                    trained = isinstance(old, nn.Parameter)
                    made[id(old)] = nn.Parameter(fresh, requires_grad=old.requires_grad) if trained else fresh
                if old is not None:
                    tensors[name] = made[id(old)]  # type: ignore[assignment]
    return shadow


def counter() -> FlopCounterMode:
    """Give torch's counter of operations, with what it does not know: attention on a CPU, sums in place."""
    count: Any = sdpa_flop_count
    count_backward: Any = sdpa_backward_flop_count

    def forward(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **more: Any) -> int:
        return int(count(query, key, value))

    def backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **more: Any) -> int:
        return int(count_backward(grad, query, key, value))

    def product(total: Any, one: Any, other: Any, *args: Any, **more: Any) -> int:
        return int(2 * math.prod(one) * other[-1])

    known: dict[Any, Any] = {ATTENTION: forward, ATTENTION_BACKWARD: backward}
    return FlopCounterMode(display=False, custom_mapping=known | dict.fromkeys(PRODUCTS, product))


class Held(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that come into being while it is on, until they are gone."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it gives."""
        result = func(*args, **(kwargs or {}))
        before = {id_of(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        for one in tree_leaves(result):
            if isinstance(one, Tensor) and id_of(one) not in before | self._known:
                self._hold(one)
        return result

    def _hold(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), id_of(tensor)
        size = storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def id_of(tensor: Tensor) -> int:
    """Tell storages apart."""
    return int(tensor.untyped_storage()._cdata)
