"""The engine against plain forward passes, Hugging Face's `generate`, and itself alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Floats, Ids, as_ids
from tests.engine.serving import MakeModel, serve


def reference(model: Any, ids: Sequence[int] | Ids) -> Floats:
    """Log-prob of each token after the first, by one plain forward pass."""
    tokens = torch.tensor(np.asarray(ids)[None].astype(np.int64))
    with torch.no_grad():
        logp = model(input_ids=tokens).logits.log_softmax(-1)[0, :-1]
    values: Floats = logp.gather(-1, tokens[0, 1:, None])[:, 0].numpy()
    return values


def prompts(count: int, seed: int = 0, longest: int = 40) -> list[Ids]:
    rng = np.random.default_rng(seed)
    return [as_ids(rng.integers(0, 61, int(n))) for n in rng.integers(1, longest, count)]


async def all_of(engine: TorchEngine, batch: list[Ids], sampling: Sampling) -> list[Completion]:
    return list(await asyncio.gather(*(complete(engine, p, sampling, seed=i) for i, p in enumerate(batch))))


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_columns_equal_a_plain_forward_pass(family: str, deterministic: bool, make_model: MakeModel) -> None:
    model, batch = make_model(family), prompts(24)
    sampling = Sampling(max_tokens=12)
    done = serve(model, lambda e: all_of(e, batch, sampling), deterministic=deterministic)
    for prompt, got in zip(batch, done, strict=True):
        want = reference(model, np.concatenate([prompt, got.ids]))[len(prompt) - 1 :]
        np.testing.assert_allclose(got.columns.untempered, want, atol=1e-5)
        np.testing.assert_array_equal(got.columns.logp, got.columns.untempered)
        with torch.no_grad():
            ids = np.concatenate([prompt, got.ids])[None].astype(np.int64)
            logits = model(input_ids=torch.from_numpy(ids)).logits[0, len(prompt) - 1 : -1]
        entropy = -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)
        np.testing.assert_allclose(got.columns.entropy, entropy.numpy(), atol=1e-5)
        assert got.finish == "length" and len(got.ids) == 12


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_greedy_equals_generate(family: str, make_model: MakeModel) -> None:
    model, batch = make_model(family), prompts(6, seed=1)
    done = serve(model, lambda e: all_of(e, batch, Sampling(max_tokens=16, temperature=0)))
    for prompt, got in zip(batch, done, strict=True):
        ids = torch.from_numpy(prompt[None].astype(np.int64))
        want = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False, eos_token_id=None
        )
        assert got.ids.tolist() == want[0, len(prompt) :].tolist()
        assert not got.columns.logp.any() and (got.columns.untempered < 0).all()


def test_score_equals_a_plain_forward_pass(make_model: MakeModel) -> None:
    model, ids = make_model(), prompts(1, longest=3)[0].tolist() + list(range(50))
    np.testing.assert_allclose(serve(model, lambda e: e.score(ids)), reference(model, ids), atol=1e-5)
    assert serve(model, lambda e: e.score([3])).shape == (0,)


@pytest.mark.timeout(900)
@given(data=st.data())
def test_company_changes_nothing(make_model: MakeModel, data: st.DataObject) -> None:
    """Requests that come and go at any time, share prefixes and outnumber the rows draw as if alone."""
    count = data.draw(st.integers(2, 14))
    delays = data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    lengths = data.draw(st.lists(st.integers(1, 20), min_size=count, max_size=count))
    rows = data.draw(st.integers(1, 8))
    shared, model = prompts(1, seed=5, longest=30)[0], make_model()
    batch = [
        np.concatenate([shared[: 3 * i], p]) for i, p in enumerate(prompts(count, seed=count, longest=20))
    ]

    async def one(engine: TorchEngine, i: int, delay: int) -> Completion:
        await asyncio.sleep(delay / 1000)
        sampling = Sampling(max_tokens=lengths[i], temperature=1.3, top_p=0.95, stop_ids=frozenset({7, 9}))
        return await complete(engine, batch[i], sampling, seed=i)

    async def together(engine: TorchEngine) -> list[Completion]:
        return list(await asyncio.gather(*(one(engine, i, delays[i]) for i in range(count))))

    async def alone(engine: TorchEngine) -> list[Completion]:
        return [await one(engine, i, 0) for i in range(count)]

    crowd = serve(model, together, capacity_rows=rows)
    for got, want in zip(crowd, serve(model, alone), strict=True):
        assert got.ids.tolist() == want.ids.tolist() and got.finish == want.finish
        np.testing.assert_allclose(got.columns.logp, want.columns.logp, atol=1e-5)


def test_a_second_turn_reuses_keys_and_values(make_model: MakeModel) -> None:
    model, prompt = make_model(), as_ids(range(30))

    async def turns(engine: TorchEngine) -> tuple[Ids, Completion]:
        first = await complete(engine, prompt, Sampling(max_tokens=10), seed=1)
        ids = np.concatenate([prompt, first.ids, as_ids([5, 6, 7])])
        before = engine.stats
        second = await complete(engine, ids, Sampling(max_tokens=10), seed=2)
        after = engine.stats
        assert after.reused_tokens - before.reused_tokens == 39  # the last sampled token was never fed
        assert after.prefilled_tokens - before.prefilled_tokens == 4
        return ids, second

    ids, second = serve(model, turns)
    fresh = serve(model, lambda e: complete(e, ids, Sampling(max_tokens=10), seed=2))
    assert second.ids.tolist() == fresh.ids.tolist()
    np.testing.assert_allclose(second.columns.untempered, fresh.columns.untempered, atol=1e-5)


def test_attempts_of_a_group_compute_their_prompt_once(make_model: MakeModel) -> None:
    model, prompt = make_model(), as_ids(range(40))

    async def group(engine: TorchEngine) -> int:
        done = await all_of(engine, [prompt] * 8, Sampling(max_tokens=6))
        assert len({tuple(c.ids.tolist()) for c in done}) > 4
        for got in done:
            want = reference(model, np.concatenate([prompt, got.ids]))[39:]
            np.testing.assert_allclose(got.columns.untempered, want, atol=1e-5)
        return engine.stats.prefilled_tokens

    assert serve(model, group) == 40 + 7


@given(cut=st.integers(1, 19), seed=st.integers(-(2**70), 2**70))
def test_a_fork_draws_what_the_whole_would_have_drawn(make_model: MakeModel, cut: int, seed: int) -> None:
    prompt = as_ids([3, 1, 4])

    async def fork(engine: TorchEngine) -> None:
        whole = await complete(engine, prompt, Sampling(max_tokens=20), seed=seed)
        ids = np.concatenate([prompt, whole.ids[:cut]])
        rest = await complete(engine, ids, Sampling(max_tokens=20 - cut), seed=seed)
        assert rest.ids.tolist() == whole.ids[cut:].tolist()

    serve(make_model(), fork)


def test_a_live_request_is_forked(make_model: MakeModel) -> None:
    """The second request shares what the first, still running, holds: it is copied and computed right."""
    model, prompt = make_model(), as_ids(range(50))

    async def two(engine: TorchEngine) -> None:
        stream = engine.generate(prompt, Sampling(max_tokens=100), seed=0)
        head = [(await anext(stream)).ids[0] for _ in range(5)]
        ids = np.concatenate([prompt, as_ids(head), as_ids([8])])
        fork = await complete(engine, ids, Sampling(max_tokens=5), seed=1)
        assert engine.stats.reused_tokens >= 54
        rest = [c.ids[0] async for c in stream]
        assert len(rest) == 95
        for begin, tail in ((ids, fork.ids), (prompt, as_ids(head + rest))):
            assert np.isfinite(reference(model, np.concatenate([begin, tail]))).all()
        want = reference(model, np.concatenate([ids, fork.ids]))[len(ids) - 1 :]
        np.testing.assert_allclose(fork.columns.untempered, want, atol=1e-5)

    serve(model, two, stream=True)


def test_the_model_receives_exactly_prompt_and_completion(make_model: MakeModel) -> None:
    model, seen = make_model(), list[int]()

    def hook(module: Any, args: Any, kwargs: Any) -> None:
        assert kwargs["input_ids"].shape[0] == 1
        assert kwargs["position_ids"][0, 0] == len(seen)
        seen.extend(kwargs["input_ids"][0].tolist())

    handle = model.register_forward_pre_hook(hook, with_kwargs=True)

    async def turns(engine: TorchEngine) -> Ids:
        ids = as_ids(range(20))
        for turn in range(3):
            got = await complete(engine, ids, Sampling(max_tokens=7), seed=turn)
            ids = np.concatenate([ids, got.ids, as_ids([50, 51, 52, 53])])
        return ids[:-4]

    ids = serve(model, turns)
    handle.remove()
    assert seen == ids[:-1].tolist()  # the last sampled token has nothing after it that would need it


def test_streamed_chunks_join_to_the_same(make_model: MakeModel) -> None:
    model, prompt = make_model(), as_ids([1, 2, 3])
    whole = serve(model, lambda e: complete(e, prompt, Sampling(max_tokens=9), seed=4))
    joined = serve(model, lambda e: complete(e, prompt, Sampling(max_tokens=9), seed=4), stream=True)
    assert joined.ids.tolist() == whole.ids.tolist() and joined.finish == whole.finish
    np.testing.assert_allclose(joined.columns.logp, whole.columns.logp, atol=1e-6)


def test_long_contexts_grow_the_pool_and_a_small_budget_queues(make_model: MakeModel) -> None:
    """Two rows of 192 positions are all that the budget allows; every request is served all the same."""
    model, batch = make_model(), prompts(9, seed=3, longest=90)
    bytes_per_position = 2 * 2 * 2 * 8 * 4
    options = {"kv_bytes": 2 * 192 * bytes_per_position}
    done = serve(model, lambda e: all_of(e, batch, Sampling(max_tokens=100)), **options)
    for prompt, got in zip(batch, done, strict=True):
        want = reference(model, np.concatenate([prompt, got.ids]))[len(prompt) - 1 :]
        np.testing.assert_allclose(got.columns.untempered, want, atol=1e-5)


def test_half_precision_serves(make_model: MakeModel) -> None:
    done = serve(make_model().to(torch.bfloat16), lambda e: all_of(e, prompts(5), Sampling(max_tokens=5)))
    assert all(np.isfinite(c.columns.logp).all() for c in done)
