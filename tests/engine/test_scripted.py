"""The shipped fake keeps the engine's contract."""

from __future__ import annotations

import asyncio

import pytest

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Engine, Sampling
from agentrl.engine.scripted import ScriptedEngine
from agentrl.errors import ConfigError, EngineError

STOP = Sampling(max_tokens=4, stop_ids=frozenset({2}))


def test_turns_in_order_then_an_error() -> None:
    async def run() -> None:
        engine: Engine = ScriptedEngine([[5, 2, 9], [6, 7, 8, 9, 10], [4]])
        first = await complete(engine, [1], STOP, seed=0)
        assert first.ids.tolist() == [5, 2] and first.finish == "stop"
        assert first.columns.logp.tolist() == [0, 0] and first.columns.version.tolist() == [0, 0]
        await engine.update({}, 3)
        second = await complete(engine, [1, 5, 2], STOP, seed=0)
        assert second.ids.tolist() == [6, 7, 8, 9] and second.finish == "length"
        assert set(second.columns.version) == {3} and engine.version == 3
        assert (await complete(engine, [1], STOP, seed=0)).finish == "length"
        with pytest.raises(EngineError, match="has 3 turns"):
            await complete(engine, [1], STOP, seed=0)

    asyncio.run(run())


def test_a_function_sees_ids_and_seed() -> None:
    engine = ScriptedEngine(lambda ids, seed: [*ids, seed], max_context=5)
    done = asyncio.run(complete(engine, [3, 1], Sampling(), seed=9))
    assert done.ids.tolist() == [3, 1, 9] and engine.prompts == [(3, 1)] and engine.open == 0
    with pytest.raises(ConfigError, match="5 tokens does not fit into the context of 5"):
        asyncio.run(complete(engine, range(5), Sampling(), seed=0))


def test_stop_strings_errors_and_latency() -> None:
    def decode(ids: object) -> str:
        return "".join(map(chr, ids))  # type: ignore[call-overload]

    spoken = ScriptedEngine([[97, 98, 99, 100]], decode=decode)
    done = asyncio.run(complete(spoken, [1], Sampling(stop_strings=("bc",)), seed=0))
    assert done.ids.tolist() == [97, 98, 99] and done.finish == "stop"
    with pytest.raises(ConfigError, match="decode="):
        asyncio.run(complete(ScriptedEngine([[1]]), [1], Sampling(stop_strings=("x",)), seed=0))
    with pytest.raises(EngineError, match="gone"):
        asyncio.run(complete(ScriptedEngine([[1]], error=EngineError("gone")), [1], STOP, seed=0))


def test_pause_cancel_and_close() -> None:
    async def run() -> None:
        engine = ScriptedEngine(lambda ids, seed: [2])
        await engine.pause()
        held = asyncio.create_task(complete(engine, [1], STOP, seed=0))
        dropped = asyncio.create_task(complete(engine, [1], STOP, seed=0))
        await asyncio.sleep(0.01)
        assert engine.open == 2
        dropped.cancel()
        await asyncio.gather(dropped, return_exceptions=True)
        assert engine.open == 1
        await engine.resume()
        assert (await held).ids.tolist() == [2]
        assert (await engine.score([1, 2, 3])).tolist() == [0, 0]
        await engine.close()
        with pytest.raises(EngineError, match="closed"):
            await complete(engine, [1], STOP, seed=0)

    asyncio.run(run())
