"""An engine for the time of a test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agentrl.engine.torch_engine import TorchEngine

T = TypeVar("T")
MakeModel = Callable[..., Any]
"""The fixture `make_model`."""


def serve(model: Any, work: Callable[[TorchEngine], Awaitable[T]], **options: Any) -> T:
    """Run `work` on an engine of its own."""

    async def run() -> T:
        engine = TorchEngine(model, **options)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(run())
