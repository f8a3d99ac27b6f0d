"""Conversations with forks that arrive at any time, and the same requests one by one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from agentrl.engine.complete import complete
from agentrl.engine.protocol import Completion, Sampling
from agentrl.engine.torch_engine import TorchEngine
from agentrl.episode import Ids, as_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation: turns of sampled tokens with observations between them, and a fork off one turn."""

    prompt: Ids
    turns: tuple[tuple[int, tuple[int, ...]], ...]
    """How many tokens are sampled, and the observation after them."""
    sampling: Sampling
    seed: int
    delay: float
    fork: tuple[int, int] | None
    """Turn and token at which another request goes on from what was sampled."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Asked:
    """One request and what came back."""

    ids: Ids
    sampling: Sampling
    seed: int
    got: Completion


def ids_up_to(longest: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 60), min_size=1, max_size=longest)


samplings = st.builds(
    Sampling,
    max_tokens=st.just(1),
    temperature=st.sampled_from([1.0, 1.0, 0.0, 0.7, 1.6]),
    top_p=st.sampled_from([1.0, 1.0, 0.9]),
    top_k=st.sampled_from([0, 0, 5]),
    stop_ids=st.sampled_from([frozenset(), frozenset({3, 11})]),
)


@st.composite
def talks(draw: st.DrawFn) -> list[Talk]:
    """Several conversations, some of which begin alike."""
    shared = draw(ids_up_to(40))
    turn = st.tuples(st.integers(1, 9), ids_up_to(6).map(tuple))
    return [
        Talk(
            prompt=as_ids(shared[: draw(st.integers(0, len(shared)))] + draw(ids_up_to(12))),
            turns=tuple(draw(st.lists(turn, min_size=1, max_size=3))),
            sampling=draw(samplings),
            seed=draw(st.integers(-(2**70), 2**70)),
            delay=draw(st.integers(0, 5)) / 1000,
            fork=draw(st.none() | st.tuples(st.integers(0, 2), st.integers(0, 8))),
        )
        for _ in range(draw(st.integers(1, 7)))
    ]


async def ask(engine: TorchEngine, ids: Ids, sampling: Sampling, seed: int) -> Asked:
    return Asked(ids=ids, sampling=sampling, seed=seed, got=await complete(engine, ids, sampling, seed=seed))


async def hold(engine: TorchEngine, talk: Talk) -> list[Asked]:
    """All requests of a conversation."""
    await asyncio.sleep(talk.delay)
    ids, asked = talk.prompt, list[Asked]()
    forks: list[asyncio.Task[Asked]] = []
    for i, (count, observation) in enumerate(talk.turns):
        asked.append(await ask(engine, ids, replace(talk.sampling, max_tokens=count), talk.seed))
        sampled = asked[-1].got.ids
        if talk.fork is not None and talk.fork[0] == i:
            begin = np.concatenate([ids, sampled[: talk.fork[1]]])
            forks.append(
                asyncio.create_task(ask(engine, begin, replace(talk.sampling, max_tokens=7), talk.seed + 1))
            )
        ids = np.concatenate([ids, sampled, as_ids(observation)])
    return asked + [await f for f in forks]


async def all_talks(engine: TorchEngine, batch: list[Talk]) -> list[Asked]:
    try:
        return [a for talk in await asyncio.gather(*(hold(engine, t) for t in batch)) for a in talk]
    finally:
        await engine.close()


async def alone(model: Any, asked: list[Asked]) -> list[Completion]:
    """Every request again, one after the other, with nothing left of the one before."""
    engine = TorchEngine(model, capacity_rows=1)
    weights = {k: v.clone() for k, v in model.named_parameters()}
    done = []
    for i, a in enumerate(asked):
        await engine.update(weights, i)
        done.append(await complete(engine, a.ids, a.sampling, seed=a.seed))
        assert engine.stats.reused_tokens == 0
    await engine.close()
    return done


def assert_same_bits(got: Completion, want: Completion) -> None:
    assert got.finish == want.finish
    np.testing.assert_array_equal(got.ids, want.ids)
    for name in ("logp", "untempered", "entropy"):
        np.testing.assert_array_equal(getattr(got.columns, name), getattr(want.columns, name), name)
