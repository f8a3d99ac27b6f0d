"""Equal task and equal actions give equal observations, whatever happened before and beside them."""

from __future__ import annotations

import re
from typing import Any

from agentrl.check.bench import TURNS, Bench, Game, Table
from agentrl.check.experts import expert_actor
from agentrl.check.report import NotApplicable
from agentrl.check.state import Leaves, changed, leaves_of
from agentrl.check.wording import difference, fail_if, name_of
from agentrl.message import Action

MEND = (
    "draw every random choice from the rng that task() or reset(seed=…) gets, and use no time, id(), uuid, "
    "set order or module-level random"
)


def need_deterministic(bench: Bench) -> None:
    """Skip environments that say openly that they are not reproducible."""
    if getattr(bench.spec.kind, "deterministic", True) is False:
        raise NotApplicable("it declares deterministic = False")


async def determinism(bench: Bench) -> str:
    """A fresh instance replays an episode."""
    need_deterministic(bench)
    compared = 0
    async with bench.open() as table:
        for position in bench.positions(bench.seeds, 1.5):
            task = bench.task(position)
            old, new = table.new(), table.new()
            await old.play(task, variant=position)
            compared += len(old.lines)
            hidden = leaves_of(old.raw)
            await old.close()
            await new.repeat(task, old.actions)
            fail_if(_where(old, new), f"the same actions gave something else{suspects(hidden, new)}; {MEND}")
            if changed(hidden, leaves_of(new.raw)):
                await _same_verdicts(bench, table, position)
            await new.close()
        await _expert_twice(bench, table)
    return f"{compared} observations came out equal"


async def _expert_twice(bench: Bench, table: Table) -> None:
    """Replay what the expert does, since its answers depend on more than random ones do."""
    if not bench.has_expert:
        return
    ask, old, new = expert_actor(bench), table.new(), table.new()
    await old.start(bench.task(0))
    while not old.done and len(old.turns) < 2 * TURNS:
        await old.act(await ask(old.texts))
    await new.repeat(bench.task(0), old.actions)
    fail_if(_where(old, new), f"the same actions gave something else; {MEND}")


def suspects(old: Leaves, new: Game) -> str:
    """Name attributes that differ between two instances in the same place."""
    leaves = leaves_of(new.raw)
    paths = [p for p in old if leaves.get(p) != old[p]]
    names = dict.fromkeys(re.split(r"[\[.]", p.lstrip("."))[0] for p in paths)
    return f" (self.{', self.'.join(list(names)[:4])} differ)" if names else ""


async def _same_verdicts(bench: Bench, table: Table, position: int) -> None:
    """Answer with values in which two hidden states of one task differ: both must judge them equally."""
    for number in range(6):
        one, two = table.new(), table.new()
        await one.start(bench.task(position))
        await two.start(bench.task(position))
        old, new = leaves_of(one.raw), leaves_of(two.raw)
        values = [v.strip("'\"") for p, v in old.items() if new.get(p) != v and len(v) < 60]
        if number >= len(values):
            return
        await one.act(Action(text=values[number]))
        await two.act(Action(text=values[number]))
        fail_if(_where(one, two), f"the same answer was judged differently{suspects(old, two)}; {MEND}")
        await one.close()
        await two.close()


def _where(old: Game, new: Game) -> str | None:
    assert old.task is not None
    found = difference(old.lines, new.lines)
    return found and f"{name_of(old.task)}, {found}"


async def trace(bench: Bench) -> list[dict[str, Any]]:
    """Play some episodes and give their lines; the checker compares those of two processes."""
    need_deterministic(bench)
    episodes = []
    async with bench.open() as table:
        for position in bench.positions(bench.seeds):
            game = await table.play(position, variant=position)
            assert game.task is not None
            episodes.append({"task": name_of(game.task), "lines": game.lines})
    return episodes


async def episode_isolation(bench: Bench) -> str:
    """An instance that has played before starts like a fresh one."""
    need_deterministic(bench)
    async with bench.open() as table:
        used = table.new()
        for position in bench.positions(4):
            task = bench.task(position)
            fresh = await table.new().play(task, variant=position)
            await used.play(bench.task(position + 1), turns=TURNS if position % 2 else 2, variant=7)
            again = await used.repeat(task, fresh.actions)
            mend = "the instance had played another episode before; set everything anew in task() or reset()"
            fail_if(_where(fresh, again), mend)
            await fresh.close()
    return "a used instance starts like a fresh one"


async def instance_isolation(bench: Bench) -> str:
    """Two instances that play at the same time do not see each other."""
    need_deterministic(bench)
    mend = (
        "another instance played at the same time; keep state in self, not in the class, the module or "
        "global generators"
    )
    async with bench.open() as table:
        for position in bench.positions(4):
            alone = await table.play(position, variant=position)
            one, two = table.new(), table.new()
            await one.start(bench.task(position))
            await two.start(bench.task(position + 1))
            actor, before = two.actor(3), leaves_of(one.raw)
            for action in alone.actions:
                for _ in range(2):
                    if not two.done:
                        await two.act(actor.next(two.texts))
                fail_if(changed(before, leaves_of(one.raw)), mend)
                await one.act(action)
                before = leaves_of(one.raw)
                if one.done:
                    break
            fail_if(_where(alone, one), mend)
            await one.close()
            await two.close()
    return "two instances at once play like one alone"
