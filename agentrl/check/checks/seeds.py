"""Seeds make tasks: how many different ones there are, and whether the whole seed counts."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from itertools import pairwise

from agentrl.check.bench import Bench
from agentrl.check.checks.tasks import Drawer, Key
from agentrl.check.report import Faulty
from agentrl.heldout import LARGE, estimated_size
from agentrl.task import SeededTasks, Task

OFFSETS = (1, 2, 3, 4, 5, 8, 10, 16, 32, 64, 100, 128, 256, 1000, 1024, 2**16, 2**20, 2**24, 2**30)
PAIRS = 6
MANY = 64
MOST = 640
"""Tasks that are drawn, where they start fast: equal ones show how many there are in all."""
DRAW_SECONDS = 1.5
HELD_OUT = 32
SECONDS = 1.0
"""Time for each further look."""
USE_ALL = "use the whole seed: np.random.default_rng(seed)"


async def seed_variety(bench: Bench) -> str:
    """Different seeds give different tasks in every split, and no distance of seeds gives the same ones."""
    async with bench.open() as table:
        drawer = Drawer(bench, table)
        await drawer.prepare()
        drawn = await _drawn(drawer, MOST)
        count, distinct = sum(map(len, drawn.values())), len(drawn)
        if distinct < 4:
            raise Faulty(
                f"{count} seeds gave {distinct} different tasks; draw them from the rng or seed given"
            )
        level = bench.levels[0]
        seeded = isinstance(bench.spec.tasks("train", level=level), SeededTasks)
        if seeded and distinct > 20:
            await _no_period(drawer, drawn)
        if seeded and distinct > count // 3:
            drawer.budget.extend(SECONDS)
            size = estimated_size(count, distinct)
            await _no_pattern(drawer, level, least=2 if size > 50 * MANY else PAIRS - 2)
        await _every_split(drawer)
        drawer.budget.extend(SECONDS)
        return f"{distinct} different tasks in {count} seeds{await _in_all(drawer, drawn, count)}"


async def _drawn(drawer: Drawer, most: int) -> dict[Key, list[Task]]:
    """Draw tasks of the first split, as far as time allows."""
    found: dict[Key, list[Task]] = defaultdict(list)
    split, end = drawer.bench.spec.splits[0], time.monotonic() + DRAW_SECONDS
    for position in range(most):
        if position >= 8 and (drawer.late or (position >= MANY and time.monotonic() > end)):
            break
        task = drawer.bench.task(position, split=split)
        found[await drawer.key(task)].append(task)
    return found


async def _no_period(drawer: Drawer, drawn: dict[Key, list[Task]]) -> None:
    """See that the seeds of equal tasks have no common period, as they have after `seed % n`."""
    gaps = [abs(a.seed - b.seed) for tasks in drawn.values() for a, b in pairwise(tasks) if a.seed != b.seed]
    period = math.gcd(*gaps) if len(gaps) >= 3 else 1
    if period == 1:
        return
    start = 40
    pairs = [(_seeded(drawer, start + 997 * i), _seeded(drawer, start + 997 * i + period)) for i in range(4)]
    if all([await drawer.key(one) == await drawer.key(two) for one, two in pairs]):
        raise Faulty(
            f"there are only about {len(drawn) if period < len(drawn) else period} tasks: seeds s and "
            f"s + {period} gave the same one in {len(pairs)} of {len(pairs)} pairs (such as {start} and "
            f"{start + period}), so tasks of 'test' are those of 'train'; {USE_ALL}"
        )


def _seeded(drawer: Drawer, seed: int) -> Task:
    return Task(id=f"{seed}", split=drawer.bench.spec.splits[0], level=drawer.bench.levels[0], seed=seed)


async def _no_pattern(drawer: Drawer, level: int, *, least: int) -> None:
    """Look for distances between seeds; where tasks are many, `least` equal pairs are no chance."""
    for offset in OFFSETS:
        equal, seen = 0, 0
        for base in range(PAIRS):
            if drawer.late:
                return
            start = 40 + 997 * base
            one, two = [_seeded(drawer, s) for s in (start, start + offset)]
            equal += await drawer.key(one) == await drawer.key(two)
            seen += 1
            if not equal and base >= 2:
                break
        if equal == PAIRS or (equal >= least and offset < 10):
            raise Faulty(
                f"seeds s and s + {offset} gave the same task in {equal} of {seen} pairs "
                f"(such as {start} and {start + offset}); {USE_ALL}"
            )


async def _every_split(drawer: Drawer) -> None:
    """See that seeds matter in every split, not only in the first one."""
    for split in drawer.bench.spec.splits[1:]:
        tasks = [drawer.bench.task(i, split=split) for i in range(6)]
        if len({await drawer.key(t) for t in tasks}) == 1 and len({t.seed for t in tasks}) > 1:
            raise Faulty(
                f"6 seeds gave 1 task in split {split!r}; draw it from the rng or seed given in every split"
            )


async def _in_all(drawer: Drawer, drawn: dict[Key, list[Task]], count: int) -> str:
    """Say how many tasks there are, where they are few, and how many held-out ones are trained on."""
    size = estimated_size(count, len(drawn))
    if size > LARGE:
        return ""
    said = f"; warning: about {size:.0f} different tasks in all"
    first, *others = drawer.bench.spec.splits
    if first != "train" or "test" not in others:
        return said
    held, _ = await drawer.keys(drawer.bench.task(i, split="test") for i in range(HELD_OUT))
    common = len(held.keys() & drawn.keys())
    if not common:
        return said
    return f"{said}, and {common} of {len(held)} different test tasks are train tasks: they are not held out"
