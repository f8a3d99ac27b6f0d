"""Stops, cancellation, weights, pause, death and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.errors import ConfigError, EngineError
from tests.engine.serving import MakeModel, serve


def letters(ids: Sequence[int]) -> str:
    """Two letters a token: 0 -> 'aA', 1 -> 'bB', ..."""
    return "".join(chr(97 + i % 26) + chr(65 + i % 26) for i in ids)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def test_a_stop_id_ends_a_request_and_is_returned(make_model: MakeModel) -> None:
    async def stop(engine: TorchEngine) -> None:
        whole = await complete(engine, [1, 2], Sampling(max_tokens=30), seed=0)
        stop_id = int(whole.ids[10])
        first = whole.ids.tolist().index(stop_id)
        ids = frozenset({stop_id, 10_000})
        cut = await complete(engine, [1, 2], Sampling(max_tokens=30, stop_ids=ids), seed=0)
        assert cut.finish == "stop" and cut.ids.tolist() == whole.ids[: first + 1].tolist()
        last = Sampling(max_tokens=first + 1, stop_ids=ids)
        assert (await complete(engine, [1, 2], last, seed=0)).finish == "stop"

    serve(make_model(), stop)


@pytest.mark.parametrize("place", [3, 60])
def test_a_stop_string_is_found_across_token_borders(place: int, make_model: MakeModel) -> None:
    async def stop(engine: TorchEngine) -> None:
        whole = await complete(engine, [1, 2], Sampling(max_tokens=90), seed=0)
        text = letters(whole.ids.tolist())
        string = text[2 * place + 1 : 2 * place + 6]  # from the middle of one token to the middle of another
        end = text.index(string) + len(string)
        sampling = Sampling(max_tokens=90, stop_strings=("nowhere", string))
        cut = await complete(engine, [1, 2], sampling, seed=0)
        assert cut.finish == "stop" and cut.ids.tolist() == whole.ids[: (end + 1) // 2].tolist()

    serve(make_model(), stop, decode=letters)


def test_a_cancelled_request_frees_its_row(make_model: MakeModel) -> None:
    async def cancel(engine: TorchEngine) -> None:
        stream = engine.generate([1, 2, 3], Sampling(max_tokens=150), seed=0)
        await anext(stream)
        waiting = asyncio.create_task(complete(engine, [4], Sampling(max_tokens=3), seed=0))
        await until(lambda: engine.stats.waiting == 1)
        queued = asyncio.create_task(complete(engine, [5], Sampling(max_tokens=150), seed=0))
        await until(lambda: engine.stats.waiting == 2)
        queued.cancel()
        await stream.aclose()
        assert len((await waiting).ids) == 3
        await until(lambda: engine.stats.live == 0 and engine.stats.waiting == 0)
        assert engine.stats.sampled_tokens < 150

    serve(make_model(), cancel, capacity_rows=1, stream=True)


def test_new_weights_change_what_is_sampled(make_model: MakeModel) -> None:
    model, other = make_model(), make_model(seed=1)
    sampling = Sampling(max_tokens=12)

    async def update(engine: TorchEngine) -> None:
        before = await complete(engine, range(20), sampling, seed=3)
        await engine.update(other.state_dict(), 7)
        assert engine.version == 7
        reused = engine.stats.reused_tokens
        after = await complete(engine, range(20), sampling, seed=3)
        assert engine.stats.reused_tokens == reused  # nothing is left of the old weights
        assert before.ids.tolist() != after.ids.tolist()
        assert set(before.columns.version) == {0} and set(after.columns.version) == {7}

    serve(model, update)
    fresh = serve(make_model(seed=1), lambda e: complete(e, range(20), sampling, seed=3))
    again = serve(model, lambda e: complete(e, range(20), sampling, seed=3))
    assert fresh.ids.tolist() == again.ids.tolist()


def test_new_weights_reach_a_request_in_flight(make_model: MakeModel) -> None:
    model, other = make_model(), make_model(seed=1)

    async def update(engine: TorchEngine) -> None:
        stream = engine.generate(range(10), Sampling(max_tokens=180), seed=3)
        chunks = [await anext(stream) for _ in range(3)]
        await engine.update(dict(other.named_parameters()), 1)
        chunks += [c async for c in stream]
        ids = np.concatenate([c.ids for c in chunks])
        version = np.concatenate([c.columns.version for c in chunks])
        new = int(version.argmax())
        assert version[0] == 0 and version[-1] == 1 and (np.diff(version) >= 0).all()
        whole = np.concatenate([np.arange(10), ids])
        want = (await engine.score(whole.tolist()))[9 + new :]
        got = np.concatenate([c.columns.untempered for c in chunks])[new:]
        np.testing.assert_allclose(got, want, atol=1e-5)

    serve(model, update, stream=True)


def test_weights_that_do_not_fit_are_refused(make_model: MakeModel) -> None:
    async def refused(engine: TorchEngine) -> None:
        good = dict(make_model(seed=1).named_parameters())
        untied = {**good, "lm_head.weight": good["model.embed_tokens.weight"] + 1}
        short = {k: v for k, v in good.items() if k != "model.norm.weight"}
        wide = {**good, "model.norm.weight": torch.zeros(3)}
        for tensors, message in (
            ({**good, "model.norm.weigth": torch.zeros(32)}, "did you mean 'model.norm.weight'"),
            (wide, r"shape \(3,\): the model's is \(32,\)"),
            (short, "1 parameters are missing, 'model.norm.weight' first"),
            (untied, "tied in the model but differ"),
        ):
            with pytest.raises(ConfigError, match=message):
                await engine.update(tensors, 1)
        assert engine.version == 0
        await engine.update({**good, "lm_head.weight": good["model.embed_tokens.weight"].clone()}, 1)
        assert engine.version == 1

    serve(make_model(), refused)


def test_pause_holds_requests_and_resume_lets_them_go(make_model: MakeModel) -> None:
    async def pause(engine: TorchEngine) -> None:
        await engine.pause()
        task = asyncio.create_task(complete(engine, [1], Sampling(max_tokens=4), seed=0))
        await until(lambda: engine.stats.waiting == 1)
        steps = engine.stats.steps
        await engine.update(dict(make_model(seed=2).named_parameters()), 1)  # still possible
        await asyncio.sleep(0.02)
        assert engine.stats.steps == steps and not task.done()
        await engine.resume()
        assert set((await task).columns.version) == {1}

    serve(make_model(), pause)


def test_nobody_waits_for_what_a_cancelled_request_would_have_computed(make_model: MakeModel) -> None:
    model = make_model()
    prompt = list(range(40))

    async def cancel(engine: TorchEngine) -> None:
        stream = engine.generate(prompt, Sampling(max_tokens=100), seed=0)
        await anext(stream)
        await engine.pause()
        await engine.update(dict(model.named_parameters()), 1)  # its keys and values are gone
        await stream.aclose()
        await engine.resume()
        async with asyncio.timeout(10):
            assert len((await complete(engine, prompt, Sampling(max_tokens=3), seed=0)).ids) == 3

    serve(model, cancel, stream=True)


def test_a_dead_engine_is_an_engine_error(make_model: MakeModel) -> None:
    model, boom = make_model(), {"now": False}

    def hook(module: Any, args: Any) -> None:
        if boom["now"]:
            raise RuntimeError("CUDA error: an illegal memory access")

    model.model.layers[0].register_forward_pre_hook(hook)

    async def die(engine: TorchEngine) -> None:
        await complete(engine, [1], Sampling(max_tokens=2), seed=0)
        boom["now"] = True
        jobs = [complete(engine, [i], Sampling(max_tokens=9), seed=0) for i in range(5)]
        for error in await asyncio.gather(*jobs, return_exceptions=True):
            assert isinstance(error, EngineError) and "illegal memory access" in str(error)
        with pytest.raises(EngineError, match="RuntimeError"):
            await complete(engine, [1], Sampling(), seed=0)
        with pytest.raises(EngineError, match="died"):
            await engine.score([1, 2])

    serve(model, die)


def test_weights_that_are_not_finite_are_an_engine_error_and_leave_no_trace(make_model: MakeModel) -> None:
    model = make_model()
    good = {k: v.clone() for k, v in model.named_parameters()}
    bad = {k: torch.full_like(v, torch.nan) for k, v in good.items()}

    async def poisoned(engine: TorchEngine) -> None:
        before = await complete(engine, [1, 2], Sampling(max_tokens=5), seed=0)
        await engine.update(bad, 1)
        with pytest.raises(EngineError, match="not finite under weight version 1"):
            await complete(engine, [1, 2], Sampling(max_tokens=5), seed=0)
        await engine.update(good, 2)
        after = await complete(engine, [1, 2], Sampling(max_tokens=5), seed=0)
        assert after.ids.tolist() == before.ids.tolist()

    serve(model, poisoned)


def test_closing_ends_open_requests(make_model: MakeModel) -> None:
    async def run() -> None:
        engine = TorchEngine(make_model(), capacity_rows=1)
        jobs = [
            asyncio.create_task(complete(engine, [i], Sampling(max_tokens=190), seed=0)) for i in range(3)
        ]
        await until(lambda: engine.stats.live + engine.stats.waiting == 3)
        await engine.close()
        for error in await asyncio.gather(*jobs, return_exceptions=True):
            assert isinstance(error, EngineError) and "closed" in str(error)
        await engine.close()
        with pytest.raises(EngineError, match="closed"):
            await engine.pause()

    asyncio.run(run())


def test_requests_come_from_any_loop(make_model: MakeModel) -> None:
    engine = TorchEngine(make_model())
    first = asyncio.run(complete(engine, [1, 2], Sampling(max_tokens=3), seed=0))
    second = asyncio.run(complete(engine, [1, 2], Sampling(max_tokens=3), seed=0))
    assert first.ids.tolist() == second.ids.tolist()
    asyncio.run(engine.close())


@pytest.mark.parametrize(
    ("ids", "sampling", "message"),
    [
        (range(30), Sampling(), "a prompt of 30 tokens does not fit into the context of 30"),
        ([], Sampling(), "need one or more token ids"),
        ([1, 61], Sampling(), "token id 61 is not in the model's vocabulary of 61"),
        ([-1], Sampling(), "token id -1"),
        ([1], Sampling(stop_strings=("x",)), "decode=tokenizer.decode"),
    ],
)
def test_wrong_requests_are_refused(
    ids: Sequence[int], sampling: Sampling, message: str, make_model: MakeModel
) -> None:
    async def ask(engine: TorchEngine) -> None:
        with pytest.raises(ConfigError, match=message):
            await complete(engine, ids, sampling, seed=0)
        fits = await complete(engine, range(29), Sampling(), seed=0)
        assert len(fits.ids) == 1 and fits.finish == "length"

    serve(make_model(), ask, max_context=30)


def test_wrong_settings_are_refused(make_model: MakeModel) -> None:
    model = make_model()
    with pytest.raises(ConfigError, match=r"max_context=500: the model allows 2\.\.192"):
        TorchEngine(model, max_context=500)
    with pytest.raises(ConfigError, match="capacity_rows=0"):
        TorchEngine(model, capacity_rows=0)
    with pytest.raises(ConfigError, match="num_threads=0: need 1 or more"):
        TorchEngine(model, num_threads=0)
    chunked = make_model(layer_types=["full_attention", "chunked_attention"])
    with pytest.raises(ConfigError, match="layers of type \\['chunked_attention'\\]"):
        TorchEngine(chunked)

    async def too_much(engine: TorchEngine) -> None:
        with pytest.raises(ConfigError, match="raise kv_bytes"):
            await complete(engine, [1], Sampling(max_tokens=191), seed=0)

    serve(model, too_much, kv_bytes=100 * 256)
