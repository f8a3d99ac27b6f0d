"""`memory`: does a long run hold more and more? Scripted episodes through rollout and store."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from agentrl.adapter import Adapter
from agentrl.bench.speed.children import in_child, resident_bytes
from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.scripted import Light, dialect, played, script, work
from agentrl.engine.scripted import ScriptedEngine
from agentrl.progress import Progress
from agentrl.rollout.independent import Independent
from agentrl.rollout.running import Table
from agentrl.store.recording import Recorded
from agentrl.store.store import TRAIN, Store

MOST_BYTES = 10.0
BLOCKS = 50
WARM_BLOCKS = 10
"""Left out of the slope: caches fill and the allocator settles."""


def slope(progress: Progress, *, episodes: int = 100_000, runs: int = 3) -> Claim:
    """Fit resident memory against the number of episodes, each run in a fresh process."""
    progress.phase("memory", runs)
    slopes = []
    for _ in range(runs):
        slopes.append(float(in_child("agentrl.bench.speed.memory:measure", str(episodes))))
        progress.advance({"bytes_per_episode": slopes[-1]})
    return Claim(
        name="memory",
        unit="B per episode",
        runs=slopes,
        peer=Peer(name=f"limit {MOST_BYTES:g}", runs=[MOST_BYTES]),
        wanted=Wanted(direction="at most", value=1.0),
        details={"episodes": episodes, "through": ["rollout", "store"]},
    )


def measure(episodes: str) -> float:
    """Give the slope in bytes per episode."""
    return asyncio.run(_measure(int(episodes)))


async def _measure(episodes: int) -> float:
    table_dialect, block = dialect(), max(1, episodes // BLOCKS)
    held = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), run="memory")
        for number in range(BLOCKS):
            engine = ScriptedEngine(script(1))  # a new one: it keeps the prompts it has seen
            table = Table(engine=engine, dialect=table_dialect)
            inner = Independent(table=table, new_env=lambda: Adapter(Light(), Light))
            recorded = Recorded(inner=inner, store=store, phase=TRAIN, step=partial(int, number + 1))
            await played(recorded, work(block), lambda episode: None)
            store.commit(number + 1, {"episodes": block})
            held.append(resident_bytes())
        store.close()
    return bytes_per_episode(held, block)


def bytes_per_episode(held: Sequence[int], block: int) -> float:
    """Fit a line through what was held after each block, the first ones left out.

    >>> bytes_per_episode([9000] * WARM_BLOCKS + [100 + 30 * n for n in range(5)], block=10)
    3.0
    """
    numbers = block * np.arange(len(held), dtype=np.float64)
    fitted = np.polyfit(numbers[WARM_BLOCKS:], np.array(held[WARM_BLOCKS:], dtype=np.float64), 1)
    return round(float(fitted[0]), 3)
