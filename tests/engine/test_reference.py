"""Models that the packed pass does not know are served by their own modules, right and repeatable."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MistralConfig, MistralForCausalLM

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import as_ids
from tests.engine.conftest import SETTINGS
from tests.engine.serving import MakeModel
from tests.engine.talks import Talk, all_talks, alone, assert_same_bits, talks

KINDS = ("windows", "mistral", "neox")


def make(kind: str, make_model: MakeModel) -> Any:
    """A model with windows in one layer, with one window for all, and of a family with other layers."""
    torch.manual_seed(0)
    if kind == "windows":
        return make_model(use_sliding_window=True, sliding_window=6, max_window_layers=1)
    built: Any
    if kind == "mistral":
        built = MistralForCausalLM(MistralConfig(**SETTINGS, sliding_window=6))
    else:
        built = GPTNeoXForCausalLM(GPTNeoXConfig(**{**SETTINGS, "num_key_value_heads": 4}))
    return built.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deterministic", [True, False])
def test_log_probs_are_the_models_own(
    kind: str, deterministic: bool, make_model: MakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    model = make(kind, make_model)
    with caplog.at_level(logging.WARNING):
        engine = TorchEngine(model, deterministic=deterministic)
    assert engine.slow_because is not None and engine.slow_because in caplog.text
    assert engine.capabilities.deterministic is deterministic
    prompts = [as_ids(range(n)) for n in (1, 17, 30, 30)]

    async def all_of() -> list[Completion]:
        jobs = (complete(engine, p, Sampling(max_tokens=9), seed=i) for i, p in enumerate(prompts))
        done = list(await asyncio.gather(*jobs))
        await engine.close()
        return done

    for prompt, got in zip(prompts, asyncio.run(all_of()), strict=True):
        ids = torch.from_numpy(np.concatenate([prompt, got.ids])[None].astype(np.int64))
        with torch.no_grad():
            logp = model(input_ids=ids).logits.log_softmax(-1)[0, :-1]
        want = logp.gather(-1, ids[0, 1:, None])[len(prompt) - 1 :, 0]
        np.testing.assert_allclose(got.columns.untempered, want.numpy(), atol=1e-5)


@settings(max_examples=5)
@pytest.mark.parametrize("kind", KINDS)
@given(batch=talks())
def test_nothing_but_weights_ids_and_seed_shows(kind: str, make_model: MakeModel, batch: list[Talk]) -> None:
    model = make(kind, make_model)
    asked = asyncio.run(all_talks(TorchEngine(model, capacity_rows=3), batch))
    for a, want in zip(asked, asyncio.run(alone(model, asked)), strict=True):
        assert_same_bits(a.got, want)


def test_modules_that_someone_watches_are_called(make_model: MakeModel) -> None:
    model, calls = make_model(), list[int]()
    engine = TorchEngine(model)

    async def run() -> None:
        before = await complete(engine, range(20), Sampling(max_tokens=6), seed=0)
        assert not calls
        hook = model.model.layers[1].register_forward_hook(lambda *_: calls.append(1))
        during = await complete(engine, range(20), Sampling(max_tokens=6), seed=0)
        assert len(calls) == 6
        hook.remove()
        after = await complete(engine, range(20), Sampling(max_tokens=6), seed=0)
        assert len(calls) == 6
        assert during.ids.tolist() == before.ids.tolist() == after.ids.tolist()
        await engine.close()

    asyncio.run(run())
