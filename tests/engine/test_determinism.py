"""A completion's bits follow from weights, ids and request seed: no company, order or history shows."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentrl.engine import trial
from agentrl.engine.complete import complete
from agentrl.engine.network import Network
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import as_ids
from tests.counts import at_most
from tests.engine.serving import MakeModel
from tests.engine.talks import Talk, all_talks, alone, assert_same_bits, talks

BYTES_PER_POSITION = 2 * 2 * 2 * 8 * 4
"""Of the models of conftest: keys and values, layers, heads, head dimension, float32."""


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
@at_most(250)
@given(
    batch=talks(),
    rows=st.integers(1, 8),
    room=st.sampled_from([1, 2, 3, 64]),
    context=st.sampled_from([130, 192]),
)
def test_nothing_but_weights_ids_and_seed_shows(
    family: str, make_model: MakeModel, batch: list[Talk], rows: int, room: int, context: int
) -> None:
    """Rows are fewer than requests, memory is short so that rows are evicted and computed again."""
    model = make_model(family)
    memory = room * 192 * BYTES_PER_POSITION
    engine = TorchEngine(model, capacity_rows=rows, kv_bytes=memory, max_context=context)
    assert engine.capabilities.deterministic and engine.slow_because is None
    asked = asyncio.run(all_talks(engine, batch))
    for a, want in zip(asked, asyncio.run(alone(model, asked)), strict=True):
        assert_same_bits(a.got, want)


def test_a_large_company_changes_no_bit(make_model: MakeModel) -> None:
    """Steps of many sizes, contexts beyond one block of attention keys, heads of 64, vectors with tails."""
    model = make_model(
        hidden_size=200, intermediate_size=555, head_dim=64, vocab_size=1003, max_position_embeddings=1024
    )
    rng = np.random.default_rng(0)
    prompts = [as_ids(rng.integers(0, 1003, int(n))) for n in [700, *rng.integers(1, 90, 39)]]

    async def together(engine: TorchEngine) -> list[Completion]:
        jobs = (complete(engine, p, Sampling(max_tokens=5 + i), seed=i) for i, p in enumerate(prompts))
        done = list(await asyncio.gather(*jobs))
        await engine.close()
        return done

    async def apart(engine: TorchEngine) -> list[Completion]:
        done = [await complete(engine, prompts[i], Sampling(max_tokens=5 + i), seed=i) for i in (39, 0, 20)]
        await engine.close()
        return done

    crowd = asyncio.run(together(TorchEngine(model)))
    for i, want in zip((39, 0, 20), asyncio.run(apart(TorchEngine(model, capacity_rows=1))), strict=True):
        assert_same_bits(crowd[i], want)


@pytest.mark.parametrize("kind", ["packed", "by its own modules"])
def test_several_threads_change_no_bit_either(kind: str, make_model: MakeModel) -> None:
    """With as large a vocabulary as models have: torch deals out sums of that size among threads."""
    windows = {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 1}
    model = make_model(vocab_size=50257, **(windows if kind != "packed" else {}))
    prompts = [as_ids(range(5 + i, 20 + 3 * i)) for i in range(6)]

    def engine() -> TorchEngine:
        return TorchEngine(model, num_threads=2)

    async def one_by_one() -> list[Completion]:
        serving = engine()
        done = [await complete(serving, p, Sampling(max_tokens=8), seed=i) for i, p in enumerate(prompts)]
        await serving.close()
        return done

    async def at_once() -> list[Completion]:
        serving = engine()
        assert (serving.slow_because is None) == (kind == "packed") and serving.capabilities.deterministic
        jobs = (complete(serving, p, Sampling(max_tokens=8), seed=i) for i, p in enumerate(prompts))
        done = list(await asyncio.gather(*jobs))
        await serving.close()
        return done

    for alone_, crowd in zip(asyncio.run(one_by_one()), asyncio.run(at_once()), strict=True):
        assert_same_bits(crowd, alone_)


def test_what_was_evicted_is_computed_again_to_the_same_bits(make_model: MakeModel) -> None:
    model, prompt = make_model(), as_ids(range(30))

    async def turns(engine: TorchEngine, *, disturbed: bool) -> Completion:
        first = await complete(engine, prompt, Sampling(max_tokens=10), seed=1)
        if disturbed:
            await complete(engine, as_ids(range(60, 20, -1)), Sampling(max_tokens=3), seed=5)
        before = engine.stats.prefilled_tokens
        ids = np.concatenate([prompt, first.ids, as_ids([4, 4])])
        second = await complete(engine, ids, Sampling(max_tokens=10), seed=2)
        assert engine.stats.prefilled_tokens - before == (42 if disturbed else 3)
        await engine.close()
        return second

    kept = asyncio.run(turns(TorchEngine(model, capacity_rows=1), disturbed=False))
    evicted = asyncio.run(turns(TorchEngine(model, capacity_rows=1), disturbed=True))
    assert_same_bits(evicted, kept)


def test_the_trial_finds_a_pass_whose_bits_depend_on_company(make_model: MakeModel) -> None:
    model = make_model(hidden_size=64, intermediate_size=128)
    assert trial.repeats(Network(model, max_context=192, tile=16, exact=True), model, 192)
    assert not trial.repeats(Network(model, max_context=192), model, 192)  # one row: another kernel


def test_the_trial_finds_a_pass_that_is_not_the_model(make_model: MakeModel) -> None:
    model = make_model()
    model.model.layers[1].self_attn.scaling = 3.0  # the packed pass takes one scale for all layers
    engine = TorchEngine(model)
    assert engine.slow_because is not None and "disagree" in engine.slow_because
    assert engine.capabilities.deterministic

    async def untempered() -> None:
        got = await complete(engine, [1, 2, 3], Sampling(max_tokens=8), seed=0)
        scores = await engine.score([1, 2, 3, *got.ids.tolist()])
        np.testing.assert_allclose(got.columns.untempered, scores[2:], atol=1e-5)
        await engine.close()

    asyncio.run(untempered())


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_mode_is_what_was_asked_for(deterministic: bool, make_model: MakeModel) -> None:
    engine = TorchEngine(make_model(), deterministic=deterministic)
    assert engine.capabilities.deterministic is deterministic
    asyncio.run(engine.close())


def test_new_weights_reach_the_fused_projections(make_model: MakeModel) -> None:
    """Two engines on one model share what they fuse: both see an update that comes through either."""
    model, other = make_model(), make_model(seed=3)
    first, second = TorchEngine(model), TorchEngine(model)

    async def run() -> None:
        await second.update(dict(other.named_parameters()), 1)
        await first.update(dict(other.named_parameters()), 1)
        got = [await complete(e, [5, 6], Sampling(max_tokens=9), seed=0) for e in (first, second)]
        assert_same_bits(*got)
        with torch.no_grad():
            logits = other(input_ids=torch.tensor([[5, 6, *got[0].ids.tolist()]])).logits[0, 1:-1]
        want = logits.log_softmax(-1).gather(-1, torch.from_numpy(got[0].ids.astype(np.int64))[:, None])
        np.testing.assert_allclose(got[0].columns.untempered, want[:, 0].numpy(), atol=1e-5)
        await first.close()
        await second.close()

    asyncio.run(run())
