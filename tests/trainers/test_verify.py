"""Weights are verified as they are handed over: every sabotage is found and named, an honest one never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from agentrl.engine.fingerprint import fingerprint
from agentrl.engine.torch_engine import TorchEngine
from agentrl.trainers.batch import Row
from agentrl.trainers.grpo import grpo
from agentrl.trainers.passes.settings import UpdateSettings
from agentrl.trainers.updater import Updater
from agentrl.trainers.verify import Verifier, WeightsDiffer
from tests.trainers.making import context, small_model

FIRST, SECOND = (f"model.layers.{i}.self_attn.q_proj.weight" for i in (0, 1))
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@given(
    size=st.integers(1, 70),
    dtype=st.sampled_from(DTYPES),
    place=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_a_fingerprint_sees_every_bit_and_every_place(
    size: int, dtype: torch.dtype, place: int, bit: int
) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
    other = tensor.clone()
    data = other.view(torch.uint8)
    data[place % len(data)] ^= 1 << bit
    assert fingerprint(other) != fingerprint(tensor) == fingerprint(tensor.clone())
    data[place % len(data)] ^= 1 << bit
    assert fingerprint(other) == fingerprint(tensor)
    shifted = torch.cat([tensor[:1], tensor])[1:]  # the same values at an odd address
    assert fingerprint(shifted) == fingerprint(tensor)
    first, second = place % size, (place * 7 + 1) % size
    if tensor[first] != tensor[second]:
        other[first], other[second] = tensor[second], tensor[first]
        assert fingerprint(other) != fingerprint(tensor)


def test_a_fingerprint_over_several_chunks_is_that_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.arange(-5, 8, dtype=torch.int64) * 987654321987654321
    whole = fingerprint(words)
    monkeypatch.setattr("agentrl.engine.fingerprint.CHUNK", 4)
    assert fingerprint(words) == whole == by_hand(words.tolist())


def by_hand(words: list[int]) -> int:
    """The same in Python's integers."""

    def signed(value: int) -> int:
        return (value + (1 << 63)) % (1 << 64) - (1 << 63)

    total = 0
    for place, word in enumerate(words, start=1):
        mixed = signed(place * -7046029254386353131)
        mixed = signed((mixed ^ (mixed >> 29)) * -4658895280553007687)
        total += word * (mixed | 1)
    return signed(total)


class Sabotaged(TorchEngine):
    """Takes weights after `change` has had its way with them."""

    change: Callable[[dict[str, Tensor], Any], Mapping[str, Tensor]]

    async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
        await super().update(self.change(dict(named_tensors), self._model), version)


def noised_row(named: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    row = named[FIRST].clone()
    row[3] += 1e-3 * torch.randn_like(row[3])
    return named | {FIRST: row}


def swapped(named: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    return named | {FIRST: named[SECOND], SECOND: named[FIRST]}


def stale(named: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    """One tensor keeps what the engine has, as an adapter that was not taken."""
    return named | {SECOND: dict(model.named_parameters())[SECOND].detach().clone()}


def honest(named: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    return named


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (honest, None),
        (noised_row, rf"version 2: '{FIRST}' has other values: the hand-over"),
        (swapped, rf"version 2: '{FIRST}' holds what belongs to '{SECOND}'; '{SECOND}' holds what belongs"),
        (stale, rf"version 2: '{SECOND}' still has its earlier values: the hand-over"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checksum_names_the_tensor(change: Any, words: str | None, dtype: torch.dtype) -> None:
    async def run() -> None:
        engine = Sabotaged(small_model(dtype=dtype), capacity_rows=2)
        engine.change = honest
        trainer, verifier = small_model(seed=1), Verifier()
        try:
            await verifier.publish(engine, dict(trainer.named_parameters()), 1)
            engine.change = change
            with torch.no_grad():
                for parameter in trainer.parameters():
                    parameter.mul_(1.1)
            await verifier.publish(engine, dict(trainer.named_parameters()), 2)
        finally:
            await engine.close()

    if words is None:
        asyncio.run(run())
    else:
        with pytest.raises(WeightsDiffer, match=words):
            asyncio.run(run())


def stale_adapter(named: dict[str, Tensor], model: Any) -> Mapping[str, Tensor]:
    """The engine goes on with the adapter that it was given first."""
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    return {name: old[name] if "_proj." in name else value for name, value in named.items()}


@pytest.mark.parametrize("change", [honest, stale_adapter])
def test_an_adapter_that_was_not_taken_is_named(change: Any) -> None:
    """What is handed over is what the model is with its adapter, which two steps have moved."""
    updater = Updater(
        small_model(), grpo(learning_rate=1e-2).optimiser, total_steps=2, update=UpdateSettings(lora_rank=2)
    )

    async def run() -> None:
        engine = Sabotaged(small_model(), capacity_rows=2)
        engine.change = honest
        verifier, rows = Verifier(), [Row.of(context(seed, [3])) for seed in range(4)]
        try:
            for version in (1, 2):
                updater.sft_step(rows)
                await verifier.publish(engine, updater.named_tensors(), version)
                engine.change = change
        finally:
            await engine.close()

    if change is honest:
        asyncio.run(run())
    else:
        with pytest.raises(WeightsDiffer, match=rf"version 2: '{FIRST}' still has its earlier values"):
            asyncio.run(run())


def test_a_tensor_that_is_not_published_again_is_still_compared() -> None:
    """The base under an adapter comes once; the engine here loses it at the second hand-over."""

    class Base(TorchEngine):
        async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
            own = {n: p.detach() for n, p in self._model.named_parameters()}
            if len(named_tensors) == 1:
                own[FIRST] = own[FIRST] * 0.5
            await super().update(own | dict(named_tensors), version)

    async def run() -> None:
        engine, verifier = Base(small_model(), capacity_rows=2), Verifier()
        named = {n: p.detach() for n, p in small_model(seed=1).named_parameters()}
        try:
            await verifier.publish(engine, named, 1)
            await verifier.publish(engine, {SECOND: named[SECOND] * 2}, 2)
        finally:
            await engine.close()

    with pytest.raises(WeightsDiffer, match=f"version 2: '{FIRST}' has other values"):
        asyncio.run(run())


def test_an_engine_of_another_version_is_refused() -> None:
    class Behind(TorchEngine):
        async def update(self, named_tensors: Mapping[str, Tensor], version: int) -> None:
            await super().update(named_tensors, version - 1)

    async def run() -> None:
        engine = Behind(small_model(), capacity_rows=2)
        try:
            await Verifier().publish(engine, dict(small_model().named_parameters()), 5)
        finally:
            await engine.close()

    with pytest.raises(WeightsDiffer, match="serves version 4 after an update to 5"):
        asyncio.run(run())
