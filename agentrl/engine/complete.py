"""Waiting for a whole completion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agentrl.engine.protocol import Chunk, Completion, Engine, Sampling
from agentrl.episode import Columns, Ids
from agentrl.errors import EngineError


async def complete(engine: Engine, ids: Sequence[int] | Ids, sampling: Sampling, *, seed: int) -> Completion:
    """Give what `engine.generate` streams as one piece.

    Raises:
        EngineError: The engine died, its stream ended without a finish, or a token came without a log-prob.
        ConfigError: The prompt does not fit.
    """
    prompt = ids.tolist() if isinstance(ids, np.ndarray) else ids
    chunks: list[Chunk] = []
    async for chunk in engine.generate(prompt, sampling, seed=seed):
        chunks.append(chunk)
    if not chunks or chunks[-1].finish is None:
        raise EngineError(f"the engine's stream ended after {len(chunks)} chunks without a finish")
    return _checked(_joined(chunks))


def _joined(chunks: Sequence[Chunk]) -> Completion:
    last = chunks[-1]
    assert last.finish is not None
    if len(chunks) == 1:
        return Completion(ids=last.ids, columns=last.columns, finish=last.finish)
    columns = Columns(
        logp=np.concatenate([c.columns.logp for c in chunks]),
        untempered=np.concatenate([c.columns.untempered for c in chunks]),
        entropy=np.concatenate([c.columns.entropy for c in chunks]),
        version=np.concatenate([c.columns.version for c in chunks]),
    )
    return Completion(ids=np.concatenate([c.ids for c in chunks]), columns=columns, finish=last.finish)


def _checked(completion: Completion) -> Completion:
    columns = completion.columns
    wrong = np.flatnonzero(~(np.isfinite(columns.logp) & np.isfinite(columns.untempered)))
    if len(wrong):
        raise EngineError(
            f"{len(wrong)} of {len(columns)} sampled tokens came without a finite log-prob, "
            f"the first at place {wrong[0]}"
        )
    return completion
