"""`sandbox_call`: a warm call, many at once, and a fresh sandbox from the pool."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from agentrl.bench.speed.claim import Claim, Peer, Wanted
from agentrl.cli.drivers import driver
from agentrl.progress import Progress

CODE = "print(1 + 1)"
AT_ONCE = 64
LIMITS = {"call": 1e-3, "call_at_once_p99": 10e-3, "acquire": 3e-3}
AT_MOST_ALL = Wanted(direction="at most", value=1.0)


def call(progress: Progress, *, calls: int = 300, rounds: int = 20, runs: int = 3) -> list[Claim]:
    """Measure the pool that environments use; bare and walled cold starts stand beside it."""
    progress.phase("sandbox_call", runs)
    found: dict[str, list[float]] = {name: [] for name in LIMITS}
    isolation = ""
    for _ in range(runs):
        measured, isolation = asyncio.run(measure(calls, rounds))
        for name, seconds in measured.items():
            found[name].append(seconds)
        progress.advance({name: seconds * 1000 for name, seconds in measured.items()})
    details = {"isolation": isolation, "cold_seconds": {k: timed(run) for k, run in cold_starts().items()}}
    return [
        Claim(
            name=f"sandbox_call.{name}",
            unit="s",
            runs=found[name],
            peer=Peer(name=f"limit {limit:g}", runs=[limit]),
            wanted=AT_MOST_ALL,
            details=details,
        )
        for name, limit in LIMITS.items()
    ]


async def measure(calls: int, rounds: int, at_once: int = AT_ONCE) -> tuple[dict[str, float], str]:
    """Give the median of a warm call, the 99th percentile of 64 at once, and the median of acquiring."""
    async with driver("sandbox-pool")(size=at_once) as pool:
        await asyncio.sleep(1.0)  # the pool fills
        acquired = []
        boxes = []
        for _ in range(at_once):
            began = time.perf_counter()
            boxes.append(await pool.acquire())
            acquired.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)  # episodes do not begin in one instant
        await asyncio.gather(*map(seconds_of, boxes))  # a first call is no warm one: its memory is copied
        alone = [await seconds_of(boxes[0]) for _ in range(calls)]
        crowd = [s for _ in range(rounds) for s in await asyncio.gather(*map(seconds_of, boxes))]
        await asyncio.gather(*(box.close() for box in boxes))
        found = {
            "call": float(np.median(alone)),
            "call_at_once_p99": float(np.percentile(crowd, 99)),
            "acquire": float(np.median(acquired)),
        }
        return found, str(pool.isolation)


async def seconds_of(box: Any) -> float:
    """Run one call."""
    began = time.perf_counter()
    done = await box.run(CODE)
    assert done.output == "2\n", done
    return time.perf_counter() - began


def cold_starts() -> dict[str, Callable[[], None]]:
    """What others do for each call."""
    walls = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"]
    python = [sys.executable, "-S", "-c", CODE]
    found = {"subprocess": python}
    if shutil.which("bwrap"):
        found["bubblewrap"] = [*walls, *python]
    return {name: lambda c=command: _run(c) for name, command in found.items()}  # type: ignore[misc]


def _run(command: list[str]) -> None:
    subprocess.run(command, capture_output=True, check=True)


def timed(run: Callable[[], None], times: int = 9) -> float:
    """Give the median of some runs."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))
