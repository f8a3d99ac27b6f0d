"""A whole completion, or why there is none."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Chunk, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Ids
from agentrl.errors import EngineError


@pytest.mark.parametrize("column", ["logp", "untempered"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("stream", [False, True])
def test_a_token_without_a_log_prob_is_the_engines_fault(
    column: str, value: float, stream: bool, make_model: Any
) -> None:
    class Spoilt(TorchEngine):
        async def generate(
            self, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int
        ) -> AsyncGenerator[Chunk, None]:
            async for chunk in super().generate(ids, sampling, seed=seed):
                values = getattr(chunk.columns, column).copy()
                values[0] = value
                yield replace(chunk, columns=replace(chunk.columns, **{column: values}))

    async def ask() -> None:
        engine = Spoilt(make_model("qwen2"), stream=stream)
        try:
            await complete(engine, [1, 2, 3], Sampling(max_tokens=3), seed=0)
        finally:
            await engine.close()

    with pytest.raises(
        EngineError, match=f"{3 if stream else 1} of 3 sampled tokens .* the first at place 0"
    ):
        asyncio.run(ask())
