"""`path_overhead`: what our own path costs per turn, per token and per waiting episode."""

from __future__ import annotations

import asyncio
import time

from agentrl.adapter import Adapter
from agentrl.bench.speed.children import in_child, resident_bytes
from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.bench.speed.scripted import Light, Waiting, dialect, played, script, work
from agentrl.engine.scripted import ScriptedEngine
from agentrl.episode import Episode
from agentrl.progress import Progress
from agentrl.rollout.independent import Independent
from agentrl.rollout.running import Table

CALLS = 7
MOST_PER_TURN, MOST_PER_TOKEN, MOST_PER_WAITING = 1e-3, 50e-6, 100e3
STUCK_SECONDS = 20.0
ID_BYTES = 4
AT_MOST_ALL = Wanted(direction="at most", value=1.0)


def overhead(progress: Progress, *, episodes: int = 512, padding: int = 200, runs: int = 3) -> list[Claim]:
    """512 episodes at once with a zero-latency scripted engine; bare gymnasium beside it."""
    progress.phase("path_overhead", 3 * runs)
    turns, tokens, bare, memory = [], [], [], []
    for _ in range(runs):
        seconds, count, size = asyncio.run(cpu_of(episodes, 0))
        longer, _, larger = asyncio.run(cpu_of(episodes, padding))
        turns.append(seconds / count)
        tokens.append(max(0.0, longer - seconds) / (larger - size))
        progress.advance({"per_turn": turns[-1], "per_token": tokens[-1]})
        bare.append(bare_gymnasium(episodes))
        progress.advance()
        memory.append(float(in_child("agentrl.bench.speed.path:memory_of_waiting", str(episodes))))
        progress.advance({"bytes_per_waiting_episode": memory[-1]})
    details = {"episodes": episodes, "bare_gymnasium_seconds_per_turn": bare}
    return [
        claim("path_overhead.turn", "s CPU per turn", turns, MOST_PER_TURN, details),
        claim("path_overhead.token", "s CPU per generated token", tokens, MOST_PER_TOKEN),
        claim("path_overhead.memory", "B per waiting episode", memory, MOST_PER_WAITING),
    ]


def claim(
    name: str, unit: str, runs: list[float], most: float, details: dict[str, object] | None = None
) -> Claim:
    """Compare with an absolute limit."""
    peer = Peer(name=f"limit {most:g}", runs=[most])
    return Claim(name=name, unit=unit, runs=runs, peer=peer, wanted=AT_MOST_ALL, details=details or {})


async def cpu_of(episodes: int, padding: int) -> tuple[float, int, int]:
    """Play episodes with longer or shorter turns; gives CPU seconds, turns and generated tokens."""
    engine = ScriptedEngine(script(CALLS, padding=padding))
    table = Table(engine=engine, dialect=dialect())
    strategy = Independent(table=table, new_env=lambda: Adapter(Waiting(), Waiting))
    turns = tokens = 0

    def seen(episode: Episode) -> None:
        nonlocal turns, tokens
        turns += len(episode.turns)
        tokens += episode.num_sampled

    items = work(episodes)
    began = time.process_time()
    await played(strategy, items, seen)
    return time.process_time() - began, turns, tokens


def bare_gymnasium(episodes: int) -> float:
    """Step the same environment by itself; gives CPU seconds per turn."""
    env = Light()
    began = time.process_time()
    for seed in range(episodes):
        env.reset(seed=seed)
        for _ in range(CALLS):
            env.step('{"name": "wait", "arguments": {}}')
        env.step("1")
    return (time.process_time() - began) / (episodes * (CALLS + 1))


def memory_of_waiting(episodes: str) -> float:
    """Resident bytes of each episode that waits in a tool, in a thread of its own, beyond its tokens."""
    return asyncio.run(_memory_of_waiting(int(episodes)))


async def _memory_of_waiting(episodes: int) -> float:
    engine = ScriptedEngine(script(1))
    table = Table(engine=engine, dialect=dialect())

    async def collect(count: int, seconds: float) -> None:
        strategy = Independent(table=table, new_env=lambda: Adapter(Waiting([seconds]), Waiting))
        await played(strategy, work(count), lambda episode: None)

    await collect(8, 0.0)  # imports and caches
    known, before = len(engine.prompts), resident_bytes()
    task = asyncio.create_task(collect(episodes, STUCK_SECONDS))
    while engine.open or len(engine.prompts) < known + episodes:
        await asyncio.sleep(0.05)
    held = resident_bytes() - before - sum(ID_BYTES * len(p) for p in engine.prompts[known:])
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return held / episodes
