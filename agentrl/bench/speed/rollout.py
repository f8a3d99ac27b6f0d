"""`rollout_sleep` and `rollout_lognormal`: many episodes wait for slow tools, and nobody for anybody else."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence

import numpy as np

from agentrl.adapter import Adapter
from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.scripted import Waiting, dialect, played, script, work
from agentrl.engine.scripted import ScriptedEngine
from agentrl.progress import Progress
from agentrl.rollout.independent import Independent
from agentrl.rollout.running import Table

Plan = Sequence[Sequence[float]]
"""Seconds of each tool call of each episode."""


def sleep(
    progress: Progress, *, episodes: int = 256, turns: int = 3, seconds: float = 1.0, runs: int = 3
) -> Claim:
    """256 episodes of 3 blocking calls of 1 s each; the bound is 3 s."""
    return compare("rollout_sleep", [[seconds] * turns] * episodes, runs, progress)


def lognormal(
    progress: Progress, *, episodes: int = 128, turns: int = 5, median: float = 0.3, runs: int = 3
) -> Claim:
    """128 episodes of 5 blocking calls, log-normal with sigma 1; the bound is the slowest episode."""
    return compare("rollout_lognormal", lognormal_plan(episodes, turns, median), runs, progress)


def lognormal_plan(episodes: int, turns: int, median: float) -> Plan:
    """Draw the seconds of each call, sigma 1, seed 0."""
    drawn: Plan = np.random.default_rng(0).lognormal(np.log(median), 1.0, (episodes, turns)).tolist()
    return drawn


def critical_path(plan: Plan) -> float:
    """Seconds of the slowest episode: nobody can be faster."""
    return max(map(sum, plan))


def lock_step(plan: Plan) -> float:
    """Seconds where all episodes wait for the slowest call of each turn."""
    return float(sum(map(max, zip(*plan, strict=True))))


def compare(name: str, plan: Plan, runs: int, progress: Progress) -> Claim:
    """Measure rollouts and bare threads in turn, against the critical path."""
    progress.phase(name, 2 * runs)
    dialect()  # not to be measured: imports
    ours, threads, cpu = [], [], []
    for _ in range(runs):
        began = time.process_time()
        ours.append(asyncio.run(rollouts(plan)))
        cpu.append(time.process_time() - began)
        progress.advance()
        threads.append(bare_threads(plan))
        progress.advance({"seconds": ours[-1], "bare_threads": threads[-1]})
    return Claim(
        name=name,
        unit="s",
        runs=ours,
        peer=Peer(name="critical path", runs=[critical_path(plan)]),
        wanted=Wanted(direction="at most", value=1.05),
        details={
            "episodes": len(plan),
            "bare_threads": threads,
            "lock_step": lock_step(plan),
            "cpu_seconds": cpu,
        },
    )


async def rollouts(plan: Plan) -> float:
    """Play all episodes; gives the seconds."""
    engine = ScriptedEngine(script(len(plan[0])))
    plans = itertools.cycle(plan)

    def new_env() -> Adapter:
        return Adapter(Waiting(next(plans)), Waiting)

    strategy = Independent(table=Table(engine=engine, dialect=dialect()), new_env=new_env)
    items = work(len(plan))
    began = time.perf_counter()
    await played(strategy, items, lambda episode: None)
    return time.perf_counter() - began


def bare_threads(plan: Plan) -> float:
    """Let one thread per episode sleep and do nothing else; gives the seconds."""

    def one(episode: Sequence[float]) -> None:
        for seconds in episode:
            time.sleep(seconds)

    threads = [threading.Thread(target=one, args=(episode,)) for episode in plan]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began
